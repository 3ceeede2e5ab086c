"""The operators' pages in a real browser: each width, light and dark."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import transaction
from django.urls import reverse
from playwright.sync_api import Page

from apimgr.accounts.models import User
from apimgr.contracts.snapshot import PlanDocument
from proxy.models import RejectedDocument
from proxy.services import append_changes, remove_node
from tests.browser import every_look, look, sign_in
from tests.proxy.control.test_gone_nodes import make_boot
from tests.proxy.control.test_rollout import make_node

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@every_look
def test_operators_pages_look_right(browser_page: Page, live_server: Any, olga: User) -> None:
    with transaction.atomic():
        append_changes([PlanDocument(1, "Free")], [("plan", "2")])
    make_node(
        "gateway-a", applied=2, generated=1234, spooled=1234, acknowledged=1200, spool_bytes=4096, limits="shared"
    )
    make_node("gateway-b", silent_s=60)
    make_node("gateway-e", silent_s=3600, generated=1234, spooled=1234)
    make_node("gateway-f", silent_s=7200, generated=42, spooled=42)
    remove_node(actor=olga, name="gateway-f")
    make_boot("gateway-a", 0, silent_s=3600, generated=7)
    make_node("gateway-c", applied=2, limits="unavailable", ungranted=1234)
    make_node("gateway-d", applied=2)
    RejectedDocument.objects.create(node="gateway-d", since=1, kind="plan", key="1", reason="unknown field 'zones'")
    sign_in(browser_page, live_server, olga)
    for name in ("overview", "nodes", "books", "changes"):
        browser_page.goto(live_server.url + reverse(f"proxy:{name}"))
        look(browser_page, f"ops-{name}")
    browser_page.goto(live_server.url + reverse("proxy:nodes"))
    row = browser_page.get_by_role("row", name="gateway-e")
    row.locator("summary", has_text="Remove").press("Enter")
    row.get_by_text("1,234 calls that it made have no row").wait_for()
    look(browser_page, "ops-node-remove")
    browser_page.goto(live_server.url + reverse("proxy:books"))
    browser_page.locator("summary", has_text="Give up").press("Enter")
    browser_page.get_by_text("7 calls of it have no row").wait_for()
    look(browser_page, "ops-boot-give-up")
