"""Revisions on pages and by REST: what was published, what differs, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apimgr.accounts.models import Organisation, User
from apimgr.catalog import services
from apimgr.catalog.models import Version
from tests.apimgr.catalog.test_api import Caller
from tests.apimgr.catalog.test_revisions import change_revision, fresh
from tests.apimgr.catalog.test_revisions import version as version
from tests.factories import make_api, make_version

PAGE = "/console/apis/pet-store/versions/v1/revisions/"
REST = "apis/pet-store/versions/v1"


@pytest.fixture
def console(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def test_the_list_says_what_each_changed(console: Client, version: Version) -> None:
    page = console.get(PAGE).content.decode()
    assert "The first one." in page
    for said in (
        "https://pets.example/api → https://8.8.8.8",
        "30000 → 1000",
        "10 MiB → 1 KiB",
        "Pets 1.0, SHA-256",
        "and 2 more",
    ):
        assert said in page
    assert page.count("Roll back to ") == page.count("Roll back to 1…") == 1, "not to what is live"
    assert "Not published yet" not in page


def test_what_is_not_published_is_shown_beside_what_is_live(console: Client, alice: User, version: Version) -> None:
    services.set_gateway_settings(actor=alice, version=version, authentication="none", upgrades=["websocket"])
    page = console.get(PAGE).content.decode()
    assert "Not published yet" in page
    for said in ("Who may call", "Callers with a key", "Anybody, without a key", "Protocols to switch to", "websocket"):
        assert said in page
    for path in ("/console/apis/pet-store/", "/console/apis/pet-store/gateway/?version=v1"):
        assert f'href="{PAGE}"' in console.get(path).content.decode()


def test_rolling_back_in_one_click(console: Client, version: Version) -> None:
    page = console.get(f"{PAGE}1/").content.decode()
    for said in ("GET /owners", "GET /pets/{id}", "10 MiB", "Roll back to revision 1", "The draft becomes the same."):
        assert said in page
    assert '<input type="hidden" name="instead_of" value="2">' in page
    response = console.post(f"{PAGE}1/restore/", {"instead_of": 2}, follow=True)
    assert response.redirect_chain == [(f"{PAGE}?restored", 302)]
    page = response.content.decode()
    assert "Rolled back: live as revision 3" in page
    assert "Rolled back to revision 1" in page
    assert f"/ops/receipts/versions/{version.public_id}/" in page
    assert "The gateway serves the same already" in console.get(f"{PAGE}1/").content.decode()
    assert "This is what the gateway serves" in console.get(f"{PAGE}3/").content.decode()


def test_a_draft_with_changes_is_said_to_stay(console: Client, alice: User, version: Version) -> None:
    services.set_route(actor=alice, version=version, base_path="/elsewhere")
    assert "The draft has changes that were never published" in console.get(f"{PAGE}1/").content.decode()
    page = console.post(f"{PAGE}1/restore/", {"instead_of": 2}, follow=True).content.decode()
    assert "Not published yet" in page
    assert "/elsewhere" in page


def test_what_is_in_the_way_is_on_the_page(console: Client, version: Version) -> None:
    change_revision(version, upstream={"url": "http://10.1.2.3"})
    assert "It cannot go live as it was" in console.get(f"{PAGE}1/").content.decode()
    response = console.post(f"{PAGE}1/restore/", {"instead_of": 2})
    assert response.status_code == 422
    assert "nothing was changed" in response.content.decode()
    change_revision(version, upstream={"url": "https://8.8.8.8"}, gateway={"cors": []})
    response = console.post(f"{PAGE}1/restore/", {"instead_of": 2})
    assert response.status_code == 422
    assert "The gateway knows no setting “cors”." in response.content.decode()
    assert fresh(version).deployed_revision_id == version.deployed_revision_id


@pytest.mark.parametrize("seen", ["2", "", "two", "²", "9" * 30])
def test_who_looked_before_somebody_published_is_shown_anew(
    console: Client, alice: User, version: Version, seen: str
) -> None:
    services.set_route(actor=alice, version=version, base_path="/moved")
    services.publish_version(actor=alice, version=fresh(version))
    response = console.post(f"{PAGE}1/restore/", {"instead_of": seen})
    assert response.status_code == 409
    page = response.content.decode()
    for said in ("nothing was changed", "Revision 3 went live meanwhile", "/moved", 'name="instead_of" value="3"'):
        assert said in page
    assert [row.number for row in version.revisions.order_by("number")] == [1, 2, 3]
    assert console.post(f"{PAGE}1/restore/", {"instead_of": 3}).status_code == 302
    assert "The gateway serves what revision 1 keeps already" in console.post(f"{PAGE}1/restore/").content.decode()


def test_who_only_looks_is_offered_nothing(client: Client, victor: User, version: Version) -> None:
    client.force_login(victor)
    page = client.get(f"{PAGE}1/").content.decode()
    assert "10 MiB" in page
    assert "Roll back to revision" not in page
    assert client.post(f"{PAGE}1/restore/").status_code == 403


@pytest.mark.parametrize("number", [0, 9, 2**31, 10**30])
def test_there_is_no_such_revision(console: Client, version: Version, number: int) -> None:
    assert console.get(f"{PAGE}{number}/").status_code == 404
    assert console.post(f"{PAGE}{number}/restore/").status_code == 404


def test_a_draft_has_none_yet(console: Client, acme: Organisation) -> None:
    make_version(make_api(acme, "Pet store"), state="draft")
    assert "Nothing was published yet" in console.get(PAGE).content.decode()


def test_many_revisions_cost_as_much_as_one(console: Client, alice: User, version: Version) -> None:
    def asked() -> int:
        console.get(PAGE)
        with CaptureQueriesContext(connection) as caught:
            console.get(PAGE)
        return len(caught)

    few = asked()
    for number in range(8):
        services.restore_revision(actor=alice, version=version, number=1 + number % 2)
    assert asked() == few
    assert few <= 15
    for number in range(12):
        services.restore_revision(actor=alice, version=version, number=1 + number % 2)
    assert "?page=3" in console.get(f"{PAGE}?page=2").content.decode()


def test_the_same_over_rest(alice: User, acme: Organisation, version: Version) -> None:
    call = Caller(alice, acme)
    listed = call("get", f"{REST}/revisions")["results"]
    assert [(row["number"], row["is_live"], row["restored_from"]) for row in listed] == [
        (2, True, None),
        (1, False, None),
    ]
    assert listed[0]["created_by"] == alice.email
    assert call("get", f"{REST}/changes") == []
    detail = call("get", f"{REST}/revisions/1")
    changes = {change["part"]: (change["before"], change["after"]) for change in detail["changes_from_live"]}
    assert changes["gateway.max_body_bytes"] == (1024, 10 * 2**20)
    assert changes["upstream.url"] == ("https://8.8.8.8", "https://pets.example/api")
    assert (detail["revision"]["number"], detail["live"], detail["problems"]) == (1, 2, [])
    assert call("post", f"{REST}/revisions/1/restore", {"instead_of": 2})["revision"] == 3
    assert call("get", f"{REST}/revisions")["results"][0]["restored_from"] == 1
    assert call("post", f"{REST}/revisions/1/restore", {"instead_of": 3}, status=409)["code"] == "revision_served"
    call("put", f"{REST}/route", {"base_path": "/moved"})
    (pending,) = call("get", f"{REST}/changes")
    assert pending == {"part": "route.base_path", "before": "/pet-store/v1", "after": "/moved"}
    call("get", f"{REST}/revisions/{10**30}", status=404)


def test_rest_refuses_who_looked_before_somebody_published(alice: User, acme: Organisation, version: Version) -> None:
    call = Caller(alice, acme)
    assert call("post", f"{REST}/revisions/1/restore", {"instead_of": 1}, status=409)["code"] == "revision_overtaken"
    assert fresh(version).deployed_revision_id == version.deployed_revision_id
    for body in ({}, {"instead_of": None}, {"instead_of": 0}):
        assert "instead_of" in str(call("post", f"{REST}/revisions/1/restore", body, status=422))
    assert call("post", f"{REST}/revisions/1/restore", {"instead_of": 2})["revision"] == 3


def test_rest_says_what_is_in_the_way(alice: User, acme: Organisation, version: Version) -> None:
    call = Caller(alice, acme)
    change_revision(version, upstream={"url": "http://10.1.2.3"})
    assert [row["code"] for row in call("get", f"{REST}/revisions/1")["problems"]] == ["upstream"]
    problem: dict[str, Any] = call("post", f"{REST}/revisions/1/restore", {"instead_of": 2}, status=422)
    assert "10.1.2.3" in problem["detail"]
