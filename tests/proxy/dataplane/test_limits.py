"""Limits of every kind, with the clock in our hands, and in several processes at once."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apimgr.contracts.periods import period_bounds
from apimgr.contracts.snapshot import LimitDocument, OperationDocument, PlanDocument, SubscriptionDocument
from proxy.dataplane.limits.meter import Meter, meter_of_anybody, meter_of_caller
from proxy.dataplane.limits.table import CHANGES, COUNT, START, OtherVersion, Table
from tests.proxy.dataplane.support import SUBSCRIPTION, VERSION, Running, World
from tests.proxy.dataplane.test_gateway import last_outcome, play

NOW = datetime(2026, 2, 28, 23, 59, 50, tzinfo=UTC).timestamp()


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "table", NOW, may_be_alone=True)


def meter(table: Table, *limits: LimitDocument, subscription: int = 5, **plan: Any) -> Meter:
    found = meter_of_caller(
        table, PlanDocument(1, "Plan", limits, **plan), SubscriptionDocument(subscription, 1, 1), VERSION
    )
    assert found is not None
    return found


def spend(of: Meter, times: list[float]) -> list[bool]:
    return [of.take(NOW + at) for at in times]


def rate(amount: int, period: str = "minute", **scope: int) -> LimitDocument:
    return LimitDocument(1, "rate", amount, period, **scope)  # type: ignore[arg-type]


def quota(amount: int, period: str = "day", **scope: int) -> LimitDocument:
    return LimitDocument(2, "quota", amount, period, **scope)  # type: ignore[arg-type]


def at_once(amount: int, **scope: int) -> LimitDocument:
    return LimitDocument(3, "concurrency", amount, "none", **scope)


@pytest.mark.parametrize(
    ("amount", "times", "passed"),
    [
        (3, [0, 0, 0, 0], "yyyn"),
        (3, [0, 0, 0, 19.9, 20, 20], "yyynyn"),
        (3, [0, 0, 0, 60, 60, 60, 60], "yyyyyyn"),
        (3, [0, 0, 0, 1e6, 1e6, 1e6, 1e6], "yyyyyyn"),
        (1, [0, 59.99, 60, 61], "ynyn"),
        (3, [0, 0, 0, -3600, -3580, -3540], "yyynyy"),  # the clock steps back: at most a period is lost
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_rate_per_minute(tmp_path: Path, amount: int, times: list[float], passed: str, alone: bool) -> None:
    table = Table(tmp_path / "table", NOW, may_be_alone=alone)
    assert table.alone is alone
    assert spend(meter(table, rate(amount)), times) == [answer == "y" for answer in passed]


@settings(max_examples=60, deadline=None)
@given(
    amount=st.integers(1, 50),
    steps=st.lists(st.floats(0, 30), max_size=200),
)
def test_a_rate_never_admits_more_than_bucket_and_flow(amount: int, steps: list[float], tmp_path_factory: Any) -> None:
    table = Table(tmp_path_factory.mktemp("rate") / "table", NOW, may_be_alone=True)
    limited, at, admitted = meter(table, rate(amount)), 0.0, 0
    for step in steps:
        at += step
        admitted += limited.take(NOW + at)
    assert admitted <= amount + at * amount / 60 + 1e-3
    table.close()


def test_a_rate_admits_all_that_it_may(table: Table) -> None:
    limited = meter(table, rate(60))
    assert 60 + 59 <= sum(limited.take(NOW + tick / 100) for tick in range(60 * 100)) <= 60 + 60


def test_retry_after_is_enough(table: Table) -> None:
    limited, at = meter(table, rate(7)), 0.0
    for _ in range(50):
        if not limited.take(NOW + at):
            assert limited.retry_after >= 1
            at += limited.retry_after
            assert limited.take(NOW + at)


def test_a_quota_is_hard_and_follows_the_calendar(table: Table) -> None:
    limited = meter(table, quota(2, "month"))
    assert spend(limited, [0, 0, 0]) == [True, True, False]
    assert limited.retry_after == 10
    assert spend(limited, [9.9, 10, 10, 10]) == [False, True, True, False]


def test_what_was_spent_survives_a_restart(tmp_path: Path) -> None:
    limits = (quota(3), rate(5))
    first = Table(tmp_path / "table", NOW, may_be_alone=True)
    assert spend(meter(first, *limits), [0, 0]) == [True, True]
    first.close()
    again = Table(tmp_path / "table", NOW, may_be_alone=True)
    assert spend(meter(again, *limits), [0, 0]) == [True, False]
    assert spend(meter(again, *limits, subscription=6), [0]) == [True], "another subscription's is its own"
    assert spend(meter(again, *limits), [20]) == [True], "and another day's"


def test_a_changed_plan_keeps_what_was_spent(table: Table) -> None:
    assert all(spend(meter(table, rate(60), quota(5, "month")), [0] * 5))
    assert spend(meter(table, rate(30), quota(6, "month")), [0, 0]) == [True, False]


def test_windows_decide_together(table: Table) -> None:
    limited = meter(table, rate(2, "second"), quota(3), at_once(9))
    assert spend(limited, [0, 0, 0]) == [True, True, False]
    assert limited.denied_by is limited.windows[0]
    assert limited.fields(NOW) == (
        b'RateLimit-Policy: "rate-second";q=2;w=1, "quota-day";q=3;w=86400, '
        b'"concurrency";q=9;qu="concurrent-requests"\r\n'
        b'RateLimit: "rate-second";r=0;t=1, "quota-day";r=1;t=10, "concurrency";r=7\r\n'
    )
    assert spend(limited, [2, 4]) == [True, False]
    assert limited.denied_by is limited.windows[1]


def test_concurrency_counts_what_is_under_way(table: Table) -> None:
    limited = meter(table, at_once(2))
    assert spend(limited, [0, 0, 0]) == [True, True, False]
    limited.ended(counts=True, began=NOW)
    assert spend(limited, [0, 0]) == [True, False]


def test_a_call_that_does_not_count_is_given_back(table: Table) -> None:
    limited = meter(table, quota(1))
    assert spend(limited, [0, 0]) == [True, False]
    limited.ended(counts=True, began=NOW)
    assert spend(limited, [0]) == [False]
    limited.ended(counts=False, began=NOW)
    assert spend(limited, [0, 0]) == [True, False]


def test_a_call_of_yesterday_is_not_given_back_today(table: Table) -> None:
    limited = meter(table, quota(2))
    assert spend(limited, [0, 10, 10, 10]) == [True, True, True, False]
    limited.ended(counts=False, began=NOW)
    assert spend(limited, [10]) == [False], "it never counted today"
    limited.ended(counts=False, began=NOW + 10)
    assert spend(limited, [10]) == [True]


def test_limits_are_narrowed_to_api_and_operation(table: Table) -> None:
    first, second = (operation.id for operation in VERSION.operations[:2])
    limited = meter(table, replace(quota(2), id=9), quota(1, operation_id=first), rate(1, api_id=VERSION.api_id + 1))
    assert limited.narrows
    of_first, of_second = limited.for_operation(first), limited.for_operation(second)
    assert limited.for_operation(first) is of_first
    assert [window.name for window in of_first.windows] == ["quota-day", "quota-day-operation"]
    assert spend(of_first, [0, 0]) == [True, False]
    assert spend(of_second, [0, 0]) == [True, False], "the plan's own holds for all of them together"
    assert spend(limited.for_operation(0), [0]) == [False]


def test_limits_of_the_api_hold_for_all_callers_together(table: Table) -> None:
    version = replace(VERSION, limits=(quota(3),))
    plan = PlanDocument(1, "Plan", (replace(quota(2), id=9),))
    one, other = (meter_of_caller(table, plan, SubscriptionDocument(n, 1, 1), version) for n in (5, 6))
    anybody = meter_of_anybody(table, version)
    assert one is not None
    assert other is not None
    assert anybody is not None
    assert spend(one, [0, 0, 0]) == [True, True, False]
    assert spend(other, [0, 0]) == [True, False]
    assert spend(anybody, [0]) == [False]
    assert other.denied_by is not None
    assert other.denied_by.name == "api-quota-day"
    assert meter_of_anybody(table, VERSION) is None


def test_a_file_that_is_no_table_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(b"nonsense" * 100)
    assert spend(meter(Table(tmp_path / "table", NOW), quota(1)), [0, 0]) == [True, False]
    assert (tmp_path / "table.corrupt").exists()


def write_magic(path: Path, magic: bytes) -> None:
    with path.open("r+b") as file:
        file.write(magic)


def test_a_table_of_another_version_is_set_aside_at_a_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "table"
    Table(path, NOW).close()
    write_magic(path, b"APIMGRL1")
    assert spend(meter(Table(path, NOW), quota(1)), [0, 0]) == [True, False]
    assert (tmp_path / "table.other-version").exists()
    assert not (tmp_path / "table.corrupt").exists()
    assert "is of another version and was set aside" in caplog.text


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("magic", [b"APIMGRL1", b"nonsense"])
def test_a_table_that_another_version_uses_is_let_be(tmp_path: Path, alone: bool, magic: bytes) -> None:
    """Two versions would write into each other's words: who comes later keeps out."""
    path = tmp_path / "table"
    other = Table(path, NOW, may_be_alone=alone)
    write_magic(path, magic)
    before = path.read_bytes()
    with pytest.raises(OtherVersion, match="stop them all"):
        Table(path, NOW)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    other.tick()
    assert other.alone is alone
    other.close()
    assert Table(path, NOW, may_be_alone=True, waits=False).alone


@pytest.mark.parametrize("size", [1, 8, 5000, 16_384 * 8, 300_001])
def test_what_a_disk_had_room_for_of_a_new_table_is_made_whole(tmp_path: Path, size: int) -> None:
    (tmp_path / "table").write_bytes(bytes(size))
    table = Table(tmp_path / "table", NOW)
    assert spend(meter(table, quota(1)), [0, 0]) == [True, False]
    assert list(tmp_path.iterdir()) == [tmp_path / "table"]


def test_what_was_spent_survives_a_disk_that_had_no_room_for_more(tmp_path: Path) -> None:
    first = Table(tmp_path / "table", NOW)
    assert spend(meter(first, quota(2)), [0]) == [True]
    first.close()
    with (tmp_path / "table").open("ab") as file:
        file.write(bytes(4096 + 8))
    assert spend(meter(Table(tmp_path / "table", NOW), quota(2)), [0, 0]) == [True, False]


def test_a_disk_that_was_full_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who could not make the table keeps none of its locks: neither it nor any other would ever get in."""

    def is_full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path, held = tmp_path / "table", psutil.Process().num_fds()
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", is_full)
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                Table(path, NOW, waits=False)
    assert psutil.Process().num_fds() == held
    table = Table(path, NOW, waits=False)
    other = Table(path, NOW, waits=False)
    assert spend(meter(other, quota(1)), [0, 0]) == [True, False]
    table.close()
    other.close()


def test_who_gets_no_column_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "fcntl", refuse_columns)
    with pytest.raises(RuntimeError, match="processes count calls"):
        Table(tmp_path / "table", NOW)
    monkeypatch.undo()
    assert Table(tmp_path / "table", NOW, may_be_alone=True, waits=False).alone


def refuse_columns(fd: int, command: int, lock: bytes, ask: Any = fcntl.fcntl) -> Any:
    if struct.unpack_from("q", lock, 8)[0] >= (1 << 60) + 16:
        raise BlockingIOError
    return ask(fd, command, lock)


def test_the_table_grows_and_takes_stale_slots_again(tmp_path: Path) -> None:
    steady = 0.0
    table = Table(tmp_path / "table", NOW, may_be_alone=True, steady=lambda: steady)
    for subscription in range(1, 3001):
        assert meter(table, quota(1), subscription=subscription).take(NOW)
    assert not meter(table, quota(1), subscription=2999).take(NOW)
    size = (tmp_path / "table").stat().st_size
    steady = 40 * 86_400
    for subscription in range(5001, 8001):
        assert meter(table, quota(1), subscription=subscription).take(NOW + 40 * 86_400)
    assert (tmp_path / "table").stat().st_size <= 2 * size


def test_slots_do_not_change_hands_with_each_call(tmp_path: Path) -> None:
    """Buckets that are full at once, of more callers than the table had room for: it grows, and is left in peace."""
    steady = 0.0
    table = Table(tmp_path / "table", NOW, may_be_alone=True, steady=lambda: steady)
    meters = [meter(table, rate(10**9), subscription=subscription) for subscription in range(1, 3001)]
    seen = set()
    for ms in range(4 * len(meters)):
        assert meters[ms % len(meters)].take(NOW + ms / 1000)
        seen.add(table.cells[CHANGES])
    assert len(seen) <= 3, "slots were given up once, in two steps, when the first table was nearly full"
    steady = 3600
    for subscription in range(4001, 8001):  # later they are given up again, so that the table does not grow for ever
        assert meter(table, rate(10**9), subscription=subscription).take(NOW + 3600)
    assert table.cells[CHANGES] not in seen


@pytest.mark.parametrize("alone", [True, False])
def test_stale_slots_are_given_up_in_short_steps(tmp_path: Path, alone: bool) -> None:
    """However many there are: who looks for them has the index to himself, and all others wait."""
    steady = 0.0
    tables = [
        Table(tmp_path / "table", NOW, may_be_alone=alone, steady=lambda: steady) for _ in range(1 if alone else 2)
    ]
    table = tables[0]
    for owner in range(1, 4001):
        at = table.slot(owner, rate(1), 0, NOW)
        table.cells[at + COUNT] = int((NOW + 60) * 1e9)
    size, steady = (tmp_path / "table").stat().st_size, 3600.0
    owners = set(range(1, 4001))
    given_up = []
    for owner in range(5001, 5021):
        tables[owner % len(tables)].slot(owner, rate(1), 0, NOW + steady)
        left = owners & {slot.owner for slot in table.slots()}
        given_up.append(len(owners) - len(left))
        owners = left
    assert max(given_up) <= 512
    assert not owners, "each was looked at"
    for owner in range(5021, 8001):
        tables[owner % len(tables)].slot(owner, rate(1), 0, NOW + steady)
    assert (tmp_path / "table").stat().st_size == size
    assert {slot.owner for slot in table.slots()} >= set(range(5001, 8001))
    for one in tables:
        one.close()


def test_a_clock_that_leaps_in_the_middle_ends_the_round(tmp_path: Path) -> None:
    steady = 0.0
    table = Table(tmp_path / "table", NOW, steady=lambda: steady)
    for owner in range(1, 4001):
        at = table.slot(owner, quota(1), 0, NOW)
        table.cells[at + START] = int(NOW)
    steady = 700.0
    table.slot(5000, quota(1), 0, NOW + steady)  # a round begins
    for owner in range(5001, 5101):
        steady += 1
        table.slot(owner, quota(1), 0, NOW + 40 * 86_400 + steady)
    assert {slot.owner for slot in table.slots()} >= set(range(1, 4001))


def test_a_call_whose_own_slot_is_stale_while_it_is_decided_has_two(tmp_path: Path) -> None:
    """Of its first limit it has a new slot, as good as any that is stale, when that of the second is looked for."""
    table = Table(tmp_path / "table", NOW, may_be_alone=True)
    for subscription in range(1, 1200):
        limited = meter(table, rate(10), quota(10), subscription=subscription)
        assert limited.take(NOW)
        assert len({window.at for window in limited.windows}) == 2
        assert b'"quota-day";r=9' in limited.fields(NOW)


def test_a_meter_is_small(tmp_path: Path) -> None:
    """A worker keeps one for each of up to 50,000 callers, so what is the same for a plan or a period is one object."""
    table = Table(tmp_path / "table", NOW, may_be_alone=True)
    limits = rate(10), quota(10)
    tracemalloc.start()
    try:
        meters = [meter(table, *limits, subscription=number) for number in range(1, 1001)]
        for one in meters:
            assert one.take(NOW)
            assert one.fields(NOW)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(meters) < 900


def test_a_meter_whose_slot_was_given_away_finds_another(tmp_path: Path) -> None:
    steady = 0.0
    table = Table(tmp_path / "table", NOW, may_be_alone=True, steady=lambda: steady)
    old = meter(table, quota(1), subscription=1)
    assert old.take(NOW)
    steady = 40 * 86_400
    later = NOW + steady
    for subscription in range(2, 3000):
        assert meter(table, quota(1), subscription=subscription).take(later)
    assert old.take(later)
    assert not old.take(later)
    assert not meter(table, quota(1), subscription=2).take(later)


# --- several processes ------------------------------------------------------------------------------------------------

_WORKER = """
import sys, json, time, os
from pathlib import Path
from apimgr.contracts.snapshot import *
from proxy.dataplane.limits import ASKING
from proxy.dataplane.limits.meter import meter_of_caller
from proxy.dataplane.limits.table import CELLS, Table
path, kind, period, amount, calls = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
version = VersionDocument(1, 1, 1, "v1", "published", "/", UpstreamDocument("http://x"))
table = Table(Path(path), time.time())
plan = PlanDocument(1, "Plan", (LimitDocument(2, kind, amount, period),))
meter = meter_of_caller(table, plan, SubscriptionDocument(5, 1, 1), version)
print("ready", flush=True); sys.stdin.readline()
admitted = over = under_way = 0
for n in range(calls):
    while (taken := meter.take(float(sys.argv[6]))) == ASKING:  # somebody was sent to sleep with the lock in hand
        time.sleep(0.001)
    if taken:
        admitted += 1
        if kind == "concurrency":
            over += sum(table.calls[(meter.windows[0].at + CELLS) * 4:][:table.columns]) > amount
            meter.ended(counts=True, began=0.0)
print(json.dumps([admitted, over]), flush=True)
"""


def start(path: Path, limit: LimitDocument, calls: int) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-c",
        _WORKER,
        str(path),
        limit.kind,
        limit.period,
        str(limit.amount),
        str(calls),
        str(NOW),
    ]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "ready\n"
    return worker


def race(path: Path, limit: LimitDocument, calls: int) -> list[list[int]]:
    """What four processes at once were let through."""
    workers = [start(path, limit, calls) for _ in range(4)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    return [json.loads(worker.communicate(timeout=60)[0]) for worker in workers]


@pytest.mark.processes
@pytest.mark.parametrize("limit", [quota(5000), rate(5000)])
def test_four_processes_spend_exactly_what_there_is(tmp_path: Path, limit: LimitDocument) -> None:
    assert sum(admitted for admitted, _ in race(tmp_path / "table", limit, 4000)) == 5000


@pytest.mark.processes
def test_four_processes_are_never_more_at_once(tmp_path: Path) -> None:
    answers = race(tmp_path / "table", at_once(2), 3000)
    assert all(admitted for admitted, _ in answers)
    assert [over for _, over in answers] == [0] * 4


@pytest.mark.processes
def test_a_killed_process_gives_its_calls_back_but_not_its_quota(tmp_path: Path) -> None:
    for _ in range(3):
        workers = [start(tmp_path / "table", quota(3000), 100_000) for _ in range(2)]
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        workers[0].kill()
        workers[0].communicate()
        workers[1].communicate(timeout=60)
    left = Table(tmp_path / "table", NOW)
    assert not meter(left, quota(3000)).take(NOW)
    holder = meter(Table(tmp_path / "table", NOW), at_once(1))
    assert holder.take(NOW)
    assert not meter(left, at_once(1)).take(NOW)


def die(table: Table) -> None:
    """Leave as who is killed does: the kernel takes the lock of the column, and what is counted there stays."""
    lock = struct.pack("hhqqi0q", fcntl.F_UNLCK, os.SEEK_SET, (1 << 60) + 16 + table.column, 1, 0)
    fcntl.fcntl(table.fd, fcntl.F_OFD_SETLK, lock)


def test_calls_of_the_dead_are_given_back_to_who_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """… and to nobody else: else a limit that refuses call after call would have all others searched each time."""
    killed, left, *gone = (Table(tmp_path / "table", NOW) for _ in range(6))
    for table in gone:
        table.close()
    assert [meter(killed, at_once(1), subscription=owner).take(NOW) for owner in (5, 6)] == [True, True]
    limited, other = (meter(left, at_once(1), subscription=owner) for owner in (5, 6))
    assert spend(limited, [0]) == [False]
    die(killed)
    assert spend(limited, [0, 0]) == [True, False]
    asked = []
    monkeypatch.setattr(fcntl, "fcntl", lambda *lock: asked.append(lock))
    assert spend(limited, [0, 0]) == [False, False]
    monkeypatch.undo()
    assert not asked, "where nothing is under way, nobody has died"
    assert spend(other, [0, 0]) == [True, False]


@pytest.mark.processes
def test_who_is_killed_gives_back_the_calls_it_had(tmp_path: Path) -> None:
    left = Table(tmp_path / "table", NOW)
    limited = meter(left, at_once(1))
    for _ in range(3):
        holder = subprocess.Popen(
            [sys.executable, "-c", _HOLDER, str(tmp_path / "table"), str(NOW)], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert spend(limited, [0]) == [False]
        holder.kill()
        holder.communicate()
        assert spend(limited, [0, 0]) == [True, False]
        limited.ended(counts=True, began=NOW)


_HOLDER = """
import sys, time
from pathlib import Path
from proxy.dataplane.limits.table import Table
from tests.proxy.dataplane.test_limits import at_once, meter
now = float(sys.argv[2])
limited = meter(Table(Path(sys.argv[1]), now), at_once(1))
print(bool(limited.take(now)), flush=True)
time.sleep(60)
"""


# --- through a worker -------------------------------------------------------------------------------------------------


def limited(*limits: LimitDocument, **plan: Any) -> World:
    world = World()
    world.plan = replace(world.plan, limits=limits, **plan)
    return world


@pytest.mark.processes
def test_who_cancels_and_comes_back_has_no_new_quota(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        assert [(await gateway.get()).status for _ in range(3)] == [200, 200, 429]
        for subscription, status in (
            (replace(SUBSCRIPTION, id=51, counts_as=50), 429),
            (replace(SUBSCRIPTION, id=52), 200),
        ):
            world.application = replace(world.application, subscriptions=(subscription,))
            world.publish()
            assert (await gateway.get()).status == status

    world = limited(quota(2))
    play(tmp_path, scenario, world)


@pytest.mark.processes
def test_who_moves_between_plans_has_no_new_quota(tmp_path: Path) -> None:
    """Plans of one product count a limit by one id: what is spent of the one is spent of the other."""

    async def scenario(gateway: Running) -> None:
        async def statuses(calls: int) -> list[int]:
            return [(await gateway.get()).status for _ in range(calls)]

        small = world.plan
        large = replace(small, id=41, name="Large", limits=(quota(5),))
        assert await statuses(3) == [200, 200, 429]
        for plan, expected in ((large, [200, 200, 200, 429]), (small, [429]), (large, [429])):
            world.plan = plan
            world.application = replace(world.application, subscriptions=(replace(SUBSCRIPTION, plan_id=plan.id),))
            world.publish()
            assert await statuses(len(expected)) == expected

    world = limited(quota(2))
    play(tmp_path, scenario, world)


@pytest.mark.processes
def test_a_call_under_way_holds_its_place_to_its_end(tmp_path: Path) -> None:
    import asyncio

    async def scenario(gateway: Running) -> None:
        arrived, go = asyncio.Event(), asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            arrived.set()
            await go.wait()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        gateway.upstream.handler = slow
        first = asyncio.ensure_future(gateway.get())
        await arrived.wait()
        second = await gateway.get()
        assert (second.status, second.headers["retry-after"]) == (429, "1")
        assert last_outcome(gateway) == "concurrency_exceeded"
        trail = json.loads(gateway.recorder.records[-1].trail)
        assert {"step": "limit", "name": "concurrency", "amount": 1, "left": 0, "retry_after_s": 1} in trail
        go.set()
        assert (await first).status == 200
        assert (await gateway.get()).status == 200, "its place is free again"

    play(tmp_path, scenario, limited(at_once(1)))


@pytest.mark.processes
@pytest.mark.parametrize(("counts_failures", "statuses"), [(True, [502, 429]), (False, [502, 502])])
def test_what_the_upstream_failed_counts_as_the_plan_says(
    tmp_path: Path, counts_failures: bool, statuses: list[int]
) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = b"HTTP/9 nonsense\r\n\r\n"
        assert [(await gateway.get()).status for _ in range(2)] == statuses

    play(tmp_path, scenario, limited(quota(1), counts_failures=counts_failures))


@pytest.mark.processes
def test_limits_of_a_keyless_api(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        replies = [await gateway.get(key="") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert "api-quota-day" in replies[0].headers["ratelimit"]
        assert replies[2].headers["retry-after"]

    world = World()
    world.version = replace(world.version, authentication="none", limits=(quota(2),))
    play(tmp_path, scenario, world)


@pytest.mark.processes
def test_limits_of_an_operation(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        assert [(await gateway.get("/orders/items")).status for _ in range(2)] == [200, 429]
        assert (await gateway.get("/orders/items/1")).status == 200

    operation: OperationDocument = VERSION.operations[2]
    play(tmp_path, scenario, limited(quota(1, operation_id=operation.id)))


@pytest.mark.parametrize(
    ("period", "anchor", "start", "end"),
    [
        ("second", "", "2026-02-28T23:59:50", "2026-02-28T23:59:51"),
        ("minute", "", "2026-02-28T23:59:00", "2026-03-01T00:00:00"),
        ("hour", "", "2026-02-28T23:00:00", "2026-03-01T00:00:00"),
        ("day", "", "2026-02-28T00:00:00", "2026-03-01T00:00:00"),
        ("month", "", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
        ("billing", "", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
        ("billing", "2025-11-15T13:00:00", "2026-02-15T00:00:00", "2026-03-15T00:00:00"),
        ("billing", "2025-10-31T13:00:00", "2026-02-28T00:00:00", "2026-03-31T00:00:00"),
        ("billing", "2025-11-01T00:00:00", "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
    ],
)
def test_calendar(period: str, anchor: str, start: str, end: str) -> None:
    at = int(datetime.fromisoformat(anchor).replace(tzinfo=UTC).timestamp()) if anchor else 0
    bounds = period_bounds(period, NOW, at)
    assert [datetime.fromtimestamp(at, UTC).isoformat()[:19] for at in bounds] == [start, end]
