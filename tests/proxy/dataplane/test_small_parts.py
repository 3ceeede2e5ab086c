"""Timer wheel, request ids, counters."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.dataplane import compiled, stats
from proxy.dataplane.request_ids import new_request_id
from proxy.dataplane.timers import TICK, Timed, Wheel


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Entry(Timed):
    def __init__(self) -> None:
        self.passed: list[float] = []

    def deadline_passed(self) -> None:
        self.passed.append(clock.now)


clock = Clock()
derives = pytest.mark.skipif(compiled.is_in_use(), reason="a compiled class takes no heirs that are not")


def run(wheel: Wheel, until: float) -> None:
    while clock.now < until:
        clock.now += TICK / 3
        wheel.advance()


@derives
def test_wheel() -> None:
    clock.now = 1000.0
    wheel = Wheel(clock)
    early, moved, shortened, disarmed = Entry(), Entry(), Entry(), Entry()
    wheel.arm(early, 0.5)
    wheel.arm(moved, 0.5)
    wheel.arm(moved, 1.5)
    wheel.arm(shortened, 60)
    wheel.arm(shortened, 1.0)
    wheel.arm(disarmed, 0.5)
    wheel.disarm(disarmed)
    run(wheel, 1005)
    assert len(early.passed) == len(moved.passed) == len(shortened.passed) == 1
    assert 1000.5 <= early.passed[0] <= 1000.5 + 3 * TICK
    assert 1001.5 <= moved.passed[0] <= 1001.5 + 3 * TICK
    assert 1001.0 <= shortened.passed[0] <= 1001.0 + 3 * TICK
    assert disarmed.passed == []
    wheel.arm(disarmed, 0.2)
    run(wheel, 1006)
    assert len(disarmed.passed) == 1


@derives
def test_no_deadline_is_early_though_the_last_tick_was_long_ago() -> None:
    clock.now = 1000.0
    wheel = Wheel(clock)
    entry = Entry()
    clock.now = 1005.0
    wheel.arm(entry, 0.5)
    run(wheel, 1007)
    assert 1005.5 <= entry.passed[0] <= 1005.5 + 3 * TICK


class Broken(Timed):
    def deadline_passed(self) -> None:
        raise RuntimeError("a mistake of ours")


@derives
def test_a_deadline_that_fails_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    clock.now = 1000.0
    wheel = Wheel(clock)
    broken, other = Broken(), Entry()
    for entry in (broken, other):
        wheel.arm(entry, 0.5)
    run(wheel, 1001)
    assert len(other.passed) == 1
    assert len(caplog.records) == 1


@derives
def test_arming_again_and_again_takes_one_slot() -> None:
    clock.now = 1000.0
    wheel = Wheel(clock)
    entry = Entry()
    for _ in range(1000):
        wheel.arm(entry, 60)
        wheel.disarm(entry)
    assert sum(map(len, wheel._slots.values())) == 1


def test_request_ids() -> None:
    ids = [new_request_id(1_700_000_000.123 + n) for n in range(1000)]
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert all(len(one) == 16 and one[6] >> 4 == 7 and one[8] >> 6 == 2 for one in ids)
    assert int.from_bytes(ids[0][:6], "big") == 1_700_000_000_123


def test_stats(tmp_path: Path) -> None:
    block = stats.open_block(tmp_path / "stats", 3)
    block[stats.REQUESTS] += 2
    block[stats.outcome_word(40)] += 1
    reader = stats.StatsReader(tmp_path / "stats")
    (snapshot,) = reader.read()
    assert snapshot.worker == 3
    assert snapshot.counts["requests"] == 2
    assert snapshot.outcomes == {40: 1}
    block = stats.open_block(tmp_path / "stats", 3)
    block[stats.REQUESTS] += 1
    assert reader.read()[0].counts["requests"] == 3, "a worker that comes back goes on counting"
    stats.reset(tmp_path / "stats")
    assert stats.StatsReader(tmp_path / "stats").read() == []


def test_ends_are_counted_beside_what_workers_count(tmp_path: Path) -> None:
    path = tmp_path / "stats"
    stats.reset(path)
    stats.open_block(path, stats.MAX_WORKERS - 1)[stats.SPOOLED_BYTES] += 5
    reader = stats.StatsReader(path)
    for end in [*stats.ENDS, ("worker", "stall")]:
        stats.count_end(path, *end)
    assert reader.ends() == {**dict.fromkeys(stats.ENDS, 1), ("worker", "stall"): 2}
    assert [snapshot.worker for snapshot in reader.read()] == [stats.MAX_WORKERS - 1]
    assert [reader.total(word) for word in range(len(stats.NAMES))] == [0] * stats.SPOOLED_BYTES + [5]


def test_ends_are_counted_in_a_file_of_an_earlier_program(tmp_path: Path) -> None:
    path = tmp_path / "stats"
    path.write_bytes(bytes(stats.MAX_WORKERS * 256 * 8))
    stats.count_end(path, "agent", "exit")
    assert stats.StatsReader(path).ends()[("agent", "exit")] == 1
