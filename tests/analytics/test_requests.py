from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from analytics.selectors import requests
from apimgr.accounts.models import Organisation, User
from apimgr.core.errors import DomainError, NotFound
from tests.analytics.calls import store
from tests.analytics.world import Scene, make_scene


def statuses(page: requests.Page) -> list[int]:
    return [event.status for event in page.events]


def test_pages_follow_one_another_without_gap_or_double(scene: Scene, oscar: User, now: datetime) -> None:
    # Half of them at the very same microsecond: the id settles their order.
    store(*(scene.call(now - timedelta(seconds=number // 2)) for number in range(25)))
    seen, cursor = [], ""
    while True:
        page = requests.of_apis(oscar, requests.Search(before=cursor, limit=4))
        seen += [event.request_id for event in page.events]
        cursor = page.next
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == 25


def test_filters_narrow(scene: Scene, oscar: User, now: datetime) -> None:
    limited = scene.refusal(now, "rate_limited")
    unknown = scene.refusal(now, "key_unknown", application_id=0, credential_id=0)
    broken_off = scene.refusal(now, "key_revoked", status=206, upstream_status=206, upstream_us=700)
    store(scene.call(now), limited, unknown, scene.call(now, status=503), broken_off)

    def found(**fields: object) -> list[int]:
        return sorted(statuses(requests.of_apis(oscar, requests.Search(**fields))))  # type: ignore[arg-type]

    assert found() == [200, 206, 401, 429, 503]
    assert found(outcome="key_revoked") == [206]
    assert found(status="4xx") == [401, 429]
    assert found(status="503") == [503]
    assert found(outcome="rate_limited") == [429]
    assert found(outcome="refused") == [401, 429]
    assert found(application_id=0) == [401]


@pytest.mark.parametrize(
    "fields", [{"status": "abc"}, {"outcome": "nonsense"}, {"before": "x"}, {"before": "9" * 30 + "-1"}]
)
def test_a_wrong_filter_says_so(scene: Scene, oscar: User, fields: dict[str, str]) -> None:
    with pytest.raises(DomainError):
        requests.of_apis(oscar, requests.Search(**fields))


def test_a_developer_sees_refusals_of_their_own_keys_only(
    scene: Scene, dev: User, charlie: User, now: datetime
) -> None:
    store(scene.refusal(now, "rate_limited"), scene.refusal(now, "key_missing", application_id=0, credential_id=0))
    assert statuses(requests.of_application(dev, scene.application, requests.Search())) == [429]
    with pytest.raises(NotFound):
        requests.of_application(charlie, scene.application, requests.Search())


def test_one_call_opens_for_both_owners_and_nobody_else(
    scene: Scene, oscar: User, dev: User, charlie: User, now: datetime
) -> None:
    record = scene.refusal(now, "quota_exceeded", trail=b'[["plan","Free"],["quota",10000]]')
    store(record)
    request_id = UUID(bytes=record.request_id)
    for owner in (oscar, dev):
        assert requests.one(owner, request_id).trail == [["plan", "Free"], ["quota", 10000]]
    with pytest.raises(NotFound):
        requests.one(charlie, request_id)


@pytest.mark.parametrize("text", ["00000000-0000-0000-0000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff"])
def test_an_id_of_no_call_is_not_found(oscar: User, text: str) -> None:
    with pytest.raises(NotFound):
        requests.one(oscar, UUID(text))


def test_limits_that_were_left_out_are_counted_where_a_trail_is_read(
    scene: Scene, dev: User, client: Client, now: datetime
) -> None:
    trail = (
        b'[{"step":"limit","name":"quota-day","amount":5,"left":0},{"step":"limit","more":31},'
        b'{"step":"refused","code":"quota_exceeded","detail":"The plan allows 5 calls per day."}]'
    )
    record = scene.refusal(now, "quota_exceeded", trail=trail)
    store(record)
    client.force_login(dev)
    page = client.get(reverse("analytics:request", args=[UUID(bytes=record.request_id)]))
    assert "<td>Limit</td><td>31 more limits, not listed for want of room</td>" in page.text
    assert "<td>Refused</td><td>The plan allows 5 calls per day.</td>" in page.text


def test_a_trail_that_was_cut_is_kept_as_text(scene: Scene, oscar: User, now: datetime) -> None:
    store(scene.call(now, trail=b'[["key","ok'))
    assert requests.of_apis(oscar, requests.Search()).events[0].trail == {"cut": '[["key","ok'}


def test_queries_do_not_grow_with_apis(oscar: User, acme: Organisation, builders: Organisation, now: datetime) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            requests.of_apis(oscar, requests.Search())
        return len(caught)

    store(make_scene(acme, builders, "First").call(now))
    one = queries()
    store(*(make_scene(acme, builders, f"Api {number}").call(now) for number in range(19)))
    assert queries() == one
