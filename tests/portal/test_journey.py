"""Get access, run the first call, try the reference: in a real browser, against a small gateway."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from apimgr.accounts.models import User
from apimgr.contracts.credentials import KEY_PATTERN
from apimgr.products.models import Plan
from portal import services
from tests.browser import axe_violations, every_look, sign_in
from tests.portal.test_tryit import Gateway, upstream

__all__ = ["upstream"]  # a fixture

pytestmark = pytest.mark.django_db(transaction=True)


def test_from_access_to_an_answer(live_server: Any, upstream: str, browser_page: Page, dev: User, plan: Plan) -> None:
    sign_in(browser_page, live_server, dev)
    browser_page.goto(f"{live_server}/apis/orders/")
    browser_page.get_by_role("link", name="Get access").click()
    browser_page.get_by_role("button", name="Get access and a key").click()
    run = browser_page.get_by_role("button", name="Run it here")
    run.wait_for()
    browser_page.wait_for_load_state()  # before htmx is there, the answer opens in a tab of its own
    key = re.search(KEY_PATTERN, browser_page.content())
    assert key is not None
    run.click()
    expect(browser_page.locator("#answer .http-status")).to_have_text("201")
    assert Gateway.seen[-1][0] == "/orders/v1/get"
    assert {name.lower(): value for name, value in Gateway.seen[-1][1].items()}["x-api-key"] == key[0]
    assert "<script>alert(1)</script>" in browser_page.locator("#answer pre").inner_text()
    expect(browser_page).to_have_url(re.compile(r"/start/[0-9a-z]{13}/\?api=orders$"))
    browser_page.reload()
    assert key[0] not in browser_page.content()


def test_the_reference_sends_a_call_through_our_relay(
    live_server: Any, upstream: str, browser_page: Page, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Scalar would preview HTML in a frame, which our policy rightly blocks and Chromium reports.
    monkeypatch.setattr(Gateway, "content_type", "text/plain")
    browser_page.goto(f"{live_server}/apis/orders/v1/reference/")
    browser_page.get_by_role("button", name="Test Request").first.click()
    browser_page.get_by_role("button", name="Send").first.click()
    expect(browser_page.get_by_text("201").first).to_be_visible()
    assert Gateway.seen[-1][0] == "/orders/v1/get"


def test_the_catalogue_answers_as_one_types(live_server: Any, browser_page: Page, plan: Plan) -> None:
    browser_page.goto(f"{live_server}/apis/")
    browser_page.get_by_role("searchbox").press_sequentially("nothing")
    expect(browser_page.get_by_text("No API matches")).to_be_visible()
    expect(browser_page).to_have_url(re.compile(r"q=nothing"))
    browser_page.get_by_role("searchbox").fill("orders")
    expect(browser_page.get_by_role("link", name="Orders")).to_be_visible()


@every_look
def test_every_page_can_be_read_by_everybody(
    live_server: Any, browser_page: Page, dev: User, oscar: User, gold: Plan
) -> None:
    """WCAG 2.2 AA by axe, and nothing wider than the screen."""
    application = services.quick_start(actor=dev, plan=gold).application
    own = f"/apps/{application.public_id}/"
    pages = {
        None: ["/", "/apis/", "/apis/?q=nothing", "/apis/orders/", "/docs/"],
        dev: ["/apps/", "/apps/new/", own, f"{own}settings/", "/apis/orders/access/", "/start/", "/apps/requests/"],
        oscar: ["/console/approvals/", "/console/apis/orders/consumers/", "/console/keys/"],
    }
    wrong = []
    for user, paths in pages.items():
        browser_page.goto("about:blank")  # or a panel of the page before would load for another person
        if user is not None:
            sign_in(browser_page, live_server, user)
        for path in paths:
            browser_page.goto(f"{live_server}{path}")
            browser_page.wait_for_load_state("networkidle")
            wrong += [f"{path}: {violation}" for violation in axe_violations(browser_page)]
            if browser_page.evaluate("document.documentElement.scrollWidth > innerWidth"):
                wrong.append(f"{path} is wider than the screen")
    assert not wrong, "\n".join(wrong)


def test_the_way_to_a_key_needs_no_script(
    live_server: Any, upstream: str, open_page: Callable[..., Page], dev: User, plan: Plan
) -> None:
    page = open_page(java_script_enabled=False)
    sign_in(page, live_server, dev)
    page.goto(f"{live_server}/apis/orders/access/")
    page.get_by_role("button", name="Get access and a key").click()
    run = page.get_by_role("button", name="Run it here")
    run.wait_for()
    assert re.search(KEY_PATTERN, page.content())
    with page.context.expect_page() as opened:
        run.click()
    expect(opened.value.locator(".http-status")).to_have_text("201")
