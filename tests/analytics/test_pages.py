from __future__ import annotations

import csv
import io
import json
import re
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from analytics.export import neutral
from apimgr.accounts.models import User
from apimgr.contracts.usage import FLAG_OLD_SECRET, FLAG_TEST_KEY, UsageRecord
from apimgr.core.ids import encode_id
from portal.services.credentials import roll_credential
from tests.analytics.calls import store
from tests.analytics.test_api import UPSTREAM_TRAIL
from tests.analytics.world import Scene, told

# As the gateway writes it.
TRAIL = json.dumps(
    [
        {"step": "route", "base_path": "/orders/v1", "version": "v1"},
        {"step": "operation", "id": "7"},
        {"step": "plan", "name": "Free"},
        {"step": "refused", "code": "quota_exceeded", "detail": "Quota 10,000 of 10,000 this month on plan Free."},
    ]
).encode()


@pytest.fixture
def busy(scene: Scene, now: datetime) -> Scene:
    told(
        *(scene.call(now - timedelta(hours=hour), total_us=9_000 + hour) for hour in range(40)),
        *(scene.refusal(now - timedelta(minutes=minute), "rate_limited") for minute in range(5)),
        scene.refusal(now, "key_unknown", application_id=0, credential_id=0, operation_id=0, plan_id=0),
        scene.call(now, status=502, outcome=50, trail=b'[["upstream","refused the connection"]]'),
    )
    return scene


def page(client: Client, viewer: User, name: str, query: str = "", **kwargs: object) -> str:
    client.force_login(viewer)
    response = client.get(reverse(f"analytics:{name}", kwargs=kwargs) + query)
    assert response.status_code == 200, response.content[:500]
    return response.content.decode()


def test_the_overview_tells_the_numbers_without_javascript(client: Client, oscar: User, busy: Scene) -> None:
    text = page(client, oscar, "overview")
    for expected in (
        "Complete to",
        ">47<",
        "Orders v1",
        "Orders shop",
        "Too many calls for a rate limit",
        '<th scope="col">4xx',
    ):
        assert expected in text


def test_the_first_visit_is_not_blank(client: Client, oscar: User) -> None:
    assert "No APIs to read yet" in page(client, oscar, "overview")


def test_a_quiet_period_says_so(client: Client, oscar: User, scene: Scene) -> None:
    assert "No calls in this period" in page(client, oscar, "overview", "?range=1h")


@pytest.mark.parametrize("by", ["version", "operation", "application", "plan", "outcome"])
def test_an_api_is_told_by_each_dimension(client: Client, oscar: User, busy: Scene, by: str) -> None:
    text = page(client, oscar, "api", f"?by={by}&range=7d", slug=busy.api.slug)
    assert {
        "version": "Orders v1",
        "operation": "GET /get",
        "application": "Orders shop",
        "plan": "Free",
        "outcome": "Wait as Retry-After says.",
    }[by] in text


@pytest.mark.parametrize("name", ["operation", "application"])
def test_a_click_is_a_filter_and_the_filter_is_in_the_address(
    client: Client, oscar: User, busy: Scene, name: str
) -> None:
    wanted = encode_id(getattr(busy, name).pk)
    assert f"{name}={wanted}" in page(client, oscar, "api", f"?by={name}", slug=busy.api.slug)
    text = page(client, oscar, "api", f"?by={name}&{name}={wanted}", slug=busy.api.slug)
    assert "Remove filter" in text


def test_nonsense_in_the_address_is_not_a_fault(client: Client, oscar: User, busy: Scene) -> None:
    client.force_login(oscar)
    address = reverse("analytics:api", args=[busy.api.slug])
    assert client.get(f"{address}?range=x&by=y").status_code == 200
    assert client.get(f"{address}?operation=zzz").status_code == 404
    both = f"?operation={encode_id(busy.operation.pk)}&application={encode_id(busy.application.pk)}"
    assert client.get(address + both).status_code == 422


def test_charts_are_json_of_the_same_figures(client: Client, oscar: User, busy: Scene) -> None:
    client.force_login(oscar)
    for name in ("traffic", "latency", "errors"):
        data = client.get(reverse("analytics:chart", args=[name]), {"range": "7d", "api": busy.api.slug}).json()
        assert all(len(line["data"]) == len(data["x"]) == 168 for line in data["series"])


def test_the_export_is_what_the_page_shows(client: Client, oscar: User, busy: Scene) -> None:
    client.force_login(oscar)
    response = client.get(reverse("analytics:export"), {"by": "operation", "range": "7d"})
    rows = list(csv.DictReader(io.StringIO(response.content.decode())))
    assert [(row["operation"], row["requests"]) for row in rows] == [
        ("GET /get", "46"),
        ("No operation matched", "1"),
    ]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "＝1"])
def test_a_cell_never_runs(text: str) -> None:
    assert neutral(text) == f"'{text}"


def test_plain_cells_stay_as_they_are() -> None:
    assert [neutral(value) for value in ("GET /get", 5, None, -1)] == ["GET /get", 5, "", -1]


def test_the_log_lists_refusals_and_filters(client: Client, oscar: User, busy: Scene) -> None:
    assert "The API key is not known." in page(client, oscar, "requests")
    filtered = page(client, oscar, "requests", f"?api={busy.api.slug}&status=502")
    assert filtered.count('class="http-status') == 1
    assert "No requests match" in page(client, oscar, "requests", "?status=504")
    assert "A status is three digits" in page(client, oscar, "requests", "?status=abc")


def test_the_tail_asks_again_by_itself(client: Client, oscar: User, busy: Scene) -> None:
    assert 'hx-trigger="every 2s"' in page(client, oscar, "requests", "?live=1")
    client.force_login(oscar)
    rows = client.get(reverse("analytics:requests") + "?live=1", headers={"HX-Target": "log"}).content.decode()
    assert rows.startswith('<div id="log"')


def test_a_call_is_explained_to_its_owners(client: Client, oscar: User, dev: User, busy: Scene, now: datetime) -> None:
    record = busy.refusal(now, "quota_exceeded", trail=TRAIL)
    store(record)
    logs = {oscar: reverse("analytics:requests"), dev: reverse("portal:requests")}
    for viewer in (oscar, dev):
        text = page(client, viewer, "request", request_id=UUID(bytes=record.request_id))
        for expected in (
            "A quota of the plan or the API is used up",
            "if there is a larger plan",
            "10,000 of 10,000",
            "Orders v1 at /orders/v1",
            "203.0.113.7",
            logs[viewer],
        ):
            assert expected in text


def test_a_call_that_was_broken_off_is_no_refusal(client: Client, dev: User, busy: Scene, now: datetime) -> None:
    """Its upstream was asked, for the key was good by then."""
    record = busy.refusal(now, "key_revoked", status=200, upstream_status=200, upstream_us=700)
    store(record)
    text = page(client, dev, "request", request_id=UUID(bytes=record.request_id))
    assert "The API key has been revoked." in text
    assert "The call did not end with a whole answer" in text
    assert "the upstream was not asked" not in text


def test_an_upstream_s_failure_reads_as_it_happened(
    client: Client, oscar: User, dev: User, busy: Scene, now: datetime
) -> None:
    record = busy.refusal(now, "upstream_timeout", trail=UPSTREAM_TRAIL)
    store(record)
    for viewer in (oscar, dev):
        text = page(client, viewer, "request", request_id=UUID(bytes=record.request_id))
        for expected in (
            "Attempt 1",
            "new connection",
            "name resolved in 1.2\u00a0ms",
            "connected in 3.4\u00a0ms",
            "Ended 30,000\u00a0ms later, before anything was heard.",
            "Each part of the answer may take 30,000\u00a0ms.",
            "/docs/outcomes/upstream_timeout/",
        ):
            assert expected in text
        assert ("orders.internal.example" in text) is (viewer is oscar)


def test_an_upstream_s_own_failure_reads_as_it_happened(client: Client, dev: User, busy: Scene, now: datetime) -> None:
    steps = [
        {"step": "upstream", "attempt": 1, "stage": "whole", "took_ms": 12.5, "status": 503, "relayed_bytes": 4},
        {"step": "ended", "code": "ok", "detail": "The upstream itself answered 503."},
    ]
    record = busy.call(now, status=503, upstream_status=503, trail=json.dumps(steps).encode())
    store(record)
    text = page(client, dev, "request", request_id=UUID(bytes=record.request_id))
    assert "Attempt 1. Answered in full 12.5\u00a0ms later. Relayed by then: status 503 and 4 bytes." in text
    assert "The upstream itself answered 503" in text


SPENT = {"name": "quota-month", "amount": 10_000, "left": 0, "reset_s": 418_653, "retry_after_s": 418_653}
LIMITED = json.dumps(
    [
        {"step": "route", "base_path": "/orders/v1", "version": "v1"},
        {"step": "operation", "id": "7"},
        {"step": "credential", "state": "active"},
        {"step": "application", "state": "active"},
        {"step": "subscription", "state": "active"},
        {"step": "plan", "name": "Free"},
        {"step": "limit", "name": "rate-minute", "amount": 60, "left": 12, "reset_s": 48},
        {
            "step": "limit",
            "name": "quota-month",
            "amount": 10_000,
            "left": 0,
            "reset_s": 418_653,
            "retry_after_s": 418_653,
        },
        {"step": "refused", "code": "quota_exceeded", "detail": "The plan allows 10000 calls per month."},
    ]
).encode()


def test_the_limit_that_refused_a_call_stands_out(client: Client, dev: User, scene: Scene, now: datetime) -> None:
    record = scene.refusal(now, "quota_exceeded", trail=LIMITED)
    store(record)
    client.force_login(dev)
    shown = page(client, dev, "request", request_id=UUID(bytes=record.request_id))
    marked = re.findall(r'<tr class="is-decisive">.*?</tr>', shown, re.DOTALL)
    assert len(marked) == 1
    assert "Quota of the month, 10,000 calls: none left, starts anew on" in marked[0]
    assert "Refused this call" in marked[0], "not by its looks alone"
    assert "10000" not in shown


def test_a_key_is_shown_by_its_end_to_who_may_know_it(
    client: Client, oscar: User, dev: User, scene: Scene, now: datetime
) -> None:
    record = scene.refusal(now, "quota_exceeded", trail=LIMITED)
    tested = scene.refusal(now, "quota_exceeded", trail=LIMITED, flags=FLAG_TEST_KEY)
    store(record, tested)

    def shown(viewer: User, record: UsageRecord) -> str:
        return page(client, viewer, "request", request_id=UUID(bytes=record.request_id))

    for viewer in (dev, oscar):
        text = shown(viewer, record)
        assert "Live key ending in wxyz" in text
        assert f"To {scene.plan.product}" in text
        assert f"Free, a plan of {scene.plan.product}" in text
    assert "Test key ending in wxyz" in shown(dev, tested)
    # A publisher's view ends with the subscription, as that of "Whose key is this?" does.
    scene.application.subscriptions.update(state="cancelled")
    assert "Live key ending in wxyz" in shown(dev, record)
    assert "wxyz" not in shown(oscar, record)
    # A call that was made before the key was rolled had another secret.
    roll_credential(actor=dev, credential=scene.credential, overlap=timedelta(hours=1))
    text = shown(dev, record)
    assert "Live key" in text
    assert "ending in" not in text
    later = scene.refusal(timezone.now(), "quota_exceeded", trail=LIMITED, flags=FLAG_OLD_SECRET)
    store(later)
    assert "Former secret, ending in wxyz, of a key that was rolled" in shown(dev, later)


def test_a_key_of_no_credential_any_more(client: Client, dev: User, scene: Scene, now: datetime) -> None:
    record = scene.refusal(now, "quota_exceeded", trail=LIMITED, credential_id=5, plan_id=6, version_id=7)
    store(record)
    text = page(client, dev, "request", request_id=UUID(bytes=record.request_id))
    assert "Live key" in text
    assert "<td>Free</td>" in text


def test_who_looks_for_the_steps_of_a_good_call_is_told(client: Client, dev: User, scene: Scene, now: datetime) -> None:
    record = scene.call(now)
    store(record)
    text = page(client, dev, "request", request_id=UUID(bytes=record.request_id))
    assert "How the gateway decided is kept of calls that were refused or failed." in text


def test_the_first_call_waits_then_tells_a_refusal_then_a_success(
    client: Client, dev: User, scene: Scene, now: datetime
) -> None:
    def panel() -> str:
        return page(client, dev, "first-call", credential_id=scene.credential.pk)

    assert "Waiting for your first request" in panel()
    store(scene.refusal(now, "subscription_inactive"))
    # The key was made a moment ago in this test, the calls a moment before: within the slack of the clocks.
    scene.credential.__class__.objects.update(created_at=now - timedelta(minutes=1))
    refused = panel()
    assert "Arrived, but refused" in refused
    assert "subscription is not active" in refused
    assert "every 2s" in refused
    store(scene.call(now))
    answered = panel()
    assert "Your first request arrived" in answered
    assert "every 2s" not in answered


def test_a_developer_reads_their_own_application(client: Client, dev: User, busy: Scene) -> None:
    usage = page(client, dev, "application-usage", application_id=busy.application.pk)
    assert "Orders v1" in usage
    assert ">46<" in usage
    listed = page(client, dev, "application-requests", application_id=busy.application.pk)
    assert listed.count('class="http-status') == 25
    assert "The API key is not known." not in listed


def test_a_key_tells_its_activity(client: Client, dev: User, busy: Scene) -> None:
    busy.credential.__class__.objects.update(created_at=busy.credential.created_at - timedelta(days=30))
    text = page(client, dev, "key-activity", credential_id=busy.credential.pk)
    assert "203.0.113.7" in text
    assert "GET /get" in text
    assert ">46<" in text


def test_the_console_shows_an_api_at_a_glance(client: Client, oscar: User, busy: Scene) -> None:
    assert ">47<" in page(client, oscar, "api-panel", slug=busy.api.slug)
