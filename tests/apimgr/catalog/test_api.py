"""The road of test_publishing.py over REST."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import issue_api_token
from tests.apimgr.catalog.test_publishing import document
from tests.factories import make_member, make_organisation


class Caller:
    def __init__(self, user: User, organisation: Organisation) -> None:
        _token, secret = issue_api_token(actor=user, organisation=organisation, name="Test")
        self.client = Client(headers={"Authorization": f"Bearer {secret}"})

    def __call__(self, method: str, path: str, data: Any = None, *, status: int = 200) -> Any:
        response = getattr(self.client, method)(f"/api/v1/{path}", data, content_type="application/json")
        assert response.status_code == status, response.content
        return response.json() if "json" in response["Content-Type"] else response.content


@pytest.fixture
def call(alice: User, acme: Organisation) -> Caller:
    return Caller(alice, acme)


def test_whole_road(call: Caller) -> None:
    assert call("post", "apis", {"name": "Pet store"}, status=201)["slug"] == "pet-store"
    assert call("post", "apis/pet-store/versions", {"name": "v1"}, status=201)["moves"] == ["publish"]
    version = "apis/pet-store/versions/v1"
    problems = {problem["code"] for problem in call("get", f"{version}/problems")}
    assert problems == {"specification", "route", "upstream"}
    problem = call("post", f"{version}/publish", status=422)
    assert (problem["code"], set(problem["fields"])) == ("incomplete", problems)

    raw = document().decode()
    imported = call("post", f"{version}/specification", {"content": raw}, status=201)
    assert (imported["title"], imported["openapi_version"], imported["source"]) == ("Pets", "3.0.3", "paste")
    assert call("get", f"{version}/specification") == json.loads(raw)
    operations = call("get", f"{version}/operations")["results"]
    assert [(row["method"], row["path"]) for row in operations] == [("GET", "/pets"), ("GET", "/pets/{id}")]
    assert call("get", f"{version}/route") == {"host": "", "base_path": "/pet-store/v1"}
    assert call("put", f"{version}/route", {"base_path": "/pets"})["base_path"] == "/pets"
    assert call("put", f"{version}/upstream", {"url": "https://8.8.8.8/api/"})["url"] == "https://8.8.8.8/api"
    assert call("get", f"{version}/problems") == []

    shown = call("post", f"{version}/publish")
    assert (shown["state"], shown["revision"], shown["moves"]) == ("published", 1, ["publish", "deprecate"])
    assert call("post", f"{version}/retire", status=409)["code"] == "illegal_transition"
    shown = call("post", f"{version}/deprecate", {"sunset_at": "2099-01-01T00:00:00Z"})
    assert (shown["state"], shown["sunset_at"]) == ("deprecated", "2099-01-01T00:00:00Z")
    assert call("post", f"{version}/restore")["state"] == "published"
    call("post", f"{version}/deprecate", {})
    assert call("post", f"{version}/retire")["moves"] == []
    assert [row["name"] for row in call("get", "apis/pet-store/versions")["results"]] == ["v1"]


def test_route_is_set_as_often_as_one_likes_and_says_who_has_it(call: Caller) -> None:
    call("post", "apis", {"name": "Pet store"}, status=201)
    for name in ("v1", "v2"):
        call("post", "apis/pet-store/versions", {"name": name}, status=201)
    for _time in range(2):
        assert call("put", "apis/pet-store/versions/v1/route", {"base_path": "/pets"})["base_path"] == "/pets"
    problem = call("put", "apis/pet-store/versions/v2/route", {"base_path": "/pets"}, status=409)
    assert (problem["code"], problem["fix"]) == ("route_taken", "Choose another path.")
    assert "Pet store v1" in problem["detail"]


def test_plan_over_rest(call: Caller) -> None:
    call("post", "apis", {"name": "Pet store"}, status=201)
    call("post", "apis/pet-store/versions", {"name": "v1"}, status=201)
    product = call("get", "products")["results"][0]
    assert product["versions"] == ["pet-store/v1"]
    assert [limit["text"] for limit in product["plans"][0]["limits"]] == ["60 per minute", "10,000 per month"]
    limits = [{"kind": "rate", "amount": 5, "period": "second"}]
    plan = call("post", "products/pet-store/plans", {"name": "Gold", "limits": limits}, status=201)
    assert [{name: limit[name] for name in limits[0]} for limit in plan["limits"]] == limits
    assert call("patch", f"plans/{plan['id']}", {"name": "Platinum", "limits": []})["limits"] == []
    assert call("get", f"plans/{plan['id']}")["name"] == "Platinum"
    wrong = [{"kind": "quota", "amount": 1, "period": "second"}]
    assert call("patch", f"plans/{plan['id']}", {"limits": wrong}, status=422)["code"] == "limit_invalid"


@pytest.mark.parametrize("body", [{}, {"content": "{}", "url": "https://x.example"}])
def test_document_is_given_in_one_way(call: Caller, body: dict[str, str]) -> None:
    call("post", "apis", {"name": "Pet store"}, status=201)
    call("post", "apis/pet-store/versions", {"name": "v1"}, status=201)
    assert call("post", "apis/pet-store/versions/v1/specification", body, status=422)["code"] == "invalid"


def test_server_owned_fields_stay_as_they_are(call: Caller) -> None:
    forged = {"id": "0000000000001", "created_at": "2001-01-01T00:00:00Z"}
    refused = call("post", "apis", {"name": "Pet store", **forged}, status=400)
    assert list(refused["fields"]) == list(forged)
    api = call("post", "apis", {"name": "Pet store"}, status=201)
    changed = call("patch", "apis/pet-store", {**api, **forged, "slug": "other", "organisation": "rival"})
    assert (changed["id"], changed["slug"], changed["organisation"]) == (api["id"], "pet-store", "acme")


def test_api_goes_to_the_organisation_that_is_meant(alice: User, acme: Organisation, call: Caller) -> None:
    other = make_organisation("Other")
    make_member(alice, other, "publisher")
    assert call("post", "apis", {"name": "Mine"}, status=201)["organisation"] == "acme"
    # A token acts in its own organisation, whatever else its owner belongs to.
    call("post", "apis", {"name": "Not mine", "organisation": "other"}, status=404)
    assert Caller(alice, other)("get", "apis")["results"] == []
