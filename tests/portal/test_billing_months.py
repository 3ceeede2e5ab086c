"""When a subscription's billing months begin, and what its developer is told of that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apimgr.accounts.models import Organisation, User
from apimgr.catalog.models import API
from apimgr.products.models import ApiLimit, Limit, Plan
from portal import services
from portal.models import Application, Subscription


@pytest.fixture
def application(builders: Organisation) -> Application:
    return Application.objects.create(organisation=builders, name="Shop")


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
