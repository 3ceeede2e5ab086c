"""The browser fixture itself: it reports what a page does wrong unseen."""

from __future__ import annotations

import time

import pytest
from playwright.sync_api import Page

from tests.browser import PATIENCE_MS, every_look

HTML = "text/html; charset=utf-8"


def serve(page: Page, body: str, **headers: str) -> None:
    """Answer the page's own address with this body, in front of the watcher."""
    page.route("http://localhost/", lambda route: route.fulfill(body=body, headers={"Content-Type": HTML, **headers}))
    page.goto("http://localhost/")


@every_look
def test_a_clean_page_passes(browser_page: Page) -> None:
    serve(browser_page, "<!doctype html><title>Clean</title>")
    assert browser_page.title() == "Clean"


@pytest.mark.parametrize(
    ("body", "headers", "finding"),
    [
        ("<img src='http://192.0.2.1/pixel.png'>", {}, "foreign request"),
        ("<script>throw new Error('broken')</script>", {}, "script error"),
        ("<style>p{color:red}</style>", {"Content-Security-Policy": "style-src 'self'"}, "Content Security Policy"),
    ],
)
def test_what_a_page_does_wrong_is_found(
    browser_page: Page, browser_problems: list[str], body: str, headers: dict[str, str], finding: str
) -> None:
    serve(browser_page, f"<!doctype html><title>Wrong</title>{body}", **headers)
    give_up_at = time.monotonic() + PATIENCE_MS / 1000
    while not any(finding in problem for problem in browser_problems):  # what the browser tells comes when it comes
        assert time.monotonic() < give_up_at, browser_problems
        browser_page.wait_for_timeout(20)
    browser_problems.clear()
