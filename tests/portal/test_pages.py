"""The portal's pages as somebody without JavaScript meets them."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog import services as catalog
from apimgr.catalog.models import API
from apimgr.contracts.credentials import KEY_PATTERN
from apimgr.contracts.outcomes import OUTCOMES, Outcome
from apimgr.products.models import Plan
from portal import services
from portal.models import Application, Credential, Subscription
from tests.factories import make_api, make_plan, make_product, make_version

KEY = re.compile(KEY_PATTERN)


def text(client: Client, path: str) -> str:
    response = client.get(path)
    assert response.status_code == 200, (path, response.status_code)
    return response.content.decode()


class TestPublicPages:
    def test_home_features_apis(self, client: Client, plan: Plan) -> None:
        assert reverse("portal:api", args=["orders"]) in text(client, "/")

    def test_catalogue_searches(self, client: Client, plan: Plan, acme: Organisation) -> None:
        make_version(make_api(acme, "Invoices"))
        assert "Invoices" in text(client, "/apis/")
        found = text(client, "/apis/?q=parc")
        assert "Orders and parcels" in found
        assert "Invoices" not in found
        assert "No API matches" in text(client, "/apis/?q=nothing")

    def test_as_one_types_the_list_alone_comes(self, client: Client, plan: Plan) -> None:
        body = client.get("/apis/", {"q": "ord"}, headers={"HX-Request": "true"}).content.decode()
        assert "Orders" in body
        assert "<html" not in body

    def test_an_api_shows_what_the_gateway_enforces(self, client: Client, gold: Plan) -> None:
        page = text(client, "/apis/orders/")
        for limit in ("60 per minute", "10,000 per month", "600 per minute"):
            assert limit in page
        assert "<strong>my parcel</strong>" in page
        assert "http://localhost:8080/orders/v1" in page

    @pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.code)
    def test_every_outcome_has_its_page(self, client: Client, outcome: Outcome) -> None:
        page = text(client, reverse("portal:docs-outcome", args=[outcome.code]))
        assert outcome.title in html.unescape(page)
        for heading in ("What happened", "What to do", "What the owner sees"):
            assert f"<h2>{heading}</h2>" in page
        assert ".md" not in page, "a link out of the repository leads nowhere here"

    def test_an_unknown_outcome_has_none(self, client: Client) -> None:
        assert client.get("/docs/outcomes/nonsense/").status_code == 404

    def test_an_api_says_how_to_choose_its_version(self, client: Client, plan: Plan, api: API) -> None:
        catalog.set_selection(
            actor=None, api=api, select_by="header", name="X-Api-Version", base_path="/shared", values={"v1": "1"}
        )
        page = text(client, "/apis/orders/")
        assert "http://localhost:8080/shared" in page
        assert "/orders/v1<" not in page
        assert "X-Api-Version: 1" in page
        assert "A call without it is refused." in page
        assert "X-Api-Version: 1" in text(client, "/apis/orders/v1/reference/")
        document = client.get("/apis/orders/v1/openapi.json")
        assert document.json()["servers"] == [{"url": "http://localhost:8080/shared"}]
        assert document.json()["paths"]["/get"]["parameters"][0]["name"] == "X-Api-Version"
        catalog.set_selection(
            actor=None, api=api, select_by="query", name="v", base_path="/shared", default_version="v1"
        )
        page = text(client, "/apis/orders/")
        assert "/shared/get?v=1" in page
        assert "Without it you get v1" in page
        assert client.get("/apis/orders/v1/openapi.json")["ETag"] != document["ETag"]

    def test_hidden_plans_stay_hidden(self, client: Client, plan: Plan) -> None:
        make_plan(plan.product, "Partner", is_internal=True)
        assert "Partner" not in text(client, "/apis/orders/")

    @pytest.mark.parametrize("fields", [{"visibility": "private"}, {}])
    def test_private_and_drafts_are_not_there(self, client: Client, acme: Organisation, fields: dict[str, str]) -> None:
        make_version(make_api(acme, "Hidden", **fields), state="published" if fields else "draft")
        for path in ("/apis/hidden/", "/apis/hidden/v1/reference/", "/apis/hidden/v1/openapi.json"):
            assert client.get(path).status_code == 404

    def test_the_reference_lists_operations_without_a_script(self, client: Client, plan: Plan) -> None:
        response = client.get("/apis/orders/v1/reference/")
        assert "/get" in response.content.decode()
        policy = response["Content-Security-Policy"]
        assert "style-src 'self' 'unsafe-inline'" in policy
        assert "script-src 'self';" in f"{policy};"

    def test_only_the_reference_relaxes_the_policy(self, client: Client, plan: Plan) -> None:
        assert "unsafe" not in client.get("/apis/orders/")["Content-Security-Policy"]

    def test_the_document_names_the_gateway_alone(self, client: Client, plan: Plan) -> None:
        response = client.get("/apis/orders/v1/openapi.json")
        document = response.json()
        assert document["servers"] == [{"url": "http://localhost:8080/orders/v1"}]
        assert document["components"]["securitySchemes"]["apiKey"]["name"] == "X-Api-Key"
        again = client.get("/apis/orders/v1/openapi.json", headers={"If-None-Match": response["ETag"]})
        assert again.status_code == 304


class TestGetAccess:
    def test_a_visitor_signs_up_and_comes_back(self, client: Client, plan: Plan) -> None:
        response = client.get("/apis/orders/access/")
        assert response["Location"] == f"{reverse('account_signup')}?next={quote('/apis/orders/access/', safe='')}"

    def test_one_click_to_the_key(self, as_dev: Client, plan: Plan) -> None:
        assert "10,000 per month" in text(as_dev, "/apis/orders/access/")
        response = as_dev.post("/apis/orders/access/", {"plan": plan.pk})
        page = response.content.decode()
        assert response.status_code == 200
        assert response["Cache-Control"].find("no-store") >= 0
        key = KEY.search(page)
        assert key is not None
        assert f"X-Api-Key: {key[0]}" in page.replace("&#x27;", "'")
        assert "http://localhost:8080/orders/v1/get" in page
        assert Subscription.objects.get().state == "active"

    def test_the_key_is_shown_once(self, as_dev: Client, plan: Plan) -> None:
        """A crawl of everything the developer can open, and a look at everything stored, finds no key (K6)."""
        page = as_dev.post("/apis/orders/access/", {"plan": plan.pk}).content.decode()
        key = KEY.search(page)
        assert key is not None
        seen, waiting = (
            set(),
            ["/", "/apps/", "/start/", "/apis/orders/access/", f"/start/{Credential.objects.get().public_id}/"],
        )
        while waiting and len(seen) < 80:
            path = waiting.pop()
            if path in seen:
                continue
            seen.add(path)
            response = as_dev.get(path, follow=True)
            body = b"".join(response) if response.streaming else response.content
            assert key[0].encode() not in body, path
            waiting += re.findall(r'href="(/(?!static|accounts)[^"#]*)"', body.decode(errors="ignore"))
        assert len(seen) > 10
        stored = repr(list(Credential.objects.values())) + repr(list(AuditEntry.objects.values()))
        assert key[0] not in stored + repr(dict(as_dev.session))

    def test_sending_the_form_again_shows_no_key(self, as_dev: Client, plan: Plan) -> None:
        first = as_dev.post("/apis/orders/access/", {"plan": plan.pk})
        application = Application.objects.get()
        again = as_dev.post("/apis/orders/access/", {"plan": plan.pk, "application": application.pk})
        assert KEY.search(first.content.decode())
        assert not KEY.search(again.content.decode())
        assert "YOUR_API_KEY" in again.content.decode()
        assert Credential.objects.count() == Subscription.objects.count() == 1

    def test_a_plan_that_asks_says_so(self, as_dev: Client, gold: Plan) -> None:
        page = as_dev.post("/apis/orders/access/", {"plan": gold.pk}).content.decode()
        assert "Waiting for approval" in page

    def test_an_unknown_plan_is_refused(self, as_dev: Client, plan: Plan) -> None:
        hidden = make_plan(plan.product, "Partner", is_internal=True)
        assert as_dev.post("/apis/orders/access/", {"plan": hidden.pk}).status_code == 422
        assert not Application.objects.exists()

    def test_strangers_applications_cannot_be_chosen(self, as_dev: Client, plan: Plan, charlie: User) -> None:
        theirs = services.quick_start(actor=charlie, plan=plan).application
        assert as_dev.post("/apis/orders/access/", {"plan": plan.pk, "application": theirs.pk}).status_code == 422


class TestApplications:
    @pytest.fixture
    def started(self, dev: User, plan: Plan) -> services.QuickStart:
        return services.quick_start(actor=dev, plan=plan)

    def test_none_yet(self, as_dev: Client) -> None:
        assert "No application yet" in text(as_dev, "/apps/")

    def test_is_created_and_renamed(self, as_dev: Client) -> None:
        response = as_dev.post("/apps/new/", {"name": "Shop", "description": ""})
        application = Application.objects.get()
        assert response["Location"] == f"/apps/{application.public_id}/"
        assert as_dev.post("/apps/new/", {"name": "Shop"}).status_code == 422
        as_dev.post(f"/apps/{application.public_id}/settings/", {"name": "Store"})
        assert "Store" in text(as_dev, "/apps/")

    def test_a_new_key_is_shown_once(self, as_dev: Client, started: services.QuickStart) -> None:
        path = f"/apps/{started.application.public_id}/"
        response = as_dev.post(f"{path}keys/", {"name": "CI"})
        key = KEY.search(response.content.decode())
        assert key is not None
        assert "no-store" in response["Cache-Control"]
        assert not KEY.search(text(as_dev, path))

    def test_a_key_is_revoked(self, as_dev: Client, started: services.QuickStart) -> None:
        assert started.credential is not None
        as_dev.post(f"/keys/{started.credential.public_id}/revoke/")
        started.credential.refresh_from_db()
        assert started.credential.state == "revoked"

    def test_plan_and_end_of_a_subscription(self, as_dev: Client, started: services.QuickStart) -> None:
        pro = make_plan(started.subscription.product, "Pro")
        path = f"/subscriptions/{started.subscription.public_id}/"
        as_dev.post(f"{path}plan/", {"plan": pro.public_id})
        started.subscription.refresh_from_db()
        assert started.subscription.plan == pro
        as_dev.post(f"{path}cancel/")
        started.subscription.refresh_from_db()
        assert started.subscription.state == "cancelled"

    @pytest.mark.parametrize("path", ["/apps/", "/apis/"])
    def test_more_rows_ask_no_more_questions(
        self, as_dev: Client, dev: User, acme: Organisation, builders: Organisation, path: str
    ) -> None:
        def grow(count: int) -> None:
            for _ in range(count):
                plan = make_plan(make_product(make_version(make_api(acme))))
                application = services.create_application(actor=dev, organisation=builders, name=plan.product.name)
                services.subscribe(actor=dev, application=application, plan=plan)

        def queries() -> int:
            with CaptureQueriesContext(
                connection,
            ) as captured:
                text(as_dev, path)
            return len(captured)

        grow(1)
        one = queries()
        grow(10)
        assert queries() <= one


class TestPublishersSide:
    @pytest.fixture
    def asked(self, dev: User, gold: Plan) -> Subscription:
        return services.quick_start(actor=dev, plan=gold).subscription

    def test_oscar_approves(self, client: Client, oscar: User, asked: Subscription) -> None:
        client.force_login(oscar)
        assert "My first app" in text(client, "/console/approvals/")
        client.post(f"/console/subscriptions/{asked.public_id}/decide/", {"move": "approve"})
        asked.refresh_from_db()
        assert asked.state == "active"
        assert "My first app" in text(client, "/console/apis/orders/consumers/")

    def test_deciding_twice_says_so(self, client: Client, oscar: User, asked: Subscription) -> None:
        client.force_login(oscar)
        for move in ("reject", "approve"):
            response = client.post(f"/console/subscriptions/{asked.public_id}/decide/", {"move": move}, follow=True)
        assert "cannot be changed" in response.content.decode()

    @pytest.mark.parametrize("back", ["//evil.example", "https://evil.example/", "/\\evil.example"])
    def test_goes_back_to_own_pages_alone(self, client: Client, oscar: User, asked: Subscription, back: str) -> None:
        client.force_login(oscar)
        path = f"/console/subscriptions/{asked.public_id}/decide/"
        assert client.post(path, {"move": "approve", "next": back})["Location"] == "/console/approvals/"

    def test_whose_key_is_this(
        self, client: Client, oscar: User, dev: User, charlie: User, plan: Plan, api: API
    ) -> None:
        started = services.quick_start(actor=dev, plan=plan)
        other, _ = services.issue_credential(
            actor=charlie,
            application=services.create_application(
                actor=charlie, organisation=charlie.memberships.get().organisation, name="Elsewhere"
            ),
        )
        assert started.key is not None
        client.force_login(oscar)
        for asked in (started.key.secret, started.key.prefix):
            assert "My first app" in client.post("/console/keys/", {"key": asked}).content.decode()
        assert "Elsewhere" not in client.post("/console/keys/", {"key": other.prefix}).content.decode()
