"""Every fact the gateway must hear of reaches the log, in the transaction that made it true."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from apimgr.accounts.models import Organisation, Role, User
from apimgr.accounts.services import add_member, change_role, disable_user, enable_user, remove_member
from apimgr.catalog.events import VersionDeprecated, VersionPublished, VersionRestored, VersionRetired
from apimgr.catalog.models import Revision, Version
from apimgr.catalog.services.life import deprecate_version, retire_version
from apimgr.catalog.services.publication import configuration_of
from apimgr.contracts import bounds
from apimgr.contracts.snapshot import (
    ApplicationDocument,
    CredentialDocument,
    OrganisationDocument,
    PlanDocument,
    RouteDocument,
    VersionDocument,
)
from apimgr.core.errors import DomainError
from apimgr.core.events import emit
from apimgr.core.ids import encode_id
from apimgr.products import services as products
from apimgr.products.events import PlanChanged, ProductVersionsChanged
from apimgr.products.models import Plan
from apimgr.products.services import LimitTerms
from portal import services as portal
from proxy import compiler
from proxy.models import GatewayChange
from tests.changes import is_spoken_of, last_word
from tests.factories import make_api, make_member, make_plan, make_product, make_user, make_version

pytestmark = pytest.mark.django_db


@pytest.fixture
def free(acme: Organisation) -> Plan:
    return make_plan(make_product(make_version(make_api(acme))))


@pytest.mark.requirement("K8.3")
def test_a_key_s_life(free: Plan, dev: User, builders: Organisation) -> None:
    application = portal.create_application(actor=dev, organisation=builders, name="Shop")
    subscription = portal.subscribe(actor=dev, application=application, plan=free)
    credential, issued = portal.issue_credential(actor=dev, application=application)
    told = last_word("application", application.pk)
    assert isinstance(told, ApplicationDocument)
    assert [row.id for row in told.subscriptions] == [subscription.pk]
    digest = bytes(credential.digest).hex()
    assert isinstance(last_word("credential", digest), CredentialDocument)
    portal.revoke_credential(actor=dev, credential=credential)
    revoked = last_word("credential", digest)
    assert isinstance(revoked, CredentialDocument)
    assert revoked.state == "revoked"
    assert not GatewayChange.objects.filter(document__contains=issued.secret).exists()


def test_rebuilding_twice_changes_nothing(free: Plan) -> None:
    call_command("rebuild_gateway", verbosity=0, stdout=StringIO())
    before = GatewayChange.objects.count()
    assert before >= 1
    call_command("rebuild_gateway", verbosity=0, stdout=StringIO())
    assert GatewayChange.objects.count() == before


@pytest.fixture
def outgrown(acme: Organisation) -> Version:
    """Published when there was no bound that its templates are beyond by now, and told to gateways then."""
    version = make_version(make_api(acme))
    deploy(version)
    emit(VersionPublished(version.pk))
    revision = version.deployed_revision
    assert revision is not None
    paths = ["/".join("{x}" if way >> bit & 1 else "a" for bit in range(11)) for way in range(2048)]
    revision.configuration["operations"] = [[number, "GET", f"/{path}"] for number, path in enumerate(paths, 1)]
    assert bounds.most_ways(path for _, _, path in revision.configuration["operations"]) > bounds.MAX_WAYS
    Revision.objects.filter(pk=revision.pk).update(configuration=revision.configuration)
    return version


def test_what_cannot_be_compiled_is_named_and_holds_up_nothing_else(outgrown: Version, free: Plan) -> None:
    sound = free.product.versions.get()
    deploy(sound)
    before = last_word("version", outgrown.pk)
    said, complained = StringIO(), StringIO()
    with pytest.raises(CommandError, match=r"^1 could not be compiled"):
        call_command("rebuild_gateway", stdout=said, stderr=complained)
    assert said.getvalue() == "3 documents compiled.\n"
    assert last_word("version", sound.pk).id == sound.pk
    assert last_word("plan", free.pk).id == free.pk
    assert last_word("version", outgrown.pk) == before
    named = f"version {outgrown.name} of {outgrown.api.name} by {outgrown.api.organisation.name}"
    assert complained.getvalue().startswith(f"{named} ({encode_id(outgrown.pk)}): The gateway would not load")
    assert "Correct the version's definition and import it again." in complained.getvalue()


def test_a_version_that_could_not_be_published_any_more_is_retired_all_the_same(outgrown: Version) -> None:
    deprecate_version(actor=None, version=outgrown)
    retire_version(actor=None, version=outgrown)
    told = last_word("version", outgrown.pk)
    assert (told.state, told.operations) == ("retired", ())
    assert last_word("route", outgrown.route.base_path).version_id == outgrown.pk
    call_command("rebuild_gateway", stdout=StringIO())


def test_a_retired_version_that_was_never_told_of_and_whose_address_is_refused(outgrown: Version) -> None:
    revision = outgrown.deployed_revision
    assert revision is not None
    Revision.objects.filter(pk=revision.pk).update(configuration={"route": {"base_path": "/a/../b"}, "operations": []})
    GatewayChange.objects.all().delete()
    Version.objects.filter(pk=outgrown.pk).update(state="retired")
    emit(VersionRetired(outgrown.pk))
    assert last_word("version", outgrown.pk).state == "retired"


def test_a_version_that_could_not_be_published_any_more_changes_beside_what_it_serves(
    outgrown: Version, acme: Organisation, oscar: User
) -> None:
    before = last_word("version", outgrown.pk)
    other = make_version(make_api(acme))
    deploy(other)
    product = make_product(outgrown)
    product.versions.add(other)
    emit(ProductVersionsChanged(product.pk))
    told = last_word("version", outgrown.pk)
    assert told == replace(before, product_ids=(product.pk,))
    assert last_word("version", other.pk).product_ids == (product.pk,), "nor does it hold up the others"
    product.versions.clear()
    emit(ProductVersionsChanged(product.pk))
    assert last_word("version", outgrown.pk) == before
    deprecate_version(actor=None, version=outgrown)
    assert last_word("version", outgrown.pk).state == "deprecated"
    products.change_api_limits(actor=oscar, api=outgrown.api, limits=[("rate", 100, "minute")])
    told = last_word("version", outgrown.pk)
    assert [limit.amount for limit in told.limits] == [100]
    assert told.operations == before.operations
    with pytest.raises(DomainError):
        emit(VersionPublished(outgrown.pk))


@pytest.mark.parametrize("unread", [None, '{"format":0}'])
def test_a_version_gateways_know_nothing_of_holds_up_no_change(outgrown: Version, unread: str | None) -> None:
    GatewayChange.objects.filter(kind="version").update(document=unread)
    emit(ProductVersionsChanged(make_product(outgrown).pk))
    assert GatewayChange.objects.get(kind="version").document == unread


@pytest.mark.requirement("K8.3")
def test_a_version_s_life(acme: Organisation) -> None:
    version = make_version(make_api(acme))
    deploy(version)
    for event, state in (
        (VersionPublished, "published"),
        (VersionDeprecated, "deprecated"),
        (VersionRestored, "published"),
        (VersionRetired, "retired"),
    ):
        version.state = state
        version.save()
        emit(event(version.pk))
        told = last_word("version", version.pk)
        assert isinstance(told, VersionDocument)
        assert told.state == state
        assert last_word("route", version.route.base_path) is not None


@pytest.mark.requirement("K8.3")
def test_a_product_s_versions_are_told_to_the_version(acme: Organisation) -> None:
    version = make_version(make_api(acme))
    deploy(version)
    emit(VersionPublished(version.pk))
    product = make_product(version)
    emit(ProductVersionsChanged(product.pk))
    told = last_word("version", version.pk)
    assert isinstance(told, VersionDocument)
    assert told.product_ids == (product.pk,)
    product.versions.clear()
    emit(ProductVersionsChanged(product.pk))
    told = last_word("version", version.pk)
    assert isinstance(told, VersionDocument)
    assert told.product_ids == ()


@pytest.mark.requirement("K8.3")
def test_limits_and_their_end(free: Plan) -> None:
    emit(PlanChanged(free.pk))
    told = last_word("plan", free.pk)
    assert isinstance(told, PlanDocument)
    assert {limit.amount for limit in told.limits} == {60, 10_000}
    plan_id = free.pk
    free.delete()
    emit(PlanChanged(plan_id))
    assert last_word("plan", plan_id) is None


def test_an_api_s_limits_are_told_to_each_of_its_served_versions(acme: Organisation, oscar: User) -> None:
    api = make_api(acme)
    first, second = make_version(api, "v1"), make_version(api, "v2")
    draft = make_version(api, "v3", state="draft")
    for version in (first, second):
        deploy(version)
    own = second.operations.get()
    limits = [("rate", 100, "minute"), LimitTerms("concurrency", 2, operation_id=own.pk)]
    products.change_api_limits(actor=oscar, api=api, limits=limits)
    assert not is_spoken_of("version", draft.pk)
    for version, amounts in ((first, {100}), (second, {100, 2})):
        told = last_word("version", version.pk)
        assert isinstance(told, VersionDocument)
        assert {limit.amount for limit in told.limits} == amounts
    before = GatewayChange.objects.count()
    with pytest.raises(DomainError):
        products.change_api_limits(actor=oscar, api=api, limits=[("quota", 1, "billing")])
    assert GatewayChange.objects.count() == before


def test_a_billing_month_is_told_with_the_subscription(free: Plan, dev: User, builders: Organisation) -> None:
    application = portal.create_application(actor=dev, organisation=builders, name="Shop")
    portal.subscribe(actor=dev, application=application, plan=free)
    told = last_word("application", application.pk)
    assert isinstance(told, ApplicationDocument)
    midnight = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    assert told.subscriptions[0].billing_anchor in {midnight.timestamp(), midnight.timestamp() - 86_400}


def test_who_comes_back_is_told_to_count_as_before(free: Plan, dev: User, builders: Organisation) -> None:
    application = portal.create_application(actor=dev, organisation=builders, name="Shop")
    first = portal.subscribe(actor=dev, application=application, plan=free)
    portal.cancel_subscription(actor=dev, subscription=first)
    again = portal.subscribe(actor=dev, application=application, plan=free)
    told = last_word("application", application.pk)
    assert isinstance(told, ApplicationDocument)
    assert [(row.id, row.spender) for row in told.subscriptions] == [(again.pk, first.pk)]


def test_an_address_another_version_took_over_is_left_to_it(acme: Organisation) -> None:
    first = make_version(make_api(acme))
    deploy(first)
    emit(VersionPublished(first.pk))
    address = first.route.base_path
    move(first, "/elsewhere")
    emit(VersionPublished(first.pk))
    assert last_word("route", address) is None
    second = make_version(make_api(acme))
    move(second, address)
    emit(VersionPublished(second.pk))
    emit(VersionPublished(first.pk))
    told = last_word("route", address)
    assert isinstance(told, RouteDocument)
    assert told.version_id == second.pk


def deploy(version: Version) -> None:
    version.deployed_revision = Revision.objects.create(
        version=version,
        number=version.revisions.count() + 1,
        specification=version.specification,
        configuration=configuration_of(version),
    )
    version.save()


def move(version: Version, base_path: str) -> None:
    version.route.base_path = base_path
    version.route.save()
    deploy(version)


@pytest.mark.requirement("K8.3")
def test_the_loss_of_the_last_owner(dev: User, builders: Organisation, acme: Organisation) -> None:
    """Whatever takes an organisation's last active owner, or brings one, is told; nothing else is."""

    def state() -> str:
        return last_word("organisation", builders.pk).state if is_spoken_of("organisation", builders.pk) else ""

    make_member(dev, acme, Role.PUBLISHER)
    make_member(make_user("alice"), acme, Role.PUBLISHER)
    deborah = add_member(actor=dev, organisation=builders, user=make_user("deborah"), role=Role.DEVELOPER)
    disable_user(actor=None, user=dev)
    assert state() == "", "there is another"
    assert not is_spoken_of("organisation", acme.pk)
    remove_member(actor=deborah.user, membership=deborah)
    assert state() == "suspended"
    assert OrganisationDocument(builders.pk, "suspended") in list(compiler.everything())
    second = add_member(actor=None, organisation=builders, user=make_user("dan"), role=Role.VIEWER)
    assert state() == "suspended"
    change_role(actor=None, membership=second, role=Role.ADMINISTRATOR)
    assert state() == "active"
    disable_user(actor=None, user=second.user)
    assert state() == "suspended"
    enable_user(actor=None, user=dev)
    assert state() == "active"
    assert not is_spoken_of("organisation", acme.pk)
