"""The panels where developers meet them, in a real browser."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone
from playwright.sync_api import Page

from apimgr.accounts.models import User
from portal.models import Credential
from tests.analytics.calls import store
from tests.analytics.test_look import lively, look
from tests.analytics.world import Scene
from tests.browser import every_look, sign_in

__all__ = ["lively"]


@every_look
def test_a_developer_sees_their_application(browser_page: Page, live_server: Any, lively: Scene, dev: User) -> None:
    sign_in(browser_page, live_server, dev)
    for name in ("application-usage", "application-requests"):
        look(browser_page, live_server, reverse(f"portal:{name}", args=[lively.application.pk]), name)


def test_the_first_call_turns_by_itself(browser_page: Page, live_server: Any, scene: Scene, dev: User) -> None:
    Credential.objects.update(created_at=timezone.now() - timedelta(minutes=1))
    sign_in(browser_page, live_server, dev)
    browser_page.goto(
        f"{live_server.url}{reverse('portal:start-key', args=[scene.credential.pk])}?api={scene.api.slug}"
    )
    browser_page.get_by_text("Send the call; this turns by itself").wait_for()
    store(scene.refusal(timezone.now(), "rate_limited"))
    browser_page.get_by_text("Arrived, but refused").wait_for()
    store(scene.call(timezone.now()))
    browser_page.get_by_text("Your first request arrived").wait_for()
