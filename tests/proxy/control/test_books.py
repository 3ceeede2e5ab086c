"""Generated, spooled, stored, rolled up: each difference has a name, and none of it is forgotten."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from analytics.models import UsageBoot
from analytics.services import rollups
from apimgr.accounts.models import User
from apimgr.contracts.usage import KIND_CUT_OFF, KIND_QUARANTINED, KIND_UNREADABLE
from proxy import selectors
from proxy.books import BootBooks, Counted, Stored, totals
from proxy.models import GatewayBoot
from tests.analytics.calls import call, store
from tests.proxy.control.test_rollout import make_node

NOW = datetime(2026, 3, 10, tzinfo=UTC)


def books(state: str, counted: Counted | None, **stored: int) -> BootBooks:
    return BootBooks("node", 1, NOW, state, counted, Stored(**stored))  # type: ignore[arg-type]


def test_what_goes_on_is_named_and_not_lost() -> None:
    running = books("running", Counted(generated=20, spooled=14, unrecorded=2, acknowledged=9), stored=10, cut_off=1)
    assert (running.in_flight, running.waiting, running.to_roll_up, running.lost) == (3, 5, 10, 0)


def test_what_the_node_misses_itself_is_lost_at_once() -> None:
    assert books("running", Counted(5, 5, 0, 3, missing=2), stored=3).lost == 2


def test_a_closed_boot_explains_every_call_or_says_how_many_are_lost() -> None:
    counted = Counted(generated=20, spooled=16, unrecorded=2, acknowledged=16)
    closed = books("closed", counted, stored=17, cut_off=2, quarantined=1, rolled_up=17)
    assert (closed.in_flight, closed.waiting, closed.to_roll_up, closed.lost, closed.uncounted) == (0, 0, 0, 0, 0)
    assert books("closed", counted, stored=15, quarantined=1).lost == 2
    assert books("closed", counted, stored=18, quarantined=1).uncounted == 1


def test_a_boot_that_ended_may_have_left_records_behind() -> None:
    ended = books("open", Counted(generated=20, spooled=16, unrecorded=0, acknowledged=9), stored=9)
    assert (ended.in_flight, ended.waiting, ended.lost) == (0, 7, 0)


def test_what_was_given_up_is_lost_and_says_so() -> None:
    counted = Counted(generated=20, spooled=16, unrecorded=2, acknowledged=9)
    before = books("open", counted, stored=9, quarantined=1)
    assert (before.outstanding, before.is_even, before.lost) == (8, False, 0)
    given_up = books("given_up", counted, stored=9, quarantined=1)
    assert (given_up.lost, given_up.given_up, given_up.waiting, given_up.in_flight) == (8, 8, 0, 0)
    came_even = books("given_up", counted, stored=17, quarantined=1)
    assert (came_even.lost, came_even.given_up, came_even.is_even) == (0, 0, True)
    assert books("closed", counted, stored=9).given_up == 0


def test_what_waits_is_outstanding_although_as_many_rows_were_never_counted() -> None:
    """A worker that was killed left rows that it had not counted: they stand for no others."""
    waits = books("open", Counted(generated=10, spooled=10, unrecorded=0, acknowledged=9), stored=10, cut_off=1)
    assert (waits.outstanding, waits.waiting, waits.is_even) == (0, 1, False)


def test_calls_that_no_gateway_made_are_in_the_ledger_alone() -> None:
    told = books("closed", None, stored=5, rolled_up=5)
    assert (told.in_flight, told.waiting, told.lost, told.uncounted) == (0, 0, 0, 0)
    both = totals([told, books("closed", Counted(1, 1, 0, 1), stored=1)])
    assert (both.generated, both.stored, both.to_roll_up) == (1, 6, 1)


def ledger(kind: int, *, events: int = 0, size: int = 100, offset: int = 0) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_batch"
            " (node, boot, worker, segment, from_offset, to_offset, events, first_at, last_at, kind)"
            " VALUES ('node-1', 1, 0, 99, %s, %s, %s, now(), now(), %s)",
            [offset, offset + size, events, kind],
        )


@pytest.mark.django_db
def test_the_counts_say_how_many_calls_of_a_boot_they_took() -> None:
    store(call(), call(), call())
    ledger(KIND_QUARANTINED)
    ledger(KIND_UNREADABLE, size=30, offset=100)
    before = selectors.boots(None)
    rollups.roll_up_all()
    (after,) = selectors.boots(None)
    assert [(b.in_database.stored, b.in_database.rolled_up) for b in before] == [(3, 0)]
    assert after.in_database == Stored(stored=3, quarantined=1, set_aside_bytes=30, rolled_up=3)
    assert selectors.counted_calls(None) == UsageBoot.objects.get().rolled_up == 3
    store(call())
    rollups.roll_up_all()
    (again,) = selectors.boots(None)
    assert (again.in_database.stored, again.in_database.rolled_up) == (4, 4)


@pytest.mark.django_db
def test_a_call_that_the_counts_did_not_find_shows(caplog: pytest.LogCaptureFixture) -> None:
    """The ledger says two, but only one row is there: the counts do not take the ledger's word for it."""
    store(call())
    ledger(KIND_CUT_OFF, events=1)
    rollups.roll_up_all()
    (found,) = selectors.boots(None)
    assert (found.in_database.stored, found.in_database.rolled_up, found.in_database.cut_off) == (2, 1, 1)
    assert found.to_roll_up == 1
    assert "The ledger holds 2 calls" in caplog.text


@pytest.mark.django_db
def test_the_books_of_earlier_boots_stay(client: Client, olga: User) -> None:
    moment = timezone.now()
    make_node("edge", generated=12, spooled=12, acknowledged=12)
    for boot, closed in ((-1, moment), (0, None), (1, None)):
        GatewayBoot.objects.create(
            node="edge",
            boot=boot,
            software_version="0.1.0",
            started_at=moment - timedelta(days=1),
            seen_at=moment,
            closed_at=closed,
            generated=7,
            spooled=7,
            unrecorded=0,
            acknowledged=7,
        )
    client.force_login(olga)
    page = client.get(reverse("proxy:books")).content.decode()
    for word in ("Running", "Open", "Lost"):
        assert word in page
    rest = APIClient()
    rest.force_authenticate(olga)
    body = rest.get("/api/v1/reconciliation").json()
    states = {boot["boot"]: (boot["state"], boot["books"]["waiting"], boot["books"]["lost"]) for boot in body["boots"]}
    assert states == {-1: ("closed", 0, 7), 0: ("open", 7, 0), 1: ("running", 12, 0)}
    assert body["totals"]["lost"] == 7
    assert body["counted"] == 0
