"""An API that anybody may call: the portal asks for no key and offers none."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apimgr.accounts.models import Organisation, User
from apimgr.catalog.models import API, GatewaySettings, Version
from apimgr.catalog.services.publication import freeze
from apimgr.products.models import ApiLimit, Plan
from portal import services
from portal.reference import public_document
from portal.samples import SampleCall
from tests.apimgr.catalog.test_api import Caller
from tests.factories import make_version

ASKS = ("X-Api-Key", "YOUR_API_KEY", "Get access", "Access at once")


@pytest.fixture
def opened(version: Version, plan: Plan) -> Version:
    return open_up(version)


def open_up(version: Version) -> Version:
    GatewaySettings.objects.create(version=version, authentication="none")
    version.deployed_revision = freeze(None, version)
    version.save()
    return version


def test_a_draft_that_asks_for_none_is_not_in_force(client: Client, version: Version, plan: Plan) -> None:
    version.deployed_revision = freeze(None, version)
    version.save()
    GatewaySettings.objects.create(version=version, authentication="none")
    assert "YOUR_API_KEY" in client.get("/apis/orders/").content.decode()


def test_its_page_asks_for_nothing(client: Client, opened: Version, api: API) -> None:
    ApiLimit.objects.create(api=api, kind="rate", amount=70, period="minute")
    page = client.get("/apis/orders/").content.decode()
    assert "No key needed: anybody may call it, without an account." in page
    assert "For all callers together." in page
    assert "curl " in page
    for asked in ASKS:
        assert asked not in page


def test_an_api_with_a_key_still_asks(client: Client, plan: Plan) -> None:
    page = client.get("/apis/orders/").content.decode()
    for asked in ASKS:
        assert asked in page
    assert "No key needed" not in page


def test_where_only_some_versions_need_one_the_page_says_which(client: Client, opened: Version, api: API) -> None:
    plan = opened.products.get().plans.get()
    other = make_version(api, "v2", state="deprecated")
    plan.product.versions.add(other)
    page = client.get("/apis/orders/").content.decode()
    assert "anybody may call v1, without an account. Other versions want one." in page
    assert page.count(">No key needed<") == 1
    assert "Get access" in page
    assert "YOUR_API_KEY" not in page


def test_its_reference_has_no_way_in(client: Client, opened: Version) -> None:
    page = client.get("/apis/orders/v1/reference/").content.decode()
    assert "No key needed" in page
    assert "Get access" not in page
    document = client.get("/apis/orders/v1/openapi.json").json()
    assert (document["security"], document["components"]["securitySchemes"]) == ([], {})


@pytest.mark.parametrize("given", [{"swagger": "2.0"}, {"openapi": "3.1.0"}])
def test_a_document_declares_a_key_where_one_is_needed(given: dict[str, Any]) -> None:
    for needs_key, security in ((True, [{"apiKey": []}]), (False, [])):
        public = public_document(given, "https://api.example", needs_key=needs_key)
        assert public["security"] == security
        schemes = public.get("securityDefinitions", public.get("components", {}).get("securitySchemes"))
        assert list(schemes) == [name for entry in security for name in entry]


def test_its_document_keeps_the_ways_in_that_the_publisher_states(client: Client, opened: Version) -> None:
    specification = opened.specification
    assert specification is not None
    oauth = {"type": "openIdConnect", "openIdConnectUrl": "https://id.acme.example/.well-known/openid-configuration"}
    ways = {"security": [{"login": []}], "components": {"securitySchemes": {"login": oauth}}}
    specification.document |= ways
    specification.save()
    document = client.get("/apis/orders/v1/openapi.json").json()
    assert {name: document[name] for name in ways} == ways


def test_samples_carry_no_key() -> None:
    call = SampleCall("GET", "/a", "https://api.example/a", "", is_ready=True, needs_key=False)
    assert call.curl("k") == "curl https://api.example/a"
    assert "headers={}," in call.python("k")
    assert "headers: {}," in call.javascript("k")


def test_there_is_no_access_to_get(as_dev: Client, opened: Version) -> None:
    response = as_dev.get("/apis/orders/access/", follow=True)
    assert response.redirect_chain == [("/apis/orders/", 302)]
    assert "Orders needs no key: anybody may call it." in response.content.decode()
    assert as_dev.post("/apis/orders/access/").status_code == 302


def test_no_first_call_is_awaited_that_nobody_could_tell(
    as_dev: Client, dev: User, builders: Organisation, version: Version, plan: Plan
) -> None:
    """Who got a key before the API was opened has no use for it there, and would wait for ever."""
    started = services.quick_start(actor=dev, plan=plan)
    assert started.credential is not None
    path = f"/start/{started.credential.public_id}/"
    assert as_dev.get(path).status_code == 200
    open_up(version)
    assert as_dev.get(path).status_code == 302


def test_rest_says_so(dev: User, builders: Organisation, opened: Version, api: API) -> None:
    make_version(api, "v2")
    (offered,) = Caller(dev, builders)("get", "catalogue")["results"]
    assert {version["name"]: version["needs_key"] for version in offered["versions"]} == {"v1": False, "v2": True}
