"""The pages of plans and limits in a real browser: accessible, wide enough, and usable without a mouse."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from apimgr.accounts.models import User
from apimgr.catalog.models import Operation, Revision
from apimgr.catalog.services.publication import configuration_of
from apimgr.products.models import ApiLimit, Limit, Plan
from tests.browser import every_look, look, sign_in
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def plan(alice: User) -> Plan:
    """A plan with a limit of each kind, of which one names an operation that no revision has any more."""
    version = make_version(make_api(alice.memberships.get().organisation, "Mine"))
    version.deployed_revision = Revision.objects.create(
        version=version, number=1, specification=version.specification, configuration=configuration_of(version)
    )
    version.save()
    gone = Operation.objects.create(version=version, method="DELETE", path="/parcels/{id}/labels", is_current=False)
    plan = make_plan(
        make_product(version),
        "Free",
        ("rate", 60, "minute"),
        ("quota", 10_000, "billing"),
        ("concurrency", 5, "none"),
        description="For a first look.",
    )
    for operation, kind, period in ((version.operations.get(path="/get"), "rate", "second"), (gone, "quota", "day")):
        Limit.objects.create(plan=plan, kind=kind, amount=20, period=period, operation=operation)
        ApiLimit.objects.create(api=version.api, kind=kind, amount=500, period=period, operation=operation)
    ApiLimit.objects.create(api=version.api, kind="concurrency", amount=2_000, period="none")
    return plan


@every_look
def test_every_page_looks_right(browser_page: Page, live_server: Any, plan: Plan, oscar: User) -> None:
    sign_in(browser_page, live_server, oscar)
    for name, path in {
        "plans": "/console/plans/",
        "plan": f"/console/plans/{plan.public_id}/",
        "plan-new": "/console/products/mine/plans/new/",
        "api-plans": "/console/apis/mine/plans/",
        "api-limits": "/console/apis/mine/limits/",
        "portal-api": "/apis/mine/",
        "portal-access": "/apis/mine/access/",
    }.items():
        browser_page.goto(live_server.url + path)
        look(browser_page, name)


def test_a_limit_is_added_by_keyboard_and_a_mistake_is_said_beside_it(
    browser_page: Page, live_server: Any, plan: Plan, oscar: User, browser_problems: list[str]
) -> None:
    sign_in(browser_page, live_server, oscar)
    browser_page.goto(f"{live_server.url}/console/plans/{plan.public_id}/")
    browser_page.get_by_label("Operation").focus()
    browser_page.keyboard.type("GET /nowhere")
    browser_page.keyboard.press("Tab")
    browser_page.get_by_label("What is counted").select_option("Calls at once")
    browser_page.keyboard.press("Tab")
    browser_page.keyboard.type("2")
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("No such operation, or several versions have it.")).to_be_visible()
    look(browser_page, "plan-mistake")
    assert "422" in browser_problems.pop()
    browser_page.get_by_label("Operation").fill("mine/v1 GET /get")
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_label("GET /get in v1: calls at once")).to_have_value("2")
