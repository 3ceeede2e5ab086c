"""The component library in a real browser: every look, no violation, no error; menus and theme by keyboard."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from tests.browser import axe_violations, every_look

pytestmark = pytest.mark.django_db(transaction=True)


@every_look
def test_the_styleguide_is_accessible(live_server: LiveServer, browser_page: Page) -> None:
    browser_page.goto(f"{live_server.url}/styleguide")
    expect(browser_page.locator("api-chart svg")).to_be_visible()
    expect(browser_page.get_by_text("This came afterwards, by itself.")).to_be_visible()
    assert axe_violations(browser_page) == []
    width = browser_page.viewport_size["width"] if browser_page.viewport_size else 0
    assert browser_page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_theme_changes_at_once_and_stays(live_server: LiveServer, browser_page: Page) -> None:
    browser_page.goto(f"{live_server.url}/styleguide")
    browser_page.get_by_label("Theme").click()
    with browser_page.expect_response("**/theme"):
        browser_page.get_by_role("button", name="Dark").click()
    expect(browser_page.locator("html")).to_have_attribute("data-theme", "dark")
    browser_page.reload()
    expect(browser_page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_menu_closes_on_escape_and_gives_the_focus_back(live_server: LiveServer, browser_page: Page) -> None:
    browser_page.goto(f"{live_server.url}/styleguide")
    summary = browser_page.get_by_label("Theme")
    summary.focus()
    summary.press("Enter")
    expect(browser_page.get_by_role("button", name="Dark")).to_be_visible()
    browser_page.keyboard.press("Escape")
    expect(browser_page.get_by_role("button", name="Dark")).to_be_hidden()
    expect(summary).to_be_focused()


def test_a_page_works_without_javascript(live_server: LiveServer, open_page: object) -> None:
    page: Page = open_page(java_script_enabled=False)  # type: ignore[operator]
    page.goto(f"{live_server.url}/styleguide")
    page.get_by_label("Theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
