from __future__ import annotations

import pytest
from django.conf import settings

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.contracts.credentials import digest_key, is_well_formed
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from apimgr.products.models import Plan
from portal import services
from portal.events import ApplicationChanged, CredentialIssued, CredentialRevoked, SubscriptionChanged
from portal.models import Application, Credential, Subscription
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def subscription(dev: User, application: Application, plan: Plan) -> Subscription:
    return services.subscribe(actor=dev, application=application, plan=plan)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    events: list[object] = []
    for module in ("applications", "subscriptions", "credentials"):
        monkeypatch.setattr(f"portal.services.{module}.emit", events.append)
    return events


class TestApplications:
    def test_is_made_told_and_audited(self, dev: User, builders: Organisation, heard: list[object]) -> None:
        application = services.create_application(actor=dev, organisation=builders, name=" Shop ", description="x")
        assert (application.name, application.description, application.state) == ("Shop", "x", "active")
        assert heard == [ApplicationChanged(application.pk)]
        assert AuditEntry.objects.get(action="portal.application.created").target_id == application.pk

    def test_needs_a_name_of_its_own(self, dev: User, application: Application) -> None:
        for name, error in (("Shop", Conflict), (" ", DomainError)):
            with pytest.raises(error) as caught:
                services.create_application(actor=dev, organisation=application.organisation, name=name)
            assert "name" in caught.value.fields

    def test_is_renamed(self, dev: User, application: Application) -> None:
        services.update_application(actor=dev, application=application, name="Store")
        application.refresh_from_db()
        assert application.name == "Store"

    def test_there_is_an_end_to_them(
        self, dev: User, application: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("portal.services.applications.MAX_APPLICATIONS", 1)
        with pytest.raises(Conflict):
            services.create_application(actor=dev, organisation=application.organisation, name="Other")

    def test_only_an_operator_suspends(self, dev: User, alice: User, olga: User, application: Application) -> None:
        for stranger in (dev, alice):
            with pytest.raises(NotFound):
                services.suspend_application(actor=stranger, application=application)
        assert services.suspend_application(actor=olga, application=application).state == "suspended"
        with pytest.raises(NotFound):
            services.resume_application(actor=dev, application=application)
        assert services.resume_application(actor=olga, application=application).state == "active"


class TestSubscriptions:
    def test_is_active_at_once(self, dev: User, application: Application, plan: Plan, heard: list[object]) -> None:
        subscription = services.subscribe(actor=dev, application=application, plan=plan)
        assert subscription.state == "active"
        assert subscription.product == plan.product
        assert heard == [SubscriptionChanged(subscription.pk, application.pk)]

    def test_there_is_an_end_to_them(
        self, dev: User, subscription: Subscription, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("portal.services.subscriptions.MAX_SUBSCRIPTIONS", 1)
        other = make_plan(make_product(make_version(make_api(subscription.product.organisation, name="Other"))))
        with pytest.raises(Conflict) as caught:
            services.subscribe(actor=dev, application=subscription.application, plan=other)
        assert caught.value.code == "too_many_subscriptions"
        services.cancel_subscription(actor=dev, subscription=subscription)
        services.subscribe(actor=dev, application=subscription.application, plan=other)

    def test_waits_where_the_plan_asks(self, dev: User, oscar: User, application: Application, gold: Plan) -> None:
        subscription = services.subscribe(actor=dev, application=application, plan=gold)
        assert subscription.state == "requested"
        with pytest.raises(NotFound):
            services.approve_subscription(actor=dev, subscription=subscription)
        assert services.approve_subscription(actor=oscar, subscription=subscription).state == "active"

    def test_one_per_product(self, dev: User, subscription: Subscription, gold: Plan) -> None:
        with pytest.raises(Conflict):
            services.subscribe(actor=dev, application=subscription.application, plan=gold)

    def test_hidden_plans_are_not_there(self, dev: User, application: Application, plan: Plan) -> None:
        hidden = make_plan(plan.product, "Partner", is_internal=True)
        with pytest.raises(NotFound):
            services.subscribe(actor=dev, application=application, plan=hidden)

    def test_private_and_unpublished_are_not_there(
        self, dev: User, application: Application, acme: Organisation
    ) -> None:
        private = make_version(make_api(acme, "Secret", visibility="private"))
        draft = make_version(make_api(acme, "Coming"), state="draft")
        for version in (private, draft):
            with pytest.raises(NotFound):
                services.subscribe(actor=dev, application=application, plan=make_plan(make_product(version)))

    def test_suspension_cannot_be_walked_round(
        self, dev: User, oscar: User, subscription: Subscription, plan: Plan
    ) -> None:
        services.suspend_subscription(actor=oscar, subscription=subscription)
        with pytest.raises(Conflict):
            services.cancel_subscription(actor=dev, subscription=subscription)
        other = services.create_application(actor=dev, organisation=subscription.application.organisation, name="Other")
        with pytest.raises(Conflict) as caught:
            services.subscribe(actor=dev, application=other, plan=plan)
        assert caught.value.code == "suspended"

    def test_is_cancelled_and_taken_again(self, dev: User, subscription: Subscription, plan: Plan) -> None:
        services.cancel_subscription(actor=dev, subscription=subscription)
        assert services.subscribe(actor=dev, application=subscription.application, plan=plan).state == "active"

    def test_moves_to_another_plan(self, dev: User, oscar: User, subscription: Subscription, gold: Plan) -> None:
        pro = make_plan(gold.product, "Pro")
        assert services.change_plan(actor=dev, subscription=subscription, plan=pro).plan == pro
        with pytest.raises(Conflict) as caught:
            services.change_plan(actor=dev, subscription=subscription, plan=gold)
        assert caught.value.code == "needs_approval"
        partner = make_plan(gold.product, "Partner", is_internal=True)
        assert services.change_plan(actor=oscar, subscription=subscription, plan=partner).plan == partner

    def test_a_viewer_decides_nothing(self, victor: User, subscription: Subscription) -> None:
        with pytest.raises((NotAllowed, NotFound)):
            services.suspend_subscription(actor=victor, subscription=subscription)


class TestCredentials:
    def test_only_the_digest_is_kept(self, dev: User, application: Application, heard: list[object]) -> None:
        credential, key = services.issue_credential(actor=dev, application=application)
        secret = key.secret.encode()
        assert is_well_formed(secret)
        assert bytes(credential.digest) == digest_key(secret, settings.KEY_PEPPER)
        row = Credential.objects.filter(pk=credential.pk).values().get()
        assert key.secret not in repr(row) + repr(list(AuditEntry.objects.values()))
        assert heard == [CredentialIssued(credential.pk)]

    def test_is_revoked_once(self, dev: User, application: Application, heard: list[object]) -> None:
        credential, _ = services.issue_credential(actor=dev, application=application, is_test=True)
        assert credential.prefix.startswith("ak_test_")
        revoked = services.revoke_credential(actor=dev, credential=credential)
        services.revoke_credential(actor=dev, credential=credential)
        assert revoked.state == "revoked"
        assert heard[1:] == [CredentialRevoked(credential.pk)]

    def test_there_is_an_end_to_them(
        self, dev: User, application: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("portal.services.credentials.MAX_ACTIVE_KEYS", 1)
        credential, _ = services.issue_credential(actor=dev, application=application)
        with pytest.raises(Conflict):
            services.issue_credential(actor=dev, application=application)
        services.revoke_credential(actor=dev, credential=credential)
        services.issue_credential(actor=dev, application=application)


class TestQuickStart:
    def test_makes_everything_once(self, dev: User, builders: Organisation, plan: Plan) -> None:
        first = services.quick_start(actor=dev, plan=plan)
        assert first.application.name == "My first app"
        assert first.application.organisation == builders
        assert first.subscription.state == "active"
        assert first.key is not None
        again = services.quick_start(actor=dev, plan=plan)
        assert again == (first.application, first.subscription, first.credential, None)

    def test_a_second_api_joins_the_application(self, dev: User, plan: Plan, acme: Organisation) -> None:
        first = services.quick_start(actor=dev, plan=plan)
        other = make_plan(make_product(make_version(make_api(acme, "Invoices"))))
        second = services.quick_start(actor=dev, plan=other)
        assert second.application == first.application
        assert second.credential == first.credential
        assert second.subscription.plan == other


class TestStrangers:
    def test_charlie_finds_nothing(self, charlie: User, subscription: Subscription, plan: Plan, dev: User) -> None:
        application = subscription.application
        credential, _ = services.issue_credential(actor=dev, application=application)
        attempts = [
            lambda: services.create_application(actor=charlie, organisation=application.organisation, name="X"),
            lambda: services.update_application(actor=charlie, application=application, name="X"),
            lambda: services.subscribe(actor=charlie, application=application, plan=plan),
            lambda: services.change_plan(actor=charlie, subscription=subscription, plan=plan),
            lambda: services.cancel_subscription(actor=charlie, subscription=subscription),
            lambda: services.suspend_subscription(actor=charlie, subscription=subscription),
            lambda: services.issue_credential(actor=charlie, application=application),
            lambda: services.revoke_credential(actor=charlie, credential=credential),
            lambda: services.quick_start(actor=charlie, plan=plan, application=application),
        ]
        for attempt in attempts:
            with pytest.raises(NotFound):
                attempt()
