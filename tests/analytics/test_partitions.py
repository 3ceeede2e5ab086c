from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from django.db import connection

from analytics import partitions
from analytics.models import TrafficDay, UsageEvent
from analytics.services import rollups
from tests.analytics.calls import NOW, call, store

EVENTS = partitions.TABLES[0]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "today", NOW.date)


def count(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


def test_partitions_are_made_once() -> None:
    first, last = NOW.date(), NOW.date() + timedelta(days=2)
    # three tables of three days, three tables of one month
    assert partitions.ensure_partitions(first, last) == 12
    assert partitions.ensure_partitions(first, last) == 0
    store(call())
    assert (count("usage_event_20260310"), count("usage_event_default")) == (1, 0)


def test_strays_move_to_where_they_belong() -> None:
    store(call(), call(NOW + timedelta(days=40)))
    rollups.roll_up()
    assert count("usage_event_default") == 2
    partitions.keep_partitions(ahead_days=0)
    assert count("usage_event_default") == count("usage_traffic_hour_default") == 0
    assert UsageEvent.objects.count() == 2


def test_a_month_ends_where_the_next_begins() -> None:
    hours = partitions.TABLES[3]
    assert list(hours.starts(date(2026, 11, 30), date(2027, 2, 1))) == [
        date(2026, 11, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
        date(2027, 2, 1),
    ]


def test_old_calls_leave_and_their_counts_stay(settings: Any) -> None:
    settings.USAGE_RETENTION_DAYS = {"event": 30, "minute": 14, "hour": 760}
    store(call(NOW - timedelta(days=31)), call(NOW - timedelta(days=30)), call())
    rollups.roll_up()
    partitions.keep_partitions(ahead_days=0)
    assert "usage_event_20260207" in partitions.drop_expired()
    assert UsageEvent.objects.count() == 2
    assert sum(TrafficDay.objects.values_list("n", flat=True)) == 3
