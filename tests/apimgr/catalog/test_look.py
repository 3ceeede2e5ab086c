"""Gateway settings and version selection in a real browser, and what callers see of them in the portal."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from apimgr.accounts.models import User
from apimgr.catalog import services
from apimgr.catalog.models import API, Version
from apimgr.products.models import Product
from proxy.models import GatewayChange
from tests.browser import every_look, look, sign_in
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def api(alice: User) -> API:
    """Two versions live at an address of their own, the first deprecated."""
    api = make_api(alice.memberships.get().organisation, "Parcels", summary="Where they are.")
    for name in ("v1", "v2"):
        version = make_version(api, name, state="draft")
        if name == "v1":
            make_plan(make_product(version))
        Product.objects.get().versions.add(version)
        services.publish_version(actor=alice, version=version)
    services.deprecate_version(actor=alice, version=api.versions.get(name="v1"))
    return api


@every_look
@pytest.mark.django_db(transaction=True)
def test_the_pages_look_right(
    browser_page: Page, browser_problems: list[str], live_server: Any, api: API, alice: User
) -> None:
    sign_in(browser_page, live_server, alice)
    console = f"{live_server.url}/console/apis/parcels"
    browser_page.goto(f"{console}/gateway/?version=v2")
    look(browser_page, "gateway")
    browser_page.get_by_label("Other protocols").fill("h2c")
    browser_page.get_by_label("Largest message").fill("much")
    browser_page.get_by_role("button", name="Save changes").click()
    expect(browser_page.get_by_text("Write a whole number and a unit")).to_be_visible()
    look(browser_page, "gateway-refused")
    browser_page.goto(f"{console}/settings/")
    look(browser_page, "settings")
    browser_page.get_by_label("Header field").check()
    browser_page.get_by_label("Name of the field").fill("Authorization")
    browser_page.get_by_role("button", name="Save for all versions").click()
    expect(browser_page.get_by_text("has another meaning")).to_be_visible()
    look(browser_page, "settings-refused")
    browser_page.get_by_label("Name of the field").fill("X-Api-Version")
    browser_page.get_by_label("Calls that name no version").select_option("v2")
    browser_page.get_by_role("button", name="Save for all versions").click()
    expect(browser_page.get_by_text("No gateway node is connected")).to_be_visible()
    look(browser_page, "settings-set")
    browser_problems[:] = [problem for problem in browser_problems if "422" not in problem]  # the two refusals
    for path, name in (("/gateway/?version=v1", "gateway-shared"), ("/versions/", "versions"), ("/", "api")):
        browser_page.goto(f"{console}{path}")
        look(browser_page, name)
    services.deprecate_version(actor=alice, version=api.versions.get(name="v2"))
    browser_page.goto(f"{console}/versions/")
    browser_page.locator("summary", has_text="Retire version").first.click()
    expect(browser_page.get_by_text("Choose another default first")).to_be_visible()
    look(browser_page, "retire-default")
    browser_page.goto(f"{live_server.url}/apis/parcels/")
    look(browser_page, "portal")


@every_look
@pytest.mark.django_db(transaction=True)
def test_an_api_without_a_key_looks_right(browser_page: Page, live_server: Any, api: API, alice: User) -> None:
    sign_in(browser_page, live_server, alice)
    for name in ("v1", "v2"):
        browser_page.goto(f"{live_server.url}/console/apis/parcels/gateway/?version={name}")
        browser_page.get_by_label("Anybody, without a key").check()
        browser_page.get_by_role("button", name="Save changes").click()
        services.publish_version(actor=alice, version=api.versions.get(name=name))
        browser_page.goto(f"{live_server.url}/apis/parcels/")
        look(browser_page, f"portal-{name}-open")
    expect(browser_page.get_by_text("No key needed: anybody may call it")).to_be_visible()
    browser_page.goto(f"{live_server.url}/apis/parcels/v2/reference/")
    expect(browser_page.get_by_text("No key needed")).to_be_visible()


@every_look
@pytest.mark.django_db(transaction=True)
def test_revisions_look_right(browser_page: Page, live_server: Any, api: API, alice: User) -> None:
    version = api.versions.get(name="v2")
    services.set_upstream(actor=alice, version=version, url="https://8.8.4.4/parcels", max_connections=16)
    services.set_gateway_settings(actor=alice, version=version, max_body_bytes=1024, authentication="none")
    services.publish_version(actor=alice, version=version)
    services.set_gateway_settings(actor=alice, version=version, upgrades=["websocket"])
    sign_in(browser_page, live_server, alice)
    revisions = f"{live_server.url}/console/apis/parcels/versions/v2/revisions/"
    browser_page.goto(revisions)
    look(browser_page, "revisions")
    browser_page.get_by_role("link", name="Roll back to 1…").click()
    look(browser_page, "revision")
    browser_page.get_by_role("button", name="Roll back to revision 1").click()
    expect(browser_page.get_by_text("No gateway node is connected")).to_be_visible()
    look(browser_page, "rolled-back")
    version.revisions.filter(number=1).update(configuration=unfit(version))
    browser_page.goto(f"{revisions}1/")
    expect(browser_page.get_by_text("It cannot go live as it was")).to_be_visible()
    look(browser_page, "revision-unfit")
    browser_page.goto(f"{live_server.url}/console/apis/parcels/versions/")
    look(browser_page, "versions")


def unfit(version: Version) -> dict[str, Any]:
    """Revision 1 with an upstream that is not allowed any more."""
    configuration: dict[str, Any] = version.revisions.get(number=1).configuration
    return {**configuration, "upstream": {**configuration["upstream"], "url": "http://10.1.2.3"}}


@pytest.mark.django_db(transaction=True)
def test_rolling_back_by_keyboard(browser_page: Page, live_server: Any, api: API, alice: User) -> None:
    version = api.versions.get(name="v2")
    services.set_upstream(actor=alice, version=version, url="https://8.8.4.4")
    services.publish_version(actor=alice, version=version)
    sign_in(browser_page, live_server, alice)
    browser_page.goto(f"{live_server.url}/console/apis/parcels/versions/v2/revisions/")
    browser_page.get_by_role("link", name="Roll back to 1…").focus()
    browser_page.keyboard.press("Enter")
    browser_page.get_by_role("button", name="Roll back to revision 1").focus()
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("Rolled back: live as revision 3")).to_be_visible()


@pytest.mark.django_db(transaction=True)
def test_the_keyboard_is_enough(browser_page: Page, live_server: Any, api: API, alice: User) -> None:
    sign_in(browser_page, live_server, alice)
    browser_page.goto(f"{live_server.url}/console/apis/parcels/settings/")
    browser_page.get_by_label("Path: each version").focus()
    expect(browser_page.get_by_label("Name of the field")).to_be_hidden()
    browser_page.keyboard.press("ArrowDown")
    browser_page.keyboard.press("ArrowDown")
    expect(browser_page.get_by_label("Query parameter")).to_be_checked()
    browser_page.keyboard.press("Tab")
    browser_page.keyboard.press("Control+A")
    browser_page.keyboard.type("api-version")
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("No gateway node is connected")).to_be_visible()
    assert GatewayChange.objects.filter(kind="route", key="/parcels").exists()
