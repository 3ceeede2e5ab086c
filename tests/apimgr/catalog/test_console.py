"""The console's pages: the road from a document to a published version, and what goes wrong on it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from pytest_django.fixtures import DjangoAssertNumQueries

from apimgr.accounts.models import User
from apimgr.catalog.models import Version, VersionState
from tests.factories import make_api, make_plan, make_product, make_version

DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Orders", "version": "2.4"},
    "servers": [{"url": "https://example.com/v2"}],
    "paths": {"/orders": {"get": {"summary": "List orders", "responses": {"200": {"description": "OK"}}}}},
}


@pytest.fixture
def console(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def upload(console: Client, content: bytes, **data: Any) -> Any:
    file = SimpleUploadedFile("orders.json", content)
    return console.post(
        "/console/apis/new/",
        {"source": "upload", "document": file, "version": "v1", "organisation": "acme", **data},
    )


def test_a_document_becomes_a_draft_named_after_itself(console: Client) -> None:
    response = upload(console, json.dumps(DOCUMENT).encode())
    assert response["Location"] == "/console/apis/orders/versions/v1/check/"
    page = console.get(response["Location"]).content.decode()
    assert "List orders" in page
    version = Version.objects.get()
    assert (version.state, version.route.base_path) == (VersionState.DRAFT, "/orders/v1")


def test_pasted_text_does_as_well(console: Client) -> None:
    data = {"source": "paste", "text": json.dumps(DOCUMENT), "version": "v1", "organisation": "acme"}
    assert console.post("/console/apis/new/", data).status_code == 302


def test_a_bad_document_says_so_beside_its_field_and_a_named_draft_stays(console: Client) -> None:
    response = upload(console, b"{", name="Orders")
    assert response.status_code == 422
    assert response.context["form"].errors["document"]
    assert Version.objects.get().api.name == "Orders"
    again = console.post("/console/apis/orders/versions/v1/source/", {"source": "paste", "text": json.dumps(DOCUMENT)})
    assert again["Location"] == "/console/apis/orders/versions/v1/check/"


def test_a_bad_document_without_a_name_is_a_draft_named_after_its_file(console: Client) -> None:
    response = upload(console, b"not: openapi")
    assert response.status_code == 422
    assert Version.objects.get().api.name == "orders"


def test_a_private_address_is_refused_at_its_field(console: Client) -> None:
    data = {
        "source": "url",
        "url": "http://127.0.0.1:9/x.json",
        "name": "Orders",
        "version": "v1",
        "organisation": "acme",
    }
    response = console.post("/console/apis/new/", data)
    assert response.status_code == 422
    assert "url" in response.context["form"].errors


def test_nothing_chosen_is_said_at_the_chosen_source(console: Client) -> None:
    response = console.post("/console/apis/new/", {"source": "paste", "version": "v1", "organisation": "acme"})
    assert list(response.context["form"].errors) == ["text"]


def test_a_taken_route_is_named(console: Client, alice: User) -> None:
    acme = alice.memberships.get().organisation
    make_version(make_api(acme, "Other"))
    draft = make_version(make_api(acme, "Mine"), state="draft")
    response = console.post(
        f"/console/apis/mine/versions/{draft.name}/address/",
        {"base_path": "/other/v1", "url": "https://8.8.8.8", "connect_timeout_ms": 5000, "read_timeout_ms": 30000},
    )
    assert response.status_code == 422
    assert "Other v1" in response.context["form"].errors["base_path"][0]


def test_the_connection_test_shows_what_came_back(console: Client, alice: User) -> None:
    make_version(make_api(alice.memberships.get().organisation, "Mine"), state="draft")
    url = "/console/apis/mine/versions/v1/address/test/"
    panel = console.post(url, {"url": "http://10.0.0.1"}, headers={"HX-Request": "true"})
    assert "No answer" in panel.content.decode()
    assert "<html" not in panel.content.decode()
    whole = console.post(url, {"url": "http://10.0.0.1"}).content.decode()
    assert "No answer" in whole
    assert "<html" in whole


def test_a_version_lives_and_ends(console: Client, alice: User, settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    version = make_version(make_api(alice.memberships.get().organisation, "Mine"), state="draft")
    make_plan(make_product(version))
    Version.objects.update(state="draft")
    base = "/console/apis/mine/versions/v1/"
    assert console.post(f"{base}publish/")["Location"] == "/console/apis/mine/?published=v1"
    for move, state in [
        ("deprecate", "deprecated"),
        ("restore", "published"),
        ("deprecate", "deprecated"),
        ("retire", "retired"),
    ]:
        console.post(f"{base}{move}/", {"sunset_at": "2099-01-31"})
        version.refresh_from_db()
        assert version.state == state
    assert console.get(f"{base}address/").status_code == 409


def test_an_incomplete_version_says_what_is_missing(console: Client, alice: User) -> None:
    api = make_api(alice.memberships.get().organisation, "Mine")
    Version.objects.create(api=api, name="v1")
    response = console.post("/console/apis/mine/versions/v1/publish/", follow=True)
    assert response.redirect_chain[-1][0] == "/console/apis/mine/versions/v1/preview/"
    assert "There is no OpenAPI document yet." in response.content.decode()


def test_a_document_is_given_back_as_it_came(console: Client) -> None:
    content = json.dumps(DOCUMENT, indent=3).encode()
    upload(console, content)
    specification = Version.objects.get().specification
    assert specification is not None
    response = console.get(f"/console/apis/orders/documents/{specification.public_id}/")
    assert response.content == content
    assert "attachment" in response["Content-Disposition"]


def test_the_list_costs_the_same_for_many(
    console: Client, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    acme = alice.memberships.get().organisation
    for number in range(20):
        make_version(make_api(acme, f"API number {number}"))
    console.get("/console/apis/")  # the first page of a session writes the session down, too
    with django_assert_max_num_queries(15):
        assert console.get("/console/apis/").status_code == 200
    assert "No APIs match" in console.get("/console/apis/?q=zebra").content.decode()


def test_the_console_is_shut_to_developers(client: Client, dev: User) -> None:
    client.force_login(dev)
    assert client.get("/console/").status_code == 403
    assert client.get("/console/apis/new/").status_code == 403
