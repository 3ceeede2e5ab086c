"""Rates and quotas, with the clock in our hands."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from apimgr.contracts.snapshot import LimitDocument, PlanDocument
from proxy.dataplane.limits.calendar import period_bounds
from proxy.dataplane.limits.meter import Meter, Meters
from proxy.dataplane.limits.store import QuotaStore

NOW = datetime(2026, 2, 28, 23, 59, 50, tzinfo=UTC).timestamp()


def plan(*limits: LimitDocument) -> PlanDocument:
    return PlanDocument(1, "Plan", limits)


@pytest.fixture
def store(tmp_path: Path) -> QuotaStore:
    return QuotaStore(tmp_path / "quota", NOW)


def spend(meter: Meter, times: list[float]) -> list[bool]:
    return [meter.take(NOW + at) for at in times]


@pytest.mark.parametrize(
    ("amount", "times", "passed"),
    [
        (3, [0, 0, 0, 0], "yyyn"),
        (3, [0, 0, 0, 19.9, 20, 20], "yyynyn"),
        (3, [0, 0, 0, 60, 60, 60, 60], "yyyyyyn"),
        (3, [0, 0, 0, 1e6, 1e6, 1e6, 1e6], "yyyyyyn"),
        (1, [0, 59.99, 60, 61], "ynyn"),
        (0, [0, 100], "nn"),
        (3, [0, 0, 0, -3600, -3580, -3540], "yyynyy"),  # the clock steps back: at most a period is lost
    ],
)
def test_rate_per_minute(store: QuotaStore, amount: int, times: list[float], passed: str) -> None:
    meter = Meter(plan(LimitDocument(1, "rate", amount, "minute")), 5, store)
    assert spend(meter, times) == [answer == "y" for answer in passed]


def test_rate_never_admits_more_than_bucket_and_flow(store: QuotaStore) -> None:
    meter = Meter(plan(LimitDocument(1, "rate", 60, "minute")), 5, store)
    admitted = sum(meter.take(NOW + tick / 100) for tick in range(60 * 100))
    assert 60 + 59 <= admitted <= 60 + 60


def test_retry_after_is_enough(store: QuotaStore) -> None:
    meter = Meter(plan(LimitDocument(1, "rate", 7, "minute")), 5, store)
    at = 0.0
    for _ in range(50):
        if not meter.take(NOW + at):
            assert meter.retry_after >= 1
            at += meter.retry_after
            assert meter.take(NOW + at)


def test_quota_is_hard_and_follows_the_calendar(store: QuotaStore) -> None:
    meter = Meter(plan(LimitDocument(1, "quota", 2, "month")), 5, store)
    assert spend(meter, [0, 0, 0]) == [True, True, False]
    assert meter.retry_after == 10
    assert spend(meter, [9.9, 10, 10, 10]) == [False, True, True, False]


def test_quota_survives_a_restart(tmp_path: Path) -> None:
    limits = plan(LimitDocument(1, "quota", 3, "day"))
    first = QuotaStore(tmp_path / "quota", NOW)
    assert spend(Meter(limits, 5, first), [0, 0]) == [True, True]
    again = QuotaStore(tmp_path / "quota", NOW)
    assert spend(Meter(limits, 5, again), [0, 0]) == [True, False]
    assert spend(Meter(limits, 6, again), [0]) == [True], "another subscription's quota is its own"
    tomorrow = QuotaStore(tmp_path / "quota", NOW + 86_400)
    assert spend(Meter(limits, 5, tomorrow), [20]) == [True]


def test_a_successor_and_its_predecessor_lose_no_count(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from proxy.dataplane.limits.store import QuotaStore\n"
        "store = QuotaStore(Path(sys.argv[1]), 0); print('ready', flush=True); sys.stdin.readline()\n"
        "for n in range(20_000): store.spend(n % 7 + 1, 1, 5)\n"
        "print(store.is_alone)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "quota")]
    workers = []
    for _ in range(2):
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        workers.append(worker)
    with workers[0] as first, workers[1] as second:
        assert first.stdin is not None
        assert second.stdin is not None
        first.stdin.write("go\n")
        first.stdin.flush()
        second.stdin.write("go\n")
        second.stdin.flush()
        first.wait(60)
        second.wait(60)
    left = QuotaStore(tmp_path / "quota", 0)
    assert sum(left.read(n, 1)[1] for n in range(1, 8)) == 40_000
    assert left.is_alone


def test_both_sides_of_a_reload_know_each_other_s_rows(tmp_path: Path) -> None:
    limits = plan(LimitDocument(1, "quota", 3, "day"))
    old = QuotaStore(tmp_path / "quota", NOW)
    new = QuotaStore(tmp_path / "quota", NOW)
    assert [store.is_alone for store in (old, new)] == [False, False]
    for subscription in range(1, 3000):
        mine, theirs = Meter(limits, subscription, old), Meter(limits, subscription, new)
        assert spend(mine, [0]) + spend(theirs, [0, 0]) + spend(mine, [0]) == [True, True, True, False]
    old.close()
    assert spend(Meter(limits, 1, new), [0]) == [False]
    assert spend(Meter(limits, 5000, new), [0]) == [True]
    assert new.is_alone


def test_store_grows_and_takes_stale_rows_again(tmp_path: Path) -> None:
    store = QuotaStore(tmp_path / "quota", NOW)
    for subscription in range(1, 3001):
        store.spend(subscription, 1, int(NOW))
    again = QuotaStore(tmp_path / "quota", NOW)
    assert again.read(2999, 1) == (int(NOW), 1)
    store.close()
    again.close()
    size = (tmp_path / "quota").stat().st_size
    later = QuotaStore(tmp_path / "quota", NOW + 40 * 86_400)
    assert later.read(2999, 1) == (0, 0)
    for subscription in range(5001, 8001):
        later.spend(subscription, 1, int(NOW) + 40 * 86_400)
    assert (tmp_path / "quota").stat().st_size == size
    assert later.read(8000, 1)[1] == 1


def test_a_file_that_is_no_store_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"nonsense" * 100)
    assert QuotaStore(tmp_path / "q", NOW).read(1, 1) == (0, 0)
    assert (tmp_path / "q.corrupt").exists()


def test_windows_decide_together(store: QuotaStore) -> None:
    meter = Meter(plan(LimitDocument(1, "rate", 2, "second"), LimitDocument(2, "quota", 3, "day")), 5, store)
    assert spend(meter, [0, 0, 0]) == [True, True, False]
    assert meter.denied_by is meter.windows[0]
    assert meter.fields(NOW) == (
        b'RateLimit-Policy: "rate-second";q=2;w=1, "quota-day";q=3;w=86400\r\n'
        b'RateLimit: "rate-second";r=0;t=1, "quota-day";r=1;t=10\r\n'
    )
    assert spend(meter, [2, 4]) == [True, False]
    assert meter.denied_by is meter.windows[1]


def test_a_changed_plan_keeps_what_was_spent(store: QuotaStore) -> None:
    meters = Meters(store)
    old = plan(LimitDocument(1, "rate", 60, "minute"), LimitDocument(2, "quota", 5, "month"))
    meter = meters.of(old, 5, NOW)
    assert all(spend(meter, [0] * 5))
    assert meters.of(old, 5, NOW) is meter
    changed = meters.of(plan(LimitDocument(1, "rate", 30, "minute"), LimitDocument(2, "quota", 6, "month")), 5, NOW)
    assert changed is not meter
    assert spend(changed, [0, 0]) == [True, False]


@pytest.mark.parametrize(
    ("period", "start", "end"),
    [
        ("second", "2026-02-28T23:59:50", "2026-02-28T23:59:51"),
        ("minute", "2026-02-28T23:59:00", "2026-03-01T00:00:00"),
        ("hour", "2026-02-28T23:00:00", "2026-03-01T00:00:00"),
        ("day", "2026-02-28T00:00:00", "2026-03-01T00:00:00"),
        ("month", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
    ],
)
def test_calendar(period: str, start: str, end: str) -> None:
    bounds = period_bounds(period, NOW)
    assert [datetime.fromtimestamp(at, UTC).isoformat()[:19] for at in bounds] == [start, end]
