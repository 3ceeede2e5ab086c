"""Insights in a real browser: no accessibility fault, no console error, nothing too wide."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page, expect

from apimgr.accounts.models import User
from apimgr.catalog.models import Operation
from portal.models import Application
from tests import browser
from tests.analytics.calls import store
from tests.analytics.test_api import UPSTREAM_TRAIL
from tests.analytics.test_pages import TRAIL
from tests.analytics.world import Scene, told
from tests.browser import every_look, sign_in


@pytest.fixture
def lively(scene: Scene) -> Scene:
    """A fortnight with days and nights, so that a chart has something to say."""
    choose, end = random.Random(3), timezone.now()
    others = [
        Operation.objects.create(version=scene.version, method=m, path=p)
        for m, p in (("POST", "/orders"), ("GET", "/orders/{id}"))
    ]
    second = Application.objects.create(organisation=scene.application.organisation, name="Warehouse sync")
    records = []
    for hour in range(24 * 14):
        at = end - timedelta(hours=hour)
        for _ in range(2 + int(8 * (1 - abs(at.hour - 13) / 13))):
            moment = at - timedelta(minutes=choose.random() * 59)
            operation = choose.choice([scene.operation, scene.operation, *others])
            fields: dict[str, Any] = {
                "operation_id": operation.pk,
                "application_id": choose.choice([scene.application.pk, scene.application.pk, second.pk]),
                "total_us": int(choose.lognormvariate(10.5, 0.7)),
                "upstream_us": 9_000,
            }
            kind = choose.random()
            if kind < 0.05:
                records.append(
                    scene.refusal(
                        moment, choose.choice(["rate_limited", "key_unknown", "operation_not_found"]), **fields
                    )
                )
            else:
                status = 502 if kind < 0.07 else choose.choice([200] * 12 + [201, 304, 404])
                records.append(scene.call(moment, status=status, outcome=50 if status == 502 else 0, **fields))
    told(*records)
    return scene


def look(page: Page, live_server: Any, address: str, name: str) -> None:
    page.goto(live_server.url + address)
    browser.look(page, name)


@every_look
def test_insights_look_right(browser_page: Page, live_server: Any, lively: Scene, oscar: User) -> None:
    now: datetime = timezone.now() - timedelta(seconds=5)
    record = lively.refusal(now, "rate_limited", trail=TRAIL)
    failed = lively.refusal(now, "upstream_timeout", trail=UPSTREAM_TRAIL)
    store(record, failed)
    sign_in(browser_page, live_server, oscar)
    look(browser_page, live_server, reverse("analytics:overview"), "overview")
    look(browser_page, live_server, reverse("analytics:api", args=[lively.api.slug]) + "?range=24h&by=operation", "api")
    look(
        browser_page,
        live_server,
        reverse("analytics:api", args=[lively.api.slug]) + "?range=30d&by=outcome",
        "outcomes",
    )
    look(browser_page, live_server, reverse("analytics:requests"), "requests")
    look(browser_page, live_server, reverse("analytics:request", args=[UUID(bytes=record.request_id)]), "request")
    look(browser_page, live_server, reverse("analytics:request", args=[UUID(bytes=failed.request_id)]), "failed")


CALLER = [
    {"step": "route", "base_path": "/orders/v1", "version": "v1"},
    {"step": "operation", "id": "7"},
    {"step": "credential", "state": "active"},
    {"step": "application", "state": "active"},
    {"step": "subscription", "state": "active"},
    {"step": "plan", "name": "Free"},
]
RATE = {"step": "limit", "name": "rate-minute", "amount": 60, "left": 12, "reset_s": 48}
QUOTA = {"step": "limit", "name": "quota-month", "amount": 10_000, "left": 61, "reset_s": 418_653}
SPENT = {**QUOTA, "left": 0, "retry_after_s": 418_653}
AT_ONCE = {"step": "limit", "name": "concurrency", "amount": 10, "left": 7}
MANY = [
    {**RATE, "name": f"{name}-{period}-operation"} for name in ("rate", "api-rate") for period in ("second", "hour")
]
# What was decided before the end, how it ended, and what the gateway said of it.
EXPLAINED: dict[str, tuple[list[dict[str, Any]], str, str]] = {
    "rate": (
        [*CALLER, {**RATE, "left": 0, "reset_s": 60, "retry_after_s": 1}, QUOTA, AT_ONCE],
        "rate_limited",
        "The plan allows 60 calls per minute.",
    ),
    "quota": (
        [*CALLER, RATE, SPENT],
        "quota_exceeded",
        "The plan allows 10000 calls per month.",
    ),
    "at-once": (
        [*CALLER, RATE, {**AT_ONCE, "left": 0, "retry_after_s": 1}],
        "concurrency_exceeded",
        "The plan allows 10 calls at once.",
    ),
    "key": (CALLER[:2], "key_unknown", "The API key is not known."),
    "many": (
        [*CALLER, *MANY * 5, SPENT, {"step": "limit", "more": 28}],
        "quota_exceeded",
        "The plan allows 10000 calls per month.",
    ),
}


@every_look
def test_explanations_look_right(browser_page: Page, live_server: Any, scene: Scene, dev: User) -> None:
    sign_in(browser_page, live_server, dev)
    for name, (steps, code, detail) in EXPLAINED.items():
        trail = json.dumps([*steps, {"step": "refused", "code": code, "detail": detail}]).encode()
        record = scene.refusal(timezone.now(), code, trail=trail)
        store(record)
        address = reverse("analytics:request", args=[UUID(bytes=record.request_id)])
        look(browser_page, live_server, address, f"explained-{name}")
        marked = browser_page.get_by_role("row").filter(has_text="Refused this call")
        assert marked.count() == (0 if name == "key" else 1)
    good = scene.call(timezone.now())
    store(good)
    look(browser_page, live_server, reverse("analytics:request", args=[UUID(bytes=good.request_id)]), "explained-good")


def test_the_tail_moves_by_itself(browser_page: Page, live_server: Any, scene: Scene, oscar: User) -> None:
    store(scene.call(timezone.now()))
    sign_in(browser_page, live_server, oscar)
    browser_page.goto(live_server.url + reverse("analytics:requests") + "?live=1")
    expect(browser_page.locator("#log tbody tr")).to_have_count(1)
    store(scene.call(timezone.now()))
    browser_page.locator("#log tbody tr").nth(1).wait_for()


def test_the_chart_is_drawn_and_its_table_says_the_same(
    browser_page: Page, live_server: Any, lively: Scene, oscar: User
) -> None:
    sign_in(browser_page, live_server, oscar)
    browser_page.goto(live_server.url + reverse("analytics:overview"))
    browser_page.locator("api-chart svg").first.wait_for()
    browser_page.locator("api-chart summary").first.click()
    expect(browser_page.locator("api-chart").first.locator("tbody tr")).to_have_count(168)
