"""The whole road, in a browser, on real processes: publish, sign up, call, read it on the dashboard, revoke."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.proxy.processes.node import wait_for
from tests.stack import Platform, corpus

pytestmark = [pytest.mark.processes, pytest.mark.timeout(240)]
SECONDS = 1_000


def sign_in(page: Page, platform: Platform, email: str, password: str) -> None:
    page.goto(f"{platform.web}/accounts/login/")
    page.locator("[name=login]").fill(email)
    page.locator("[name=password]").fill(password)
    submit(page, "password")
    page.wait_for_url(lambda url: "/login/" not in url)


def submit(page: Page, field: str) -> None:
    """Press the primary button of the form that holds this field."""
    page.locator(f"form:has([name={field}]) .btn-primary").first.click()


def publish(page: Page, platform: Platform, document: str, base_path: str) -> None:
    """A publisher uploads a document, confirms address and plan, and publishes."""
    page.goto(f"{platform.web}/console/apis/new/")
    page.locator("[name=document]").set_input_files(corpus(document))
    page.locator("[name=name]").fill("Journey")
    submit(page, "document")
    expect(page).to_have_url(re.compile(r"/versions/v1/check/|/v1/check/"))
    page.goto(page.url.replace("/check/", "/address/"))
    page.locator("[name=base_path]").fill(base_path)
    page.locator("[name=url]").fill(platform.stack.upstream_url)
    submit(page, "base_path")
    page.wait_for_url(lambda url: "/address/" not in url)
    page.goto(re.sub(r"/v1/[a-z]+/.*$", "/v1/preview/", page.url))
    page.locator("form[action$='/publish/'] .btn-primary").first.click()
    page.wait_for_url(re.compile(r"published=v1"))


def sign_up(page: Page, platform: Platform, mailbox: Page, email: str) -> None:
    """From "Get access" to an account: the code is read where the newcomer reads it, in the mailbox."""
    page.goto(f"{platform.web}/apis/journey/")
    page.get_by_role("link", name="Get access").first.click()
    if page.locator("[name=password1]").count() == 0:
        page.goto(f"{platform.web}/accounts/signup/?next=/apis/journey/access/")
    page.locator("[name=email]").fill(email)
    page.locator("[name=password1]").fill("correct horse battery staple")
    submit(page, "password1")
    page.locator("[name=code]").fill(code_from(mailbox, platform, email))
    submit(page, "code")


def code_from(mailbox: Page, platform: Platform, email: str) -> str:
    mailbox.goto(f"{platform.web}/mailbox/")
    mail = mailbox.locator("section, article, div.panel").filter(has_text=email).first
    expect(mail).to_be_visible()
    found = re.search(r"\b(\d{6})\b", mail.inner_text())
    assert found, mail.inner_text()
    return found[1]


def get_key(page: Page, platform: Platform) -> str:
    page.goto(f"{platform.web}/apis/journey/access/")
    submit(page, "plan")
    shown = page.locator("[data-key-once] code")
    expect(shown).to_be_visible()
    return shown.inner_text()


def status(url: str, **headers: str) -> int:
    return httpx.get(url, headers=headers, trust_env=False, timeout=30).status_code


def test_from_document_to_dashboard(open_page: Callable[..., Page], platform: Platform) -> None:
    publisher, developer, mailbox = open_page(), open_page(), open_page()
    sign_in(publisher, platform, *platform.account("publisher"))
    publish(publisher, platform, "httpbin.org.json", "/journey/v1")

    sign_up(developer, platform, mailbox, "newcomer@builders.example")
    key = get_key(developer, platform)
    call = f"{platform.gateway}/journey/v1/get"

    # The four answers of the plain road.
    wait_for(lambda: status(call, **{"X-Api-Key": key}) == 200, what="the key opens the gateway")
    answer = httpx.get(call, headers={"X-Api-Key": key}, trust_env=False, timeout=30)
    assert answer.json()["url"].endswith("/get"), "httpbin's own body"
    expect(developer.locator("#first-call")).to_contain_text("Your first request arrived", timeout=60 * SECONDS)
    assert status(call) == 401
    assert status(call, **{"X-Api-Key": key[:-1] + ("a" if key[-1] != "a" else "b")}) == 401
    limited = over_the_limit(call, key)
    assert int(limited.headers["Retry-After"]) >= 1

    # The developer sees the calls of their keys; calls without one are the publisher's to see.
    see_requests(developer, f"{platform.web}/apps/requests/", {"200", "429"})
    see_requests(publisher, f"{platform.web}/insights/requests/", {"200", "401", "429"})
    see_on_dashboard(publisher, platform)
    revoke(developer, platform, call, key)


def over_the_limit(call: str, key: str) -> httpx.Response:
    with httpx.Client(headers={"X-Api-Key": key}, trust_env=False, timeout=30) as client:
        for _ in range(100):
            answer = client.get(call)
            if answer.status_code == 429:
                return answer
    raise AssertionError("the Free plan allows 60 calls a minute; a hundred went through")


def see_requests(page: Page, address: str, statuses: set[str]) -> None:
    """The list shows what happened, refusals and all."""

    def shown() -> bool:
        page.goto(address)
        page.wait_for_load_state("networkidle")
        text = page.locator("main").inner_text()
        return all(re.search(rf"\b{code}\b", text) for code in statuses)

    wait_for(shown, 60, what=f"{statuses} in the list of requests")


def see_on_dashboard(page: Page, platform: Platform) -> None:
    def counted() -> bool:
        page.goto(f"{platform.web}/insights/apis/journey/?range=1h")
        page.wait_for_load_state("networkidle")
        return bool(re.search(r"/get\b", page.locator("main").inner_text()))

    wait_for(counted, 60, what="the calls on the dashboard")


def revoke(page: Page, platform: Platform, call: str, key: str) -> None:
    page.goto(f"{platform.web}/apps/")
    page.get_by_role("main").locator("a[href^='/apps/']").filter(has_not_text="new").first.click()
    confirm = page.locator("form[action$='/revoke/']").first
    confirm.locator("xpath=ancestor::details/summary").click()
    confirm.get_by_role("button", name="Revoke key").click()
    took = wait_for(lambda: status(call, **{"X-Api-Key": key}) == 401, what="the revoked key is refused")
    assert took < 1.5
    answer: dict[str, Any] = httpx.get(call, headers={"X-Api-Key": key}, trust_env=False, timeout=30).json()
    assert answer["code"] == "key_revoked"
