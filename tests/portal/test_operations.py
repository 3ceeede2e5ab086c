"""The operator's switches: an organisation's calls, an application's; and the publisher's for a subscription."""

from __future__ import annotations

import re
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from playwright.sync_api import Page, expect

from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import issue_api_token
from apimgr.audit.models import AuditEntry
from apimgr.products.models import Limit, Plan
from portal.models import Application, Subscription
from tests.browser import every_look, look, sign_in
from tests.changes import last_word
from tests.factories import make_member, make_organisation, make_user


class TestOrganisations:
    path = "/ops/organisations/builders/"

    def test_are_found_by_name_and_by_a_member_s_address(
        self, as_olga: Client, application: Application, acme: Organisation
    ) -> None:
        page = as_olga.get("/ops/organisations/").content.decode()
        assert "Builders" in page
        assert "Acme" in page
        for query in ("?q=buil", "?q=dev@example", "?state=active&q=builders"):
            found = as_olga.get(f"/ops/organisations/{query}").content.decode()
            assert "Builders" in found
            assert not re.search(r"\bAcme\b", found), "as a word: a token holds any letters"
        for query in ("?q=nobody", "?state=suspended"):
            assert "No organisations match" in as_olga.get(f"/ops/organisations/{query}").content.decode()

    def test_go_on_over_pages(self, as_olga: Client) -> None:
        for number in range(51):
            make_organisation(f"Many {number:02}")
        first = as_olga.get("/ops/organisations/?q=many")
        assert "Many 00" not in first.content.decode()
        older = as_olga.get(f"/ops/organisations/?q=many&before={first.context['older']}").content.decode()
        assert "Many 00" in older
        assert "Many 50" not in older

    def test_cost_no_query_each(self, as_olga: Client, builders: Organisation) -> None:
        def count() -> int:
            with CaptureQueriesContext(connection) as queries:
                as_olga.get("/ops/organisations/")
            return len(queries)

        count()
        one = count()
        for number in range(19):
            owner = make_organisation(f"Many {number:02}", is_publisher=False)
            make_member(make_user(), owner, "administrator")
            Application.objects.create(organisation=owner, name="Shop")
        assert count() == one

    def test_one_is_suspended_and_resumed(self, as_olga: Client, application: Application, dev: User) -> None:
        builders = application.organisation
        response = as_olga.post(f"{self.path}state/", {"move": "suspend"})
        assert response["Location"] == f"{self.path}?changed={builders.public_id}"
        assert last_word("organisation", builders.pk).state == "suspended"
        page = as_olga.get(response["Location"]).content.decode()
        assert "Olga suspended the organisation Builders" in page
        assert f"/ops/receipts/organisations/{builders.public_id}/" in page
        assert AuditEntry.objects.filter(action="accounts.organisation.suspended").count() == 1
        developer = Client()
        developer.force_login(dev)
        assert "Builders is suspended" in developer.get(f"/apps/{application.public_id}/").content.decode()
        as_olga.post(f"{self.path}state/", {"move": "resume"})
        assert last_word("organisation", builders.pk).state == "active"
        assert "Suspend organisation" in as_olga.get(self.path).content.decode()

    def test_no_other_move_is_known(self, as_olga: Client, builders: Organisation) -> None:
        assert as_olga.post(f"{self.path}state/", {"move": "delete"}).status_code == 422
        builders.refresh_from_db()
        assert builders.state == "active"

    def test_an_application_is_suspended_and_resumed(self, as_olga: Client, application: Application) -> None:
        path = f"/ops/applications/{application.public_id}/state/"
        response = as_olga.post(path, {"move": "suspend"})
        assert response["Location"] == f"{self.path}?changed={application.public_id}"
        assert last_word("application", application.pk).state == "suspended"
        page = as_olga.get(response["Location"]).content.decode()
        assert f"/ops/receipts/applications/{application.public_id}/" in page
        as_olga.post(path, {"move": "resume"})
        assert last_word("application", application.pk).state == "active"

    def test_by_rest(self, client: Client, olga: User, application: Application) -> None:
        own = make_member(olga, make_organisation("Ops", is_publisher=False), "administrator").organisation
        _token, secret = issue_api_token(actor=olga, organisation=own, name="Script")
        headers = {"Authorization": f"Bearer {secret}"}
        listed = client.get("/api/v1/ops/organisations?q=builders", headers=headers).json()["results"]
        assert [(row["slug"], row["state"], row["applications"]) for row in listed] == [("builders", "active", 1)]
        for move, state in (("suspend", "suspended"), ("resume", "active")):
            for path in ("organisations/builders", f"applications/{application.public_id}"):
                answer = client.post(f"/api/v1/ops/{path}/{move}", {}, content_type="application/json", headers=headers)
                assert answer.json()["state"] == state


def test_a_publisher_is_told_what_a_suspended_subscription_cuts_off(
    client: Client, oscar: User, application: Application, plan: Plan
) -> None:
    subscription = Subscription.objects.create(application=application, plan=plan, product=plan.product, state="active")
    client.force_login(oscar)
    page = client.get("/console/apis/orders/consumers/").content.decode()
    assert "Suspend Shop?" in page
    assert f"/insights/panels/applications/{application.public_id}/activity/" in page
    decide = f"/console/subscriptions/{subscription.public_id}/decide/"
    for move, state in (("suspend", "suspended"), ("resume", "active"), ("cancel", "cancelled")):
        client.post(decide, {"move": move})
        subscription.refresh_from_db()
        assert subscription.state == state


@every_look
def test_the_pages_look_right(
    browser_page: Page, live_server: Any, olga: User, oscar: User, dev: User, application: Application, plan: Plan
) -> None:
    Limit.objects.create(plan=plan, kind="quota", amount=100_000, period="billing")
    Application.objects.create(organisation=application.organisation, name="Till", state="suspended")
    Subscription.objects.create(
        application=application, plan=plan, product=plan.product, state="active", billing_from=timezone.now()
    )
    sign_in(browser_page, live_server, olga)
    browser_page.goto(f"{live_server.url}/ops/organisations/")
    look(browser_page, "ops-organisations")
    browser_page.get_by_role("link", name="Builders").click()
    browser_page.wait_for_load_state("networkidle")
    summary = browser_page.locator("summary", has_text="Suspend organisation")
    summary.focus()
    browser_page.keyboard.press("Enter")
    expect(browser_page.get_by_text("No calls in the last 7 days.")).to_be_visible()
    look(browser_page, "ops-organisation-confirm")
    browser_page.get_by_role("button", name="Suspend organisation").click()
    expect(browser_page.get_by_text("Olga suspended the organisation Builders")).to_be_visible()
    expect(browser_page.get_by_text("No gateway node is connected")).to_be_visible()
    look(browser_page, "ops-organisation-suspended")
    sign_in(browser_page, live_server, dev)
    browser_page.goto(f"{live_server.url}/apps/{application.public_id}/")
    expect(browser_page.get_by_text("Builders is suspended")).to_be_visible()
    look(browser_page, "application-suspended")
    sign_in(browser_page, live_server, oscar)
    browser_page.goto(f"{live_server.url}/console/apis/orders/consumers/")
    browser_page.locator("summary", has_text="Suspend").click()
    expect(browser_page.get_by_text("Suspend Shop?")).to_be_visible()
    look(browser_page, "consumers-suspend")
