"""The accounts pages in a real browser: sign-up with the mailbox beside it, and every page looked at."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.mail import send_mail
from django.urls import reverse
from playwright.sync_api import Page, expect
from pytest_django import Settings

from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import invite_member, issue_api_token
from apimgr.accounts.services.invitations import invitation_token
from tests.browser import every_look, look, sign_in


@pytest.fixture
def mail_folder(settings: Settings, tmp_path: Path) -> Path:
    settings.MAILBOX = True
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path
    return tmp_path


def test_a_newcomer_reads_the_code_in_the_mailbox_and_is_in(
    open_page: Callable[..., Page], live_server: Any, mail_folder: Path
) -> None:
    page, mailbox = open_page(), open_page()
    mailbox.goto(live_server.url + "/mailbox/")
    expect(mailbox.get_by_text("No mail yet")).to_be_visible()
    page.goto(f"{live_server.url}{reverse('account_signup')}?next={reverse('accounts:account')}")
    page.get_by_label("E-mail").fill("newcomer@example.com")
    page.get_by_label("Password").fill("a phrase nobody else has")
    page.get_by_role("button", name="Create account").click()
    # The mailbox renews itself.
    heading = mailbox.get_by_role("heading", name=re.compile(r"^\d{6} is your sign-in code"))
    expect(heading).to_be_visible()
    page.get_by_label("Six-digit code").fill(heading.inner_text()[:6])
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name="Account", exact=True)).to_be_visible()
    assert page.url == live_server.url + reverse("accounts:account")


@every_look
def test_entrance_pages_look_right(browser_page: Page, live_server: Any, mail_folder: Path) -> None:
    def visit(name: str, url: str) -> None:
        browser_page.goto(live_server.url + url)
        look(browser_page, name)

    visit("login", reverse("account_login"))
    browser_page.get_by_label("E-mail").fill("nobody@example.com")
    browser_page.get_by_label("Password").fill("wrong password")
    browser_page.get_by_role("button", name="Sign in").click()
    look(browser_page, "login-wrong")
    visit("signup", reverse("account_signup"))
    browser_page.get_by_label("E-mail").fill("new@example.com")
    browser_page.get_by_label("Password").fill("a phrase nobody else has")
    browser_page.get_by_role("button", name="Create account").click()
    look(browser_page, "code")
    visit("reset", reverse("account_reset_password"))
    browser_page.get_by_label("E-mail").fill("nobody@example.com")
    browser_page.get_by_role("button", name="Send code").click()
    look(browser_page, "reset-code")
    send_mail("Join Acme", "Open http://localhost:8000/invitations/x", None, ["dev@example.com"])
    visit("mailbox", reverse("accounts:mailbox"))


@every_look
def test_console_pages_look_right(
    browser_page: Page, live_server: Any, acme: Organisation, ada: User, alice: User, victor: User
) -> None:
    invitation = invite_member(actor=ada, organisation=acme, email="new@example.com", role="viewer")
    issue_api_token(actor=alice, organisation=acme, name="Deploy script")
    for page in ("members", "tokens", "audit"):
        sign_in(browser_page, live_server, ada)
        browser_page.goto(live_server.url + reverse(f"accounts:{page}", kwargs={"slug": acme.slug}))
        look(browser_page, page)
    for name in ("accounts:account", "account_change_password", "usersessions_list", "account_logout"):
        browser_page.goto(live_server.url + reverse(name))
        look(browser_page, name.partition(":")[2] or name)
    browser_page.goto(live_server.url + reverse("accounts:invitation", kwargs={"token": invitation_token(invitation)}))
    look(browser_page, "invitation")


def test_a_token_is_made_and_revoked_by_hand(
    browser_page: Page, live_server: Any, acme: Organisation, alice: User
) -> None:
    sign_in(browser_page, live_server, alice)
    browser_page.goto(live_server.url + reverse("accounts:tokens", kwargs={"slug": acme.slug}))
    browser_page.get_by_label("Name").fill("Deploy script")
    browser_page.get_by_role("button", name="Create token").click()
    expect(browser_page.get_by_text("Copy the token now")).to_be_visible()
    look(browser_page, "token-issued")
    browser_page.locator("summary", has_text="Revoke").click()
    browser_page.get_by_role("button", name="Revoke").click()
    expect(browser_page.get_by_text("calls with it fail from now on")).to_be_visible()
