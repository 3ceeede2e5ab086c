"""The operator's pages of people, and the same by REST."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from playwright.sync_api import Page, expect

from apimgr.accounts.models import Organisation, Role, User
from apimgr.accounts.services import issue_api_token
from apimgr.contracts.snapshot import OrganisationDocument
from portal.models import Application
from tests.browser import every_look, look, sign_in
from tests.changes import last_word
from tests.factories import make_member, make_organisation, make_user


def page_of(user: User) -> str:
    return f"/ops/people/{user.public_id}/"


def test_people_are_found_by_name_address_and_state(as_olga: Client, dev: User, charlie: User) -> None:
    User.objects.filter(pk=charlie.pk).update(is_active=False)
    page = as_olga.get("/ops/people/").content.decode()
    assert "dev@example.com" in page
    assert "charlie@example.com" in page
    for query in ("?q=dev", "?q=DEV@exam", "?state=active&q=dev"):
        found = as_olga.get(f"/ops/people/{query}").content.decode()
        assert "dev@example.com" in found
        assert "charlie@example.com" not in found
    disabled = as_olga.get("/ops/people/?state=disabled").content.decode()
    assert "charlie@example.com" in disabled
    assert "dev@example.com" not in disabled
    assert "No people match" in as_olga.get("/ops/people/?q=nobody").content.decode()


def test_people_go_on_over_pages(as_olga: Client) -> None:
    for number in range(51):
        make_user(f"many{number:02}")
    first = as_olga.get("/ops/people/?q=many")
    assert "Many00" not in first.content.decode()
    older = as_olga.get(f"/ops/people/?q=many&before={first.context['older']}").content.decode()
    assert "Many00" in older
    assert "Many50" not in older


def test_pages_cost_no_query_each(as_olga: Client, dev: User) -> None:
    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            as_olga.get(path)
        return len(queries)

    paths = ("/ops/people/", page_of(dev), "/ops/organisations/builders/")
    one = [count(path) for path in (*paths, *paths)][3:]
    for number in range(19):
        own = make_organisation(f"Many {number:02}", is_publisher=False)
        make_member(make_user(), own, Role.ADMINISTRATOR)
        make_member(dev, own, Role.DEVELOPER)
        make_member(make_user(), Organisation.objects.get(slug="builders"), Role.DEVELOPER)
        Application.objects.create(organisation=own, name="Shop")
    assert [count(path) for path in paths] == one


@pytest.mark.requirement("K8.3")
def test_one_is_disabled_and_enabled(as_olga: Client, application: Application, dev: User) -> None:
    page = as_olga.get(page_of(dev)).content.decode()
    assert "Builders has no other active owner: every call of its application is refused" in page
    response = as_olga.post(f"{page_of(dev)}state/", {"move": "disable"})
    assert response["Location"] == f"{page_of(dev)}?changed=1"
    builders = application.organisation
    assert last_word("organisation", builders.pk) == OrganisationDocument(builders.pk, "suspended")
    page = as_olga.get(response["Location"]).content.decode()
    assert "Olga disabled the account Dev" in page
    assert f"/ops/receipts/organisations/{builders.public_id}/" in page
    for path in ("/ops/organisations/", "/ops/organisations/builders/"):
        assert "No active owner" in as_olga.get(path).content.decode()
    as_olga.post("/ops/organisations/builders/state/", {"move": "suspend"})
    resumed = as_olga.post("/ops/organisations/builders/state/", {"move": "resume"}, follow=True)
    assert "may call again" not in resumed.content.decode(), "it still has no owner"
    assert last_word("organisation", builders.pk).state == "suspended"
    as_olga.post(f"{page_of(dev)}state/", {"move": "enable"})
    assert last_word("organisation", builders.pk).state == "active"
    assert "Disable account" in as_olga.get(page_of(dev)).content.decode()


def test_what_others_own_goes_on(as_olga: Client, application: Application, dev: User) -> None:
    make_member(make_user("deborah"), application.organisation, Role.DEVELOPER)
    assert "No calls stop" in as_olga.get(page_of(dev)).content.decode()
    as_olga.post(f"{page_of(dev)}state/", {"move": "disable"})
    assert "No calls were stopped" in as_olga.get(page_of(dev)).content.decode()


def test_the_page_says_what_cannot_be(as_olga: Client, olga: User, dev: User) -> None:
    assert "Disable account" not in as_olga.get(page_of(olga)).content.decode()
    refused = as_olga.post(f"{page_of(olga)}state/", {"move": "disable"}, follow=True).content.decode()
    assert "Nobody disables themself. Ask another operator." in refused
    assert as_olga.post(f"{page_of(dev)}state/", {"move": "delete"}).status_code == 422
    dev.refresh_from_db()
    assert dev.is_active


def test_by_rest(client: Client, olga: User, dev: User, application: Application) -> None:
    own = make_member(olga, make_organisation("Ops", is_publisher=False), Role.ADMINISTRATOR).organisation
    _token, secret = issue_api_token(actor=olga, organisation=own, name="Script")
    headers = {"Authorization": f"Bearer {secret}"}
    path = f"/api/v1/ops/people/{dev.public_id}"
    for move, state in (("disable", "disabled"), ("enable", "active"), ("disable", "disabled")):
        answer = client.post(f"{path}/{move}", {}, content_type="application/json", headers=headers)
        assert answer.json()["state"] == state
        assert client.get(path, headers=headers).json()["state"] == state
    listed = client.get("/api/v1/ops/people?q=dev&state=disabled", headers=headers).json()["results"]
    assert [(row["email"], row["organisations"]) for row in listed] == [("dev@example.com", 1)]
    (owner,) = client.get("/api/v1/ops/organisations?q=builders", headers=headers).json()["results"]
    assert (owner["state"], owner["is_ownerless"]) == ("active", True)
    own = f"/api/v1/ops/people/{olga.public_id}/disable"
    refused = client.post(own, {}, content_type="application/json", headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "own_account")


@every_look
def test_the_pages_look_right(
    browser_page: Page, live_server: Any, olga: User, dev: User, application: Application, acme: Organisation
) -> None:
    make_member(dev, acme, Role.VIEWER)
    sign_in(browser_page, live_server, olga)
    browser_page.goto(f"{live_server.url}/ops/people/")
    look(browser_page, "ops-people")
    browser_page.get_by_role("link", name="Dev").click()
    browser_page.wait_for_load_state("networkidle")
    browser_page.locator("summary", has_text="Disable account").focus()
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("No calls in the last 7 days.")).to_be_visible()
    look(browser_page, "ops-person-confirm")
    browser_page.get_by_role("button", name="Disable account").click()
    expect(browser_page.get_by_text("Olga disabled the account Dev")).to_be_visible()
    expect(browser_page.get_by_text("No gateway node is connected")).to_be_visible()
    look(browser_page, "ops-person-disabled")
    browser_page.get_by_role("link", name="Builders").click()
    browser_page.wait_for_load_state("networkidle")
    look(browser_page, "ops-organisation-ownerless")
