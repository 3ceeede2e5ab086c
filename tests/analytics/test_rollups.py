"""A rollup is a recount of the raw rows, to the unit: whatever came late, at once, or failed half-way."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from analytics import histogram
from analytics.models import (
    ConsumerDay,
    ConsumerHour,
    ConsumerMinute,
    KeyHour,
    TrafficDay,
    TrafficHour,
    TrafficMinute,
    UsageBatch,
    UsageEvent,
)
from analytics.services import rollups
from apimgr.contracts.outcomes import BY_NUMBER
from apimgr.contracts.usage import UsageRecord
from tests.analytics.calls import NOW, call, random_calls, store

SPANS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CUBES = [
    (TrafficMinute, "minute", rollups.TRAFFIC),
    (TrafficHour, "hour", rollups.TRAFFIC),
    (TrafficDay, "day", rollups.TRAFFIC),
    (ConsumerMinute, "minute", rollups.CONSUMER),
    (ConsumerHour, "hour", rollups.CONSUMER),
    (ConsumerDay, "day", rollups.CONSUMER),
]


def recount(records: Iterable[UsageRecord], grain: str, cube: rollups.Cube) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    """The slow and obvious way: every call, one by one."""
    sums: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0] * 7)
    buckets: dict[tuple[Any, ...], Counter[int]] = defaultdict(Counter)
    for record in records:
        at = EPOCH + timedelta(microseconds=record.started_at_us)
        facts = {**record._asdict(), "status_class": record.status // 100}
        key = (at - (at - EPOCH) % SPANS[grain], *(facts[name] for name in cube.dimensions))
        failed = record.status >= 500 or record.outcome in (53, 75)
        refused = BY_NUMBER[record.outcome].refusal and not record.upstream_us  # else broken off later
        measures = (1, failed, refused, *record[8:12])
        sums[key] = [total + more for total, more in zip(sums[key], measures, strict=True)]
        if not refused and record.outcome != 75:  # nobody saw its end
            buckets[key][histogram.index(record.total_us)] += 1
    return {key: (*total, dict(buckets[key])) for key, total in sums.items()}


def stored(model: Any, cube: rollups.Cube) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    measures = ("n", "errors", "refused", "bytes_in", "bytes_out", "total_us", "upstream_us")
    return {
        (row.bucket, *(getattr(row, name) for name in cube.dimensions)): (
            *(getattr(row, name) for name in measures),
            dict(zip(row.h_idx, row.h_n, strict=True)),
        )
        for row in model.objects.all()
    }


def assert_exact(records: list[UsageRecord]) -> None:
    for model, grain, cube in CUBES:
        assert stored(model, cube) == recount(records, grain, cube), model.__name__


@pytest.mark.django_db
def test_a_rollup_is_a_recount() -> None:
    records = random_calls(1, 600)
    store(*records[:250])
    store(*records[250:])
    assert rollups.roll_up() == 2
    assert_exact(records)


@pytest.mark.django_db
def test_late_batches_land_in_their_own_minutes() -> None:
    records = random_calls(2, 300)
    for part in (records[:100], records[100:200], records[200:]):
        store(*part)
        rollups.roll_up()
    assert_exact(records)
    assert rollups.roll_up() == 0
    assert_exact(records)


@pytest.mark.django_db
def test_keys_are_counted_per_hour_with_their_last_use() -> None:
    store(call(), call(NOW + timedelta(minutes=5), status=500), call(credential_id=0))
    rollups.roll_up()
    store(call(NOW - timedelta(seconds=1)), call(NOW + timedelta(minutes=3)))
    rollups.roll_up()
    rows = {row.bucket: (row.n, row.errors, row.last_at) for row in KeyHour.objects.all()}
    assert rows == {
        NOW: (3, 1, NOW + timedelta(minutes=5)),
        NOW - timedelta(hours=1): (1, 0, NOW - timedelta(seconds=1)),
    }


@pytest.mark.django_db
def test_a_batch_is_stored_once() -> None:
    records = [call(), call()]
    from analytics.services.ingest import write_batch

    again = {"node": "n", "boot": 1, "worker": 0, "segment": 10**6, "records": records}
    assert (write_batch(**again), write_batch(**again)) == (2, 0)
    assert UsageEvent.objects.count() == 2


@pytest.mark.django_db
def test_a_pass_is_bounded_but_always_moves() -> None:
    for _ in range(3):
        store(call(), call(), call())
    assert [rollups.roll_up(max_events=4) for _ in range(3)] == [2, 1, 0]
    assert rollups.roll_up(max_events=1) == 0


@pytest.mark.django_db
def test_a_failure_half_way_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    records = random_calls(3, 50)
    store(*records)
    with monkeypatch.context() as patch:
        patch.setattr(rollups, "_ADDS", (*rollups._ADDS[:3], "SELECT 1/0"))
        with pytest.raises(Exception, match="division by zero"), transaction.atomic():
            rollups.roll_up()
    assert not TrafficMinute.objects.exists()
    assert UsageBatch.objects.filter(rolled_up_at=None).count() == 1
    rollups.roll_up()
    assert_exact(records)


@pytest.mark.django_db(transaction=True)
def test_many_at_once_count_each_call_once() -> None:
    records = random_calls(4, 800)
    for start in range(0, 800, 40):
        store(*records[start : start + 40])
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        for _ in range(40):
            rollups.roll_up(max_events=60)
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rollups.roll_up_all() >= 0
    assert_exact(records)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_dies_half_way_leaves_no_trace() -> None:
    """``kill -9`` of a worker, as the database sees it: the backend goes away inside the transaction."""
    records = random_calls(5, 60)
    store(*records)

    def roll_up_and_die() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            rollups.roll_up()
            cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(Exception, match="terminat"):
        roll_up_and_die()
    connection.close()
    assert not TrafficMinute.objects.exists()
    rollups.roll_up()
    assert_exact(records)
