"""Insights in a real browser: no accessibility fault, no console error, nothing too wide."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

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


def test_the_tail_moves_by_itself(browser_page: Page, live_server: Any, scene: Scene, oscar: User) -> None:
    store(scene.call(timezone.now()))
    sign_in(browser_page, live_server, oscar)
    browser_page.goto(live_server.url + reverse("analytics:requests") + "?live=1")
    assert browser_page.locator("#log tbody tr").count() == 1
    store(scene.call(timezone.now()))
    browser_page.locator("#log tbody tr").nth(1).wait_for()


def test_the_chart_is_drawn_and_its_table_says_the_same(
    browser_page: Page, live_server: Any, lively: Scene, oscar: User
) -> None:
    sign_in(browser_page, live_server, oscar)
    browser_page.goto(live_server.url + reverse("analytics:overview"))
    browser_page.locator("api-chart svg").first.wait_for()
    browser_page.locator("api-chart summary").first.click()
    assert browser_page.locator("api-chart").first.locator("tbody tr").count() == 168
