"""A worker killed anywhere, and an agent too, leaves one row for each call that was passed on or answered."""

from __future__ import annotations

import mmap
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimgr.contracts.outcomes import BY_CODE
from apimgr.contracts.usage import KNOWN, UsageRecord, encode
from proxy.dataplane.usage import inflight, mapped, spool
from proxy.dataplane.usage.inflight import CALLS_PER_STEP, find_tables
from proxy.dataplane.usage.mapped import MappedFile
from proxy.dataplane.usage.segments import Segment, find_segments
from proxy.dataplane.usage.shipper import Shipper
from proxy.dataplane.usage.spool import Spool, SpoolFull
from proxy.dataplane.usage.store import Store
from tests.analytics.calls import call
from tests.asynchronous import run

ABORTED = BY_CODE["gateway_aborted"].number
SMALL_SEGMENT = 8192  # so that a few records fill one


class Killed(BaseException):
    """The process ended here."""


class Death:
    """Comes after so many stores to memory that outlives the process."""

    def __init__(self, after: int) -> None:
        self.left = after

    def stored(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class Memory(mmap.mmap):
    death: Death

    def __setitem__(self, at: Any, value: Any) -> None:
        super().__setitem__(at, value)
        self.death.stored()


class Packing:
    """A ``Struct`` whose stores count."""

    def __init__(self, struct: Any, death: Death) -> None:
        self._struct, self._death = struct, death
        self.pack, self.unpack, self.unpack_from, self.size = (
            struct.pack,
            struct.unpack,
            struct.unpack_from,
            struct.size,
        )

    def pack_into(self, *args: Any) -> None:
        self._struct.pack_into(*args)
        self._death.stored()


class Ledger:
    """The database's part: a range is stored once. ``dies_at``: when the agent does, if odd after a commit."""

    def __init__(self) -> None:
        self.ranges: dict[tuple[str, int], int] = {}
        self.rows: list[UsageRecord] = []
        self.dies_at = -1
        self._steps = 0

    def _step(self) -> None:
        if self._steps == self.dies_at:
            self._steps += 1
            raise Killed
        self._steps += 1

    async def position(self, segment: Segment) -> int:
        return max((end for (name, _), end in self.ranges.items() if name == segment.name), default=0)

    async def add(self, segment: Segment, start: int, end: int, records: Sequence[UsageRecord], kind: int = 0) -> bool:
        self._step()
        if (segment.name, start) in self.ranges:
            return False
        self.ranges[segment.name, start] = end
        self.rows += records
        self._step()
        return True


def ship(root: Path, ledger: Ledger, shipper: Shipper | None = None) -> None:
    run(lambda: (shipper or Shipper(root)).ship(cast("Store", ledger)))


def kill(spool: Spool) -> None:
    """Let go of what a process that dies lets go of, and of nothing else."""
    _let_go([file for file in (spool._segment, spool._next, spool.calls and spool.calls._file) if file])


def _let_go(files: list[MappedFile]) -> None:
    for file in files:
        if not file.memory.closed:
            file.memory.close()
            os.close(file.fd)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def hold(spool: Spool, record: UsageRecord) -> int:
    assert spool.has_room(1)
    assert spool.calls is not None
    return spool.calls.hold(KNOWN.pack(*record[:8]), record.method, record.flags, record.client)


def test_a_call_under_way_when_its_worker_is_killed_gets_a_row(root: Path) -> None:
    written, ledger = Spool(root / "1", 0), Ledger()
    one, other, told = call(), call(), call()
    slots = [hold(written, record) for record in (one, other, told)]
    assert written.calls is not None
    written.calls.progress(slots[2], 7, 8, 200)
    written.append(encode(other), slots[1])
    ship(root, ledger)
    assert [row.request_id for row in ledger.rows] == [other.request_id], "its worker lives"
    kill(written)
    ship(root, ledger)
    rows = {row.request_id: row for row in ledger.rows}
    assert len(ledger.rows) == len(rows) == 3
    row = rows[one.request_id]
    assert row[:8] == one[:8], "who called what, and when"
    assert (row.outcome, row.status, row.upstream_status, row.total_us) == (ABORTED, 500, 0, 0)
    assert (row.method, row.flags, row.client) == (one.method, one.flags, one.client)
    row = rows[told.request_id]
    assert (row.status, row.bytes_in, row.bytes_out) == (200, 7, 8), "as far as it had come"
    ship(root, ledger)
    assert not list(root.glob("*/*")), "nothing is left of it"


def test_a_worker_that_leaves_in_order_leaves_no_table(root: Path) -> None:
    written = Spool(root / "1", 0)
    written.append(encode(call()), hold(written, call()))
    written.close()
    assert find_tables(root) == []


def test_a_call_whose_record_the_spool_did_not_take_gets_a_row_in_the_end(root: Path) -> None:
    written, ledger = Spool(root / "1", 0), Ledger()
    hold(written, call())
    written.close()
    ship(root, ledger)
    assert [row.outcome for row in ledger.rows] == [ABORTED]


def test_the_table_grows_with_the_connections(root: Path) -> None:
    written = Spool(root / "1", 0)
    assert written.has_room(CALLS_PER_STEP + 1)
    slots = [hold(written, call()) for _ in range(CALLS_PER_STEP + 1)]
    assert len(set(slots)) == len(slots)
    assert 0 not in slots
    kill(written)
    (table,) = find_tables(root)
    assert len(table.calls) == len(slots)


def test_a_call_that_stays_held_takes_no_place_from_others(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inflight, "CALLS_PER_STEP", 1)
    monkeypatch.setattr(spool, "SEGMENT_BYTES", SMALL_SEGMENT)
    written, ledger, record = Spool(root / "1", 0, budget_bytes=SMALL_SEGMENT), Ledger(), call()
    slot = hold(written, record)
    with pytest.raises(SpoolFull):
        written.append(b"x" * (SMALL_SEGMENT + 1), slot)
    other = call()
    written.append(encode(other), hold(written, other))
    written.close()
    ship(root, ledger)
    assert {row.request_id: row.outcome for row in ledger.rows} == {record.request_id: ABORTED, other.request_id: 0}


def test_without_room_for_the_table_no_call_is_passed_on(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Spool(root / "1", 0)

    def full(*_: object) -> None:
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "posix_fallocate", full)
    assert not written.has_room(CALLS_PER_STEP + 1)
    assert written.has_room(CALLS_PER_STEP)
    monkeypatch.undo()
    assert written.has_room(CALLS_PER_STEP + 1)


def test_a_table_of_another_run_of_the_machine_is_not_believed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, ledger = Spool(root / "1", 0), Ledger()
    hold(written, call())
    kill(written)
    monkeypatch.setattr(inflight, "kernel_boot", lambda: b"another")
    ship(root, ledger)
    assert ledger.rows == []
    assert find_tables(root) == []


def test_a_worker_that_dies_while_its_segment_is_shipped(root: Path) -> None:
    """Its table was seen alive, so the segment that may tell of a call in both has to wait for the table."""
    written, ledger, record = Spool(root / "1", 0), Ledger(), call()
    hold(written, record)
    written.append(encode(record))  # killed before the slot is cleared

    class Meanwhile(Ledger):
        async def position(self, segment: Segment) -> int:
            kill(written)
            return await ledger.position(segment)

        add = staticmethod(ledger.add)  # type: ignore[assignment]

    shipper = Shipper(root)
    ship(root, Meanwhile(), shipper)
    ship(root, ledger, shipper)
    ship(root, ledger, shipper)
    assert [row.request_id for row in ledger.rows] == [record.request_id]
    assert find_segments(root) == find_tables(root) == []


def test_a_slot_that_is_half_written_does_not_hold(root: Path) -> None:
    """Its last byte is stored last, so whatever comes before is nothing yet."""
    written = Spool(root / "1", 0)
    slot = hold(written, call())
    assert written.calls is not None
    whole = bytes(written.calls._memory[slot : slot + inflight._SLOT.size])
    for stored in range(len(whole)):
        written.calls._memory[slot : slot + len(whole)] = whole[:stored].ljust(len(whole), b"\0")
        kept = inflight._read(os.open(written.calls._path, os.O_RDONLY), written.calls._path, 1, 0, 1)
        assert kept.calls == []
    kill(written)


class Worker:
    """Passes calls on and records them, as told, until it dies; remembers what it did."""

    def __init__(self, root: Path, death: Death, patch: pytest.MonkeyPatch) -> None:
        self.begun: set[bytes] = set()
        self.passed_on: set[bytes] = set()  # the upstream may know of them
        self._root = root
        self._files: list[MappedFile] = []
        self._under_way: list[tuple[int, UsageRecord]] = []
        self._patch(patch, death)

    def _patch(self, patch: pytest.MonkeyPatch, death: Death) -> None:
        """Have every store counted, and every file remembered."""
        files = self._files

        class File(MappedFile):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                files.append(self)

        patch.setattr(mapped.mmap, "mmap", type("Memory", (Memory,), {"death": death}))
        patch.setattr(spool, "SEGMENT_BYTES", SMALL_SEGMENT)
        for module in (inflight, spool):
            patch.setattr(module, "MappedFile", File)
        for name in ("_SLOT", "_SEGMENT"):
            patch.setattr(inflight, name, Packing(getattr(inflight, name), death))

    def start(self) -> None:
        self.spool = Spool(self._root / "1", 0)

    def step(self, choice: int) -> None:
        if choice % 3 and self._under_way:
            slot, record = self._under_way.pop(choice % len(self._under_way))
            self.spool.append(encode(record._replace(trail=b"x" * (choice % 2000))), slot)
        else:
            record = call()
            self.begun.add(record.request_id)
            slot = hold(self.spool, record)
            self.passed_on.add(record.request_id)
            self._under_way.append((slot, record))

    def die(self) -> None:
        _let_go(self._files)


@given(
    choices=st.lists(st.integers(0, 10_000), max_size=30),
    dies_after=st.integers(0, 90),
    ships_after=st.sets(st.integers(0, 30)),
    agent_dies_at=st.integers(-1, 12),
)
def test_wherever_worker_and_agent_die_each_call_has_one_row(
    choices: list[int], dies_after: int, ships_after: set[int], agent_dies_at: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        root = Path(folder)
        ledger = Ledger()
        ledger.dies_at = agent_dies_at
        worker, shipper = Worker(root, Death(dies_after), patch), Shipper(root)
        with suppress(Killed):
            worker.start()
            for number, choice in enumerate(choices):
                worker.step(choice)
                if number in ships_after:
                    shipper = _ship_or_die(root, ledger, shipper)
        worker.die()
        # First the agent that saw the worker alive; should it die too, those that come after it.
        for _ in range(4):
            shipper = _ship_or_die(root, ledger, shipper)
        rows = Counter(row.request_id for row in ledger.rows)
        assert not [row for row, count in rows.items() if count > 1], "no call twice"
        assert worker.passed_on <= rows.keys() <= worker.begun, "each that was passed on, and no other"
        assert find_segments(root) == find_tables(root) == [], "nothing waits for ever"


def _ship_or_die(root: Path, ledger: Ledger, shipper: Shipper) -> Shipper:
    try:
        ship(root, ledger, shipper)
    except Killed:
        return Shipper(root)
    return shipper
