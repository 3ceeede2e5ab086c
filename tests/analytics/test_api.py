from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse
from rest_framework.test import APIClient

from analytics.metrics import METRICS
from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import issue_api_token
from apimgr.core.ids import encode_id
from tests.analytics.calls import store
from tests.analytics.world import Scene, told

UPSTREAM_TRAIL = json.dumps(
    [
        {"step": "route", "base_path": "/orders/v1", "version": "v1"},
        {"step": "operation", "id": "192030405106286948"},
        {
            "step": "upstream",
            "attempt": 1,
            "stage": "answer",
            "connection": "new",
            "resolve_ms": 1.2,
            "connect_ms": 3.4,
            "sent_after_ms": 5.0,
            "took_ms": 30000.1,
            "limit": "read_timeout_ms",
            "limit_ms": 30000,
            "host": "orders.internal.example:8443",
        },
        {"step": "ended", "code": "upstream_timeout", "detail": "The upstream did not answer in time."},
    ]
).encode()


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
        ("Too many calls for a rate limit of the plan or the API.", 1),
    ]
    assert all(row["time"].endswith("Z") for row in rows)
    [row] = ask("ada", "/usage", by="application", metrics="requests", api=scene.api.slug)["rows"]
    assert row == {"application": encode_id(scene.application.pk), "application_label": "Orders shop", "requests": 3}


@pytest.fixture
def rows_as(client: Client, acme: Organisation, builders: Organisation, ada: User, dev: User) -> Any:
    """``rows_as("ada", "text/csv", by="time")``: an answer to /usage that is not JSON."""
    tokens = {
        name: issue_api_token(actor=user, organisation=organisation, name="Rows")[1]
        for name, user, organisation in (("ada", ada, acme), ("dev", dev, builders))
    }

    def rows_as_(who: str, kind: str, **query: str) -> Any:
        return client.get("/api/v1/usage", query, headers={"Authorization": f"Bearer {tokens[who]}", "Accept": kind})

    return rows_as_


def test_rows_for_spreadsheets_and_line_by_line(ask: Any, rows_as: Any, scene: Scene, now: datetime) -> None:
    told(scene.call(now), scene.call(now - timedelta(days=2)), scene.refusal(now, "rate_limited"))
    query = {"by": "time,operation", "metrics": "requests,p95", "range": "7d"}
    rows = ask("ada", "/usage", **query)["rows"]
    answer = rows_as("ada", "text/csv", **query)
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert answer["Content-Disposition"] == 'attachment; filename="usage-time-operation-7d.csv"'
    table = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert table == [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows]
    answer = rows_as("ada", "application/x-ndjson", **query)
    assert [json.loads(line) for line in answer.content.splitlines()] == rows
    assert rows_as("ada", "*/*", **query)["Content-Type"] == "application/json"
    assert rows_as("ada", "*/*", format="csv", **query)["Content-Type"] == "text/csv; charset=utf-8"


def test_a_name_in_a_spreadsheet_never_runs(rows_as: Any, scene: Scene, now: datetime) -> None:
    scene.application.name = "=HYPERLINK(1)"
    scene.application.save()
    told(scene.call(now))
    [row] = csv.DictReader(io.StringIO(rows_as("ada", "text/csv", by="application").content.decode()))
    assert row["application_label"] == "'=HYPERLINK(1)"


def test_rows_are_for_whoever_may_read_them(rows_as: Any, scene: Scene, now: datetime) -> None:
    told(scene.call(now), scene.call(now, application_id=1, credential_id=2))
    for who, requests in (("ada", "2"), ("dev", "1")):
        assert rows_as(who, "text/csv", metrics="requests").content.decode().split() == ["requests", requests]
    nobodys = rows_as("dev", "text/csv", by="application", application=encode_id(1))
    assert nobodys.content == b"application,application_label,requests,success_rate,p95\r\n"


def test_refusals_of_rows_are_problem_documents(
    rows_as: Any, scene: Scene, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    told(scene.call(now), scene.call(now, application_id=1))
    for kind in ("text/csv", "application/x-ndjson"):
        for status, query in ((422, {"metrics": "nonsense"}), (403, {"of": "apis"})):
            answer = rows_as("dev", kind, **query)
            assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json")
            assert answer.json()["status"] == status
    monkeypatch.setattr("analytics.api.views.MAX_ROWS", 1)
    assert rows_as("ada", "text/csv", by="application").json()["code"] == "too_many_rows"


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


def test_an_upstream_s_failure_is_explained_and_its_host_is_the_publishers_alone(
    ask: Any, scene: Scene, now: datetime
) -> None:
    record = scene.refusal(now, "upstream_timeout", trail=UPSTREAM_TRAIL)
    store(record)
    path = f"/requests/{UUID(bytes=record.request_id)}"
    publisher, developer = ask("ada", path), ask("dev", path)
    for told_ in (publisher, developer):
        assert told_["title"] == "The API's upstream did not answer in time."
        assert told_["detail"] == "The upstream did not answer in time."
        assert told_["fix"] == "Try again later."
        assert told_["docs"] == "http://testserver/docs/outcomes/upstream_timeout/"
        assert told_["trail"][1] == {"step": "operation", "id": "05ahtmb96ygb4"}, "as ids are everywhere in REST"
    upstream = publisher["trail"][2]
    assert upstream["host"] == "orders.internal.example:8443"
    del upstream["host"]
    assert developer["trail"][2] == upstream
    assert (upstream["stage"], upstream["limit_ms"]) == ("answer", 30000)


def test_a_trail_that_was_cut_is_the_publishers_alone(ask: Any, scene: Scene, now: datetime) -> None:
    """Nobody can tell what is in it."""
    record = scene.refusal(now, "upstream_timeout", trail=UPSTREAM_TRAIL[:-90])
    store(record)
    path = f"/requests/{UUID(bytes=record.request_id)}"
    assert "orders.internal" in ask("ada", path)["trail"]["cut"]
    assert ask("dev", path)["trail"] is None


def test_strangers_and_operators_get_no_explanation(
    client: Client, scene: Scene, now: datetime, charlie: User, olga: User
) -> None:
    record = scene.refusal(now, "quota_exceeded")
    store(record)
    rest = APIClient()
    for stranger in (charlie, olga):
        rest.force_authenticate(stranger)
        client.force_login(stranger)
        request_id = UUID(bytes=record.request_id)
        assert rest.get(f"/api/v1/requests/{request_id}").status_code == 404
        assert client.get(reverse("analytics:request", args=[request_id])).status_code == 404


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
