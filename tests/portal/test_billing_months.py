"""When a subscription's billing months begin, whose count it carries on, and what its developer is told of that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apimgr.accounts.models import Organisation, User
from apimgr.catalog.models import API, Version
from apimgr.products.models import ApiLimit, Limit, Plan, Product
from portal import services
from portal.models import Application, Subscription
from tests.factories import make_plan


def test_they_begin_when_it_becomes_active(dev: User, oscar: User, application: Application, gold: Plan) -> None:
    subscription = services.subscribe(actor=dev, application=application, plan=gold)
    assert subscription.billing_from is subscription.billing_resets_at is None
    approved = services.approve_subscription(actor=oscar, subscription=subscription)
    assert approved.billing_from == approved.decided_at is not None


def test_a_suspension_does_not_move_them(dev: User, oscar: User, application: Application, plan: Plan) -> None:
    subscription = services.subscribe(actor=dev, application=application, plan=plan)
    began = timezone.now() - timedelta(days=40)
    Subscription.objects.update(billing_from=began)
    services.suspend_subscription(actor=oscar, subscription=subscription)
    assert services.resume_subscription(actor=oscar, subscription=subscription).billing_from == began


def test_a_request_that_moves_to_a_plan_without_approval_begins_then(
    dev: User, application: Application, plan: Plan, gold: Plan
) -> None:
    subscription = services.subscribe(actor=dev, application=application, plan=gold)
    services.change_plan(actor=dev, subscription=subscription, plan=plan)
    subscription.refresh_from_db()
    assert (subscription.state, subscription.billing_from is None) == ("active", False)


def test_who_comes_back_goes_on_counting(dev: User, application: Application, plan: Plan, gold: Plan) -> None:
    """Else a quota could be had several times a month."""
    began = timezone.now() - timedelta(days=40)
    first = services.subscribe(actor=dev, application=application, plan=plan)
    assert first.counts_as is None
    Subscription.objects.update(billing_from=began)
    for again in (plan, gold, plan):
        latest = Subscription.objects.latest("pk")
        services.cancel_subscription(actor=dev, subscription=latest)
        back = services.subscribe(actor=dev, application=application, plan=again)
        assert (back.counts_as, back.billing_from) == (first, began)


def test_who_was_never_let_in_begins_when_they_are(
    dev: User, oscar: User, application: Application, gold: Plan
) -> None:
    for _ in range(2):
        asked = services.subscribe(actor=dev, application=application, plan=gold)
        assert services.reject_subscription(actor=oscar, subscription=asked).billing_from is None
    asked = services.subscribe(actor=dev, application=application, plan=gold)
    let_in = services.approve_subscription(actor=oscar, subscription=asked)
    assert let_in.billing_from == let_in.decided_at


def test_each_application_counts_for_itself_and_each_product(
    dev: User, builders: Organisation, application: Application, plan: Plan, version: Version
) -> None:
    services.subscribe(actor=dev, application=application, plan=plan)
    parcels = Product.objects.create(organisation=version.api.organisation, name="Parcels", slug="parcels")
    parcels.versions.add(version)
    other = make_plan(parcels)
    assert services.subscribe(actor=dev, application=application, plan=other).counts_as is None
    second = Application.objects.create(organisation=builders, name="Till")
    assert services.subscribe(actor=dev, application=second, plan=plan).counts_as is None


@pytest.mark.parametrize(
    ("began", "now", "resets"),
    [
        (datetime(2026, 3, 12, 15, tzinfo=UTC), datetime(2026, 11, 25, tzinfo=UTC), datetime(2026, 12, 12, tzinfo=UTC)),
        (datetime(2026, 1, 31, 9, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 2, 28, tzinfo=UTC)),
    ],
)
def test_the_next_one_begins(began: datetime, now: datetime, resets: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portal.models.timezone.now", lambda: now)
    assert Subscription(billing_from=began).billing_resets_at == resets


def test_the_developer_reads_when_the_count_resets(
    as_dev: Client, dev: User, application: Application, plan: Plan
) -> None:
    subscription = services.subscribe(actor=dev, application=application, plan=plan)
    path = f"/apps/{application.public_id}/"
    assert "resets" not in as_dev.get(path).content.decode(), "nothing is counted by billing months"
    Limit.objects.create(plan=plan, kind="quota", amount=900, period="billing")
    page = as_dev.get(path).content.decode()
    assert "900 per billing month" in page
    assert subscription.billing_resets_at is not None
    day = subscription.billing_resets_at
    assert f"resets {day.day} {day:%B}" in page


def test_an_api_page_tells_of_all_callers_together(client: Client, plan: Plan, api: API) -> None:
    assert "All callers together" not in client.get("/apis/orders/").content.decode()
    ApiLimit.objects.create(api=api, kind="concurrency", amount=250, period="none")
    page = client.get("/apis/orders/").content.decode()
    assert "All callers together" in page
    assert "250 at once" in page
