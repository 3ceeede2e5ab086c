from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client

from analytics.metrics import METRICS
from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import issue_api_token
from apimgr.core.ids import encode_id
from tests.analytics.calls import store
from tests.analytics.world import Scene, told


@pytest.fixture
def ask(client: Client, acme: Organisation, builders: Organisation, ada: User, dev: User) -> Any:
    """``ask("ada", "/usage", range="1h")``: the JSON of an answer, by a token."""
    secrets = {
        name: issue_api_token(actor=user, organisation=organisation, name="Test")[1]
        for name, user, organisation in (("ada", ada, acme), ("dev", dev, builders))
    }

    def ask_(who: str, path: str, status: int = 200, **query: str) -> Any:
        address = path if path.startswith("http") else f"/api/v1{path}"
        response = client.get(address, query, headers={"Authorization": f"Bearer {secrets[who]}"})
        assert response.status_code == status, response.content
        return response.json()

    return ask_


def test_every_metric_can_be_asked_for(ask: Any, scene: Scene, now: datetime) -> None:
    told(scene.call(now), scene.call(now, status=500))
    body = ask("ada", "/usage", metrics=",".join(name for name in METRICS if name != "active_applications"))
    [row] = body["rows"]
    assert row.keys() == METRICS.keys() - {"active_applications"}
    assert (row["requests"], row["success_rate"], row["errors"]) == (2, 50.0, 1)
    assert {metric["name"] for metric in body["metrics"]} == row.keys()
    assert body["complete_to"]
    assert ask("ada", "/usage", metrics="active_applications")["rows"] == [{"active_applications": 1}]


def test_a_series_and_a_breakdown(ask: Any, scene: Scene, now: datetime) -> None:
    told(scene.call(now), scene.call(now - timedelta(days=2)), scene.refusal(now, "rate_limited"))
    rows = ask("ada", "/usage", by="time,outcome", metrics="requests")["rows"]
    assert [(row["outcome_label"], row["requests"]) for row in rows] == [
        ("The upstream answered.", 1),
        ("The upstream answered.", 1),
        ("Too many requests for the plan's rate limit.", 1),
    ]
    assert all(row["time"].endswith("Z") for row in rows)
    [row] = ask("ada", "/usage", by="application", metrics="requests", api=scene.api.slug)["rows"]
    assert row == {"application": encode_id(scene.application.pk), "application_label": "Orders shop", "requests": 3}


def test_a_developer_asks_of_their_own_applications(ask: Any, scene: Scene, now: datetime) -> None:
    told(scene.call(now), scene.call(now, application_id=1, credential_id=2))
    [row] = ask("dev", "/usage", metrics="requests")["rows"]
    assert row["requests"] == 1
    # A filter narrows; it cannot reach beyond.
    assert ask("dev", "/usage", metrics="requests", application=encode_id(1))["rows"] == [{"requests": 0}]
    assert len(ask("dev", "/requests")["results"]) == 1
    assert len(ask("ada", "/requests")["results"]) == 2
    ask("dev", "/usage", 403, of="apis")
    ask("dev", "/usage", 422, api=scene.api.slug)


@pytest.mark.parametrize(
    "query",
    [{"metrics": "nonsense"}, {"by": "weather"}, {"range": "1y"}, {"by": "application,outcome"}, {"version": "x"}],
)
def test_a_wrong_question_says_what_is_wrong(ask: Any, scene: Scene, query: dict[str, str]) -> None:
    problem = ask("ada", "/usage", 422, **query)
    assert problem["detail"]
    assert problem["code"] in {"invalid", "not_combinable"}


def test_the_list_pages_by_cursor_and_explains_one(ask: Any, scene: Scene, now: datetime) -> None:
    refused = scene.refusal(now, "rate_limited", trail=b'[["limit","60 per minute"]]')
    store(refused, *(scene.call(now - timedelta(seconds=second)) for second in range(1, 5)))
    first = ask("ada", "/requests", limit="3")
    second = ask("ada", first["next"])
    seen = [row["request_id"] for row in first["results"] + second["results"]]
    assert len(set(seen)) == 5
    assert second["next"] is None
    assert first["results"][0]["outcome"] == "rate_limited"
    explained = ask("dev", f"/requests/{UUID(bytes=refused.request_id)}")
    assert explained["fix"] == "Wait as Retry-After says."
    assert explained["trail"] == [["limit", "60 per minute"]]
    # As the X-Request-Id field of the answer gives it.
    assert ask("dev", f"/requests/{refused.request_id.hex()}") == explained
    assert ask("ada", "/requests", 422, cursor="nonsense")["fields"]["cursor"]
