"""A real Chromium for tests, which watches what a person would not see.

``browser_page`` is a Playwright page, 1280 wide and light; ``open_page(width=375, scheme="dark")`` opens another one.
Whatever a page does wrong unseen (an error in the console, a CSP violation, a request to a foreign host) is collected
in ``browser_problems`` and fails the test at its end. A test that provokes one looks at the list and clears it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, ConsoleMessage, Page, Playwright, Route, expect, sync_playwright

from apimgr.accounts.models import User
from tests.here import do_without

# Playwright's synchronous interface keeps an event loop running in this thread; Django would refuse the ORM beside it.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "1")

OWN_HOSTS = {"localhost", "127.0.0.1", "[::1]", "::1"}
WIDTHS, SCHEMES = (375, 1280), ("light", "dark")
NO_CHROMIUM = "no Chromium: `make test` installs one, or set APIMGR_CHROMIUM to its path"

#: ``@every_look`` runs a test that takes ``browser_page`` at each width, light and dark.
every_look = pytest.mark.parametrize(
    "browser_page",
    [{"width": width, "scheme": scheme} for width in WIDTHS for scheme in SCHEMES],
    ids=[f"{width}-{scheme}" for width in WIDTHS for scheme in SCHEMES],
    indirect=True,
)

# How long an action or an expectation may wait for the page: a bound on hanging, not on speed.
PATIENCE_MS = 60_000
expect.set_options(timeout=PATIENCE_MS)


def chromium_path(playwright: Playwright) -> str | None:
    """The machine's own Chromium, else the one Playwright installed, else none."""
    names = (os.environ.get("APIMGR_CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    candidates = [found for name in names if name and (found := shutil.which(name))]
    return next((path for path in [*candidates, playwright.chromium.executable_path] if Path(path).exists()), None)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests go last, as that loop is in the others' way: of all, or of each file dealt out to a process."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(autouse=True)
def the_browsers_loop_stays() -> Iterator[None]:
    """A test that takes it from this thread ends here, and not whoever opens the next page."""
    loop = asyncio._get_running_loop()
    yield
    assert loop is None or asyncio._get_running_loop() is loop, "the browser's event loop no longer runs"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        path = chromium_path(playwright)
        if path is None:
            do_without(NO_CHROMIUM)
        # Chromium's sandbox refuses root; what runs in it here are our own pages.
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        # Own background traffic of the browser would count as foreign requests of the page.
        arguments += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
        chromium = playwright.chromium.launch(executable_path=path, args=arguments, timeout=PATIENCE_MS)
        yield chromium
        chromium.close()


@pytest.fixture
def browser_problems() -> list[str]:
    return []


@pytest.fixture
def open_page(browser: Browser, browser_problems: list[str]) -> Iterator[Callable[..., Page]]:
    """Open a page in a session of its own: ``open_page(width=375, height=800, scheme="dark", **context_options)``."""
    contexts = []

    def open_(width: int = 1280, height: int = 800, scheme: str = "light", **options: Any) -> Page:
        options = {"viewport": {"width": width, "height": height}, "color_scheme": scheme, **options}
        context = browser.new_context(reduced_motion="reduce", **options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        watch(page, browser_problems)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not browser_problems, "the page did wrong unseen:\n" + "\n".join(browser_problems)


@pytest.fixture
def browser_page(open_page: Callable[..., Page], request: pytest.FixtureRequest) -> Page:
    return open_page(**getattr(request, "param", {}))


def watch(page: Page, problems: list[str]) -> None:
    def on_console(message: ConsoleMessage) -> None:
        if message.type == "error":  # Chromium reports CSP violations here, too.
            problems.append(f"console on {page.url}: {message.text} ({message.location.get('url', '')})")

    def on_route(route: Route) -> None:
        url = urlsplit(route.request.url)
        if url.hostname in OWN_HOSTS:
            route.continue_()
        else:
            problems.append(f"foreign request from {page.url}: {route.request.url}")
            route.abort()

    page.on("console", on_console)
    page.on("pageerror", lambda error: problems.append(f"script error on {page.url}: {error}"))
    page.route(lambda url: url.startswith(("http:", "https:", "ws:", "wss:")), on_route)


def axe_violations(page: Page) -> list[str]:
    """What axe-core finds wrong on the page by WCAG 2.2 AA, one line per rule and element."""
    from axe_playwright_python.sync_playwright import Axe

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
    # Preloading would add a <style> of axe's own to the page, which our CSP rightly refuses.
    options = {"runOnly": {"type": "tag", "values": tags}, "preload": False}
    found = Axe().run(page, options=options).response["violations"]
    return [f"{rule['id']}: {node['target']} {node['failureSummary']}" for rule in found for node in rule["nodes"]]


SHOTS = os.environ.get("APIMGR_SHOTS", "")  # a folder to leave pictures in


def look(page: Page, name: str) -> None:
    """See that the page is accessible and not too wide; leave a picture of it where ``APIMGR_SHOTS`` says."""
    page.wait_for_load_state("networkidle")
    if SHOTS:
        scheme = "dark" if page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches") else "light"
        page.screenshot(path=Path(SHOTS) / f"{name}-{page.evaluate('innerWidth')}-{scheme}.png", full_page=True)
    assert axe_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"


def sign_in(page: Page, live_server: Any, user: User) -> None:
    """Without the form, which has tests of its own."""
    client = Client()
    client.force_login(user)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
