"""The console in a real browser: publishing a document (F1) by pointer and by keyboard alone; every page and look."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from apimgr.accounts.models import User
from apimgr.catalog.models import Version
from tests.browser import axe_violations, every_look, sign_in
from tests.factories import make_api, make_plan, make_product, make_version

pytestmark = pytest.mark.django_db(transaction=True)

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Orders", "version": "2.4"},
    "servers": [{"url": "https://example.com/v2"}],
    "paths": {"/orders": {"get": {"summary": "List orders", "responses": {"200": {"description": "OK"}}}}},
}
PAGES = [
    "/console/",
    "/console/apis/",
    "/console/apis/new/",
    "/console/plans/",
    *(
        f"/console/apis/orders/{tab}"
        for tab in ("", "versions/", "definition/", "operations/", "gateway/", "settings/", "plans/")
    ),
    *(f"/console/apis/orders/versions/v2/{step}/" for step in ("source", "check", "address", "access", "preview")),
]


@every_look
def test_every_page_of_the_console_is_accessible(live_server: LiveServer, browser_page: Page, alice: User) -> None:
    api = make_api(alice.memberships.get().organisation, "Orders", summary="Everything about orders")
    product = make_product(make_version(api, "v1"))
    make_plan(product)
    product.versions.add(make_version(api, "v2", state="draft"))
    sign_in(browser_page, live_server, alice)
    width = browser_page.viewport_size["width"] if browser_page.viewport_size else 0
    found: dict[str, Any] = {}
    for path in PAGES:
        browser_page.goto(live_server.url + path)
        browser_page.wait_for_load_state("networkidle")
        if violations := axe_violations(browser_page):
            found[path] = violations
        if browser_page.evaluate("document.documentElement.scrollWidth") > width:
            found[f"{path} scrolls sideways"] = True
    assert found == {}


def test_a_document_is_published(live_server: LiveServer, browser_page: Page, alice: User) -> None:
    page = browser_page
    sign_in(page, live_server, alice)
    page.goto(f"{live_server.url}/console/")
    page.get_by_role("link", name="Import an OpenAPI document").click()
    page.get_by_label("OpenAPI document").last.set_input_files(
        {"name": "orders.json", "mimeType": "application/json", "buffer": json.dumps(DOCUMENT).encode()}
    )
    page.get_by_role("button", name="Import and check").click()
    expect(page.get_by_text("List orders")).to_be_visible()
    page.get_by_role("link", name="Continue to route").click()
    expect(page.get_by_label("Public path")).to_have_value("/orders/v1")
    page.get_by_role("textbox", name="Upstream").fill("http://10.0.0.1")
    page.get_by_role("button", name="Test connection").click()
    expect(page.get_by_text("No answer")).to_be_visible()
    page.get_by_role("textbox", name="Upstream").fill("https://8.8.8.8")
    page.get_by_role("button", name="Save and continue").click()
    expect(page.get_by_label("Calls per minute")).to_have_value("60")
    page.get_by_role("button", name="Save and preview").click()
    expect(page.get_by_text("Ready to publish")).to_be_visible()
    page.get_by_role("button", name="Publish version").click()
    expect(page.get_by_text("Orders v1 is published")).to_be_visible()
    assert Version.objects.get().state == "published"


def press_until(page: Page, name: str, tries: int = 60) -> None:
    """Tab to the control that is called ``name``."""
    for _ in range(tries):
        page.keyboard.press("Tab")
        called = page.evaluate(
            "(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim().replace(/\\s+/g, ' ')"
        )
        if called.startswith(name):
            return
    raise AssertionError(f"no Tab leads to {name!r}")


def test_a_document_is_published_by_keyboard_alone(live_server: LiveServer, browser_page: Page, alice: User) -> None:
    page = browser_page
    sign_in(page, live_server, alice)
    page.goto(f"{live_server.url}/console/apis/new/")
    press_until(page, "Upload")
    page.keyboard.press("ArrowRight")
    press_until(page, "Pasted document")
    page.keyboard.insert_text(json.dumps(DOCUMENT))
    press_until(page, "Import and check")
    page.keyboard.press("Enter")
    page.wait_for_url("**/check/")
    press_until(page, "Continue to route")
    page.keyboard.press("Enter")
    page.wait_for_url("**/address/")
    press_until(page, "Save and continue")
    page.keyboard.press("Enter")
    page.wait_for_url("**/access/")
    press_until(page, "Save and preview")
    page.keyboard.press("Enter")
    page.wait_for_url("**/preview/")
    press_until(page, "Publish version")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Orders v1 is published")).to_be_visible()


def test_the_navigation_opens_on_a_phone_without_javascript(
    live_server: LiveServer, open_page: Any, alice: User
) -> None:
    page: Page = open_page(width=375, java_script_enabled=False)
    sign_in(page, live_server, alice)
    page.goto(f"{live_server.url}/console/")
    link = page.get_by_role("navigation", name="Main").get_by_role("link", name="APIs", exact=True)
    expect(link).to_be_hidden()
    page.get_by_title("Navigation").click()
    expect(link).to_be_visible()
    link.click()
    expect(page.get_by_role("heading", name="APIs", exact=True)).to_be_visible()
