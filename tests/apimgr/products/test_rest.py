"""Limits over REST: what a page can say, a script can."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from apimgr.accounts.models import User
from apimgr.accounts.services import issue_api_token
from apimgr.catalog.models import Version
from apimgr.core.ids import encode_id
from apimgr.products.models import Plan
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def version(alice: User) -> Version:
    return make_version(make_api(alice.memberships.get().organisation, "Mine"))


@pytest.fixture
def plan(version: Version) -> Plan:
    return make_plan(make_product(version))


@pytest.fixture
def rest(alice: User, client: Client) -> Any:
    organisation = alice.memberships.get().organisation
    _token, secret = issue_api_token(actor=alice, organisation=organisation, name="Script")

    def call(method: str, path: str, body: object = None) -> Any:
        headers = {"Authorization": f"Bearer {secret}"}
        return getattr(client, method)(f"/api/v1/{path}", body, content_type="application/json", headers=headers)

    return call


def test_a_plan_s_limits_and_rules(rest: Any, plan: Plan, version: Version) -> None:
    operation = encode_id(version.operations.get().pk)
    limits = [
        {"kind": "rate", "amount": 60, "period": "minute"},
        {"kind": "concurrency", "amount": 5},
        {"kind": "quota", "amount": 900, "period": "billing", "api": "mine"},
        {"kind": "rate", "amount": 5, "period": "minute", "operation": operation},
    ]
    changes = {"limits": limits, "without_grantor": "closed", "counts_failures": False}
    told = rest("patch", f"plans/{plan.public_id}", changes).json()
    assert (told["without_grantor"], told["counts_failures"]) == ("closed", False)
    assert [limit["text"] for limit in told["limits"]] == [
        "60 per minute",
        "5 at once",
        "GET /get in v1: 5 per minute",
        "Mine: 900 per billing month",
    ]
    assert [limit["is_served"] for limit in told["limits"]] == [True, True, False, True], "it is not published"
    ids = set(plan.limits.values_list("pk", flat=True))
    again = rest("patch", f"plans/{plan.public_id}", {"limits": told["limits"]})
    assert again.json() == told, "what was read can be written"
    assert set(plan.limits.values_list("pk", flat=True)) == ids


def test_limits_for_all_callers_of_an_api(rest: Any, version: Version) -> None:
    assert rest("get", "apis/mine/limits").json() == {"limits": []}
    limits = [{"kind": "concurrency", "amount": 20, "operation": encode_id(version.operations.get().pk)}]
    assert (
        rest("put", "apis/mine/limits", {"limits": limits}).json()["limits"][0]["text"] == "GET /get in v1: 20 at once"
    )


def test_a_misspelt_field_of_a_limit_is_refused_and_what_was_read_can_be_sent(rest: Any, version: Version) -> None:
    """Without its operation a limit would hold for the whole API."""
    limit = {"kind": "concurrency", "amount": 20}
    told = rest("put", "apis/mine/limits", {"limits": [limit]}).json()
    misspelt = {**limit, "operaton": encode_id(version.operations.get().pk)}
    refused = rest("put", "apis/mine/limits", {"limits": [limit, misspelt]})
    assert (refused.status_code, list(refused.json()["fields"])) == (400, ["limits.1.operaton"])
    assert rest("get", "apis/mine/limits").json() == told
    assert rest("put", "apis/mine/limits", told).json() == told, "names that are only read among them"


@pytest.mark.parametrize(
    "limit",
    [
        {"kind": "rate", "amount": 0, "period": "minute"},
        {"kind": "rate", "amount": 5},
        {"kind": "quota", "amount": 5, "period": "hour"},
        {"kind": "burst", "amount": 5, "period": "hour"},
        {"kind": "rate", "amount": 5, "period": "minute", "operation": "0000000000001"},
        {"kind": "rate", "amount": 5, "period": "minute", "operation": "POST /get"},
        {"kind": "rate", "amount": 5, "period": "minute", "api": "another"},
    ],
)
def test_what_makes_no_sense_is_refused_and_nothing_changes(rest: Any, plan: Plan, limit: dict[str, Any]) -> None:
    refused = rest("patch", f"plans/{plan.public_id}", {"name": "Other", "limits": [limit]})
    assert refused.status_code == 422
    assert "limits" in refused.json()["fields"]
    plan.refresh_from_db()
    assert (plan.name, plan.limits.count()) == ("Free", 2)
