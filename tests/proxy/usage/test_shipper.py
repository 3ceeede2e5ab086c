"""From spool files to rows, over a real PostgreSQL: every record once, and a bad one never holds up the rest."""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from django.db import connection
from psycopg import AsyncConnection

from analytics.services import retention, rollups
from apimgr.contracts.usage import KIND_QUARANTINED, KIND_UNREADABLE, UsageRecord, encode
from proxy.dataplane.usage.books import Shipped
from proxy.dataplane.usage.segments import LOOK_BYTES, Segment
from proxy.dataplane.usage.shipper import Shipper
from proxy.dataplane.usage.spool import Spool
from proxy.dataplane.usage.store import Store
from tests.analytics.calls import call
from tests.asynchronous import run as in_loop
from tests.proxy.processes.node import database_url

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _empty(transactional_db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE usage_batch, usage_event, usage_boot")


def ship(root: Path, shipper: Shipper | None = None, *, wrap: Callable[[Store], Any] = lambda store: store) -> Shipper:
    shipper = shipper or Shipper(root)

    async def run() -> None:
        async with await AsyncConnection.connect(database_url(), autocommit=True) as database:
            await shipper.ship(wrap(Store("node", database)))

    in_loop(run)
    return shipper


def spooled(root: Path, *frames: bytes, close: bool = True) -> Spool:
    spool = Spool(root / "1", 0)
    for frame in frames:
        spool.append(frame)
    if close:
        spool.close()
    return spool


def rows() -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT request_id, path, trail, total_us FROM usage_event ORDER BY batch_id, request_id")
        return cursor.fetchall()


def stored_ids() -> list[UUID]:
    return [row[0] for row in rows()]


def ids(*records: UsageRecord) -> list[UUID]:
    return [UUID(bytes=record.request_id) for record in records]


def segments(root: Path) -> list[Path]:
    return list(root.glob("*/*.spool"))


def leave_blank(root: Path) -> None:
    """What the room of a segment looks like that its writer, killed, could not give back."""
    (segment,) = segments(root)
    with segment.open("ab") as file:
        file.write(bytes(3_000_000))


def test_records_become_rows_and_a_finished_segment_goes(tmp_path: Path) -> None:
    records = [call(total_us=n) for n in range(5)]
    spooled(tmp_path, *map(encode, records))
    assert ship(tmp_path).shipped == {1: Shipped(stored=5)}
    assert sorted(stored_ids()) == sorted(ids(*records))
    assert segments(tmp_path) == []


def test_a_growing_segment_is_shipped_as_it_grows(tmp_path: Path) -> None:
    first, second = call(), call()
    spool = spooled(tmp_path, encode(first), close=False)
    shipper = ship(tmp_path)
    spool.append(encode(second))
    ship(tmp_path, shipper)
    assert sorted(stored_ids()) == sorted(ids(first, second))
    assert len(segments(tmp_path)) == 1


def test_much_of_a_growing_segment_is_shipped_at_once(tmp_path: Path) -> None:
    """Most looks at it find little, and read no more than that."""
    many = [call() for _ in range(2 * LOOK_BYTES // len(encode(call())))]
    spool = spooled(tmp_path, *map(encode, many), close=False)
    shipper = ship(tmp_path)
    with connection.cursor() as cursor:
        cursor.execute("SELECT events FROM usage_batch")
        assert cursor.fetchall() == [(len(many),)]
    spool.append(encode(call()))
    assert ship(tmp_path, shipper).shipped[1].stored == len(many) + 1
    spool.close()


def test_another_agent_goes_on_where_the_ledger_says(tmp_path: Path) -> None:
    spool = spooled(tmp_path, encode(call()), close=False)
    ship(tmp_path)
    spool.append(encode(call()))
    ship(tmp_path)
    assert len(rows()) == 2


def test_a_segment_of_long_ago_is_not_stored_again(tmp_path: Path) -> None:
    """The ledger forgets its ranges but for the last: what that knows suffices, and so do the books."""
    spool = spooled(tmp_path, encode(call()), close=False)
    ship(tmp_path)
    for _ in range(2):
        spool.append(encode(call()))
        ship(tmp_path)
    rollups.roll_up_all()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_batch SET shipped_at = shipped_at - interval '1 year', last_at = '2025-03-01'")
    assert retention.prune_ledger() == 2
    spool.append(encode(call()))
    spool.close()
    assert ship(tmp_path).shipped[1].stored == 1
    assert len(rows()) == 4
    assert shipped() == Shipped(stored=4)
    assert segments(tmp_path) == []


def shipped() -> Shipped:
    async def ask() -> None:
        async with await AsyncConnection.connect(database_url(), autocommit=True) as database:
            found.append(await Store("node", database).shipped(1))

    found: list[Shipped] = []
    in_loop(ask)
    return found[0]


class LostAnswer:
    """A store whose commit succeeds but whose answer never arrives, once."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.position = store.position

    async def add(self, *args: Any) -> bool:
        await self.store.add(*args)
        raise ConnectionError


def test_a_commit_whose_answer_was_lost_is_not_repeated(tmp_path: Path) -> None:
    spool = spooled(tmp_path, encode(call()), close=False)
    shipper = Shipper(tmp_path)
    with pytest.raises(ConnectionError):
        ship(tmp_path, shipper, wrap=LostAnswer)
    spool.append(encode(call()))
    ship(tmp_path, shipper)
    assert len(rows()) == 2


def test_two_agents_at_once_store_everything_once(tmp_path: Path) -> None:
    spooled(tmp_path, *(encode(call()) for _ in range(2000)))

    async def run() -> None:
        async def one() -> None:
            async with await AsyncConnection.connect(database_url(), autocommit=True) as database:
                await Shipper(tmp_path).ship(Store("node", database))

        both: list[Awaitable[None]] = [one(), one()]
        await asyncio.gather(*both)

    in_loop(run)
    assert len(rows()) == len(set(stored_ids())) == 2000


def test_a_killed_writer_s_blank_tail_is_no_loss(tmp_path: Path) -> None:
    records = [call() for _ in range(3)]
    spooled(tmp_path, *map(encode, records))
    leave_blank(tmp_path)
    shipper = ship(tmp_path)
    assert sorted(stored_ids()) == sorted(ids(*records))
    assert (shipper.shipped[1].set_aside_bytes, segments(tmp_path)) == (0, [])


def test_a_torn_frame_before_a_blank_tail_is_cut(tmp_path: Path) -> None:
    whole, torn = call(), encode(call())[:-20]
    spooled(tmp_path, encode(whole), torn)
    leave_blank(tmp_path)
    shipper = ship(tmp_path)
    assert stored_ids() == ids(whole)
    assert len(torn) - 16 <= shipper.shipped[1].set_aside_bytes <= len(torn)
    assert segments(tmp_path) == []


def test_a_hole_that_a_power_cut_left_costs_its_records_alone(tmp_path: Path) -> None:
    before, after = call(), call()
    spooled(tmp_path, encode(before), bytes(300), encode(after))
    shipper = ship(tmp_path)
    assert sorted(stored_ids()) == sorted(ids(before, after))
    assert shipper.shipped[1].set_aside_bytes == 300


def test_a_torn_tail_is_cut(tmp_path: Path) -> None:
    whole = call()
    spooled(tmp_path, encode(whole), encode(call())[:-7])
    shipper = ship(tmp_path)
    assert stored_ids() == ids(whole)
    assert shipper.shipped[1].set_aside_bytes > 0
    assert segments(tmp_path) == []


@pytest.mark.parametrize("at", [0, 1, 2, 40, 100])
def test_a_flipped_byte_costs_its_record_alone(tmp_path: Path, at: int) -> None:
    before, after = call(), call()
    broken = bytearray(encode(call()))
    broken[at] ^= 0x10
    spooled(tmp_path, encode(before), bytes(broken), encode(after))
    shipper = ship(tmp_path)
    assert sorted(stored_ids()) == sorted(ids(before, after))
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert kept.read_bytes() == bytes(broken)
    assert shipper.shipped[1].set_aside_bytes == len(broken)


class Ledger:
    """A store that says what else had happened by the time a range is noted in the ledger."""

    def __init__(self, store: Store, happened: list[Any]) -> None:
        self.store = store
        self.position = store.position
        self.happened = happened

    async def add(self, segment: Segment, start: int, end: int, records: Any, kind: int) -> bool:
        self.happened.append(kind)
        return await self.store.add(segment, start, end, records, kind)


@pytest.mark.parametrize(
    ("bad", "kind"), [(b"\x77" * 200, KIND_UNREADABLE), (encode(call(started_at_us=2**63)), KIND_QUARANTINED)]
)
def test_what_is_set_aside_is_on_the_disk_before_the_ledger_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, kind: int
) -> None:
    """The segment goes by the ledger's word: a power cut must leave its bytes in the file, and the file its name."""
    happened: list[Any] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda fd: (happened.append(str(Path(f"/proc/self/fd/{fd}").readlink())), fsync(fd))
    )
    spooled(tmp_path, bad, encode(call()))
    ship(tmp_path, wrap=lambda store: Ledger(store, happened))
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert kept.read_bytes() == bad
    noted = happened.index(kind)
    assert happened[noted - 3 : noted] == [str(kept), str(kept.parent), str(tmp_path)]


@pytest.mark.parametrize(
    "path", [b"/nul\0here", b"/\xff\xfe", b"/caf\xc3\xa9", b"/" + b"x" * 5000, b"\\u0000", b"/\xed\xa0\x80"]
)
def test_any_path_is_stored(tmp_path: Path, path: bytes) -> None:
    spooled(tmp_path, encode(call(path=path)))
    ship(tmp_path)
    ((_, stored, _, _),) = rows()
    assert stored


@pytest.mark.parametrize(
    "trail", [b'{"step": "key"}', b'{"cut', b'{"nul": "\\u0000"}', b'{"half": "\\ud800"}', b"\xff", b"NaN"]
)
def test_any_trail_costs_at_most_itself(tmp_path: Path, trail: bytes) -> None:
    spooled(tmp_path, encode(call()), encode(call(trail=trail)), encode(call()))
    assert ship(tmp_path).shipped[1].quarantined == 0
    assert len(rows()) == 3


def test_a_trail_comes_back_as_it_was(tmp_path: Path) -> None:
    spooled(tmp_path, encode(call(trail=json.dumps({"plan": "Free", "limit": 60}).encode())))
    ship(tmp_path)
    trail = rows()[0][2]
    assert (json.loads(trail) if isinstance(trail, str) else trail) == {"plan": "Free", "limit": 60}


def test_poison_is_set_aside_and_later_records_flow(tmp_path: Path) -> None:
    good = [call() for _ in range(50)]
    poison = call(started_at_us=2**63)
    frames = [*map(encode, good[:25]), encode(poison), *map(encode, good[25:])]
    spooled(tmp_path, *frames)
    shipper = ship(tmp_path)
    assert sorted(stored_ids()) == sorted(ids(*good))
    assert shipper.shipped[1].quarantined == 1
    (kept,) = (tmp_path / "quarantine").iterdir()
    assert kept.read_bytes() == encode(poison)
    assert segments(tmp_path) == []


def test_a_call_of_an_hour_is_stored(tmp_path: Path) -> None:
    spooled(tmp_path, encode(call(total_us=3_600_000_000)))
    ship(tmp_path)
    assert rows()[0][3] == 2**31 - 1


def test_the_checksum_is_the_contract_s(tmp_path: Path) -> None:
    frame = encode(call())
    assert int.from_bytes(frame[2:6], "little") == zlib.crc32(frame[6:])
