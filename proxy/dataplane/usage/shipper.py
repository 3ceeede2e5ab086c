"""From the spool into the database: every record once, whatever dies in between.

A range of a segment never changes once it is written, and the ledger knows which ranges are stored. So the shipper
keeps nothing of its own: after any doubt it asks the ledger where to go on.

The calls that a dead worker left in its table are stored in the same way, the table being a segment that is read in one
go.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from apimgr.contracts.usage import KIND_CALLS, KIND_CUT_OFF, KIND_QUARANTINED, KIND_UNREADABLE, UsageRecord
from proxy.dataplane.usage.books import Shipped
from proxy.dataplane.usage.durability import keep
from proxy.dataplane.usage.inflight import LeftTable, find_tables
from proxy.dataplane.usage.mapped import is_finished
from proxy.dataplane.usage.segments import Segment, cut, find_segments, is_blank, recorded_ids
from proxy.dataplane.usage.spool import SUFFIX
from proxy.dataplane.usage.store import REFUSALS, Store

log = logging.getLogger(__name__)

Records = Sequence[tuple[int, UsageRecord]]
QUARANTINE: Final = "quarantine"


class Shipper:
    """``shipped`` is what this process made of each boot's spool. ``met_another``: the ledger knew more than we did."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._positions: dict[str, int] = {}
        self._named: set[Path] = set()  # segments that tables refer to
        self.shipped: dict[int, Shipped] = {}
        self.met_another = False

    async def ship(self, store: Store) -> int:
        """Store everything that is whole by now. Returns how many records. Raises what the database raises."""
        before = self._stored
        try:
            # Before the tables: what a table names later than this is not among them, and so not removed.
            segments = find_segments(self._root)
            tables = find_tables(self._root)
            self._named = {_named_by(table) for table in tables}
            for table in tables:
                if table.is_dead:
                    await self._settle(store, table)
            for segment in segments:
                await self._ship_segment(store, segment)
        except BaseException:
            self._positions.clear()  # A commit may have happened whose answer was lost.
            raise
        return self._stored - before

    @property
    def _stored(self) -> int:
        return sum(shipped.stored for shipped in self.shipped.values())

    async def _ship_segment(self, store: Store, segment: Segment) -> None:
        try:
            fd = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            if segment.name not in self._positions:
                self._positions[segment.name] = await store.position(segment)
            finished = is_finished(fd)  # before reading: nothing can be appended after what is read
            while await self._ship_chunk(store, segment, fd, finished=finished):
                pass
            done = finished and is_blank(fd, self._positions[segment.name])
        finally:
            os.close(fd)
        if done and segment.path not in self._named:
            self._forget(segment)

    async def _settle(self, store: Store, table: LeftTable) -> None:
        """Store what a dead worker had passed on and not recorded: once, as the ledger knows the table too."""
        recorded = recorded_ids(_named_by(table)) if table.calls else set()
        calls = [(end, call) for end, call in table.calls if call.request_id not in recorded]
        segment = Segment(table.boot, table.worker, table.number, table.path)
        if calls:
            log.warning("Worker %d ended with %d calls under way, which are recorded as such", table.worker, len(calls))
            self._positions[segment.name] = await store.position(segment)
        while rest := [item for item in calls if item[0] > self._positions[segment.name]]:
            await self._store_range(store, segment, self._positions[segment.name], rest, KIND_CUT_OFF)
        self._forget(segment)
        self._named.discard(_named_by(table))

    async def _ship_chunk(self, store: Store, segment: Segment, fd: int, *, finished: bool) -> bool:
        position = self._positions[segment.name]
        records, bad = cut(fd, position, finished=finished)
        if records:
            await self._store_range(store, segment, position, records)
        elif bad:
            await self._set_aside(store, segment, fd, bad)
        return bool(records or bad)

    async def _store_range(
        self, store: Store, segment: Segment, start: int, records: Records, kind: int = KIND_CALLS
    ) -> None:
        """Store ``records``; if the database refuses one of them, halve until it stands alone."""
        end = records[-1][0]
        try:
            stored = await store.add(segment, start, end, [record for _, record in records], kind)
        except REFUSALS as refusal:
            if len(records) == 1:
                await self._store_refused(store, segment, start, records[0], refusal, kind)
                return
            middle = len(records) // 2
            await self._store_range(store, segment, start, records[:middle], kind)
            if self._positions.get(segment.name) == records[middle - 1][0]:
                await self._store_range(store, segment, records[middle - 1][0], records[middle:], kind)
            return
        await self._advance(store, segment, end, _kept(len(records), kind) if stored else None)

    async def _store_refused(
        self, store: Store, segment: Segment, start: int, item: tuple[int, UsageRecord], refusal: Exception, kind: int
    ) -> None:
        """Keep the count at least: without what the caller could choose freely. Else the row is set aside."""
        end, record = item
        bare = record._replace(path=b"", trail=b"")
        try:
            stored = await store.add(segment, start, end, [bare], kind)
        except REFUSALS:
            log.exception("Usage record %s was refused by the database and set aside", record.request_id.hex())
            with segment.path.open("rb") as file:
                await self._set_aside(store, segment, file.fileno(), (start, end), KIND_QUARANTINED)
            return
        log.warning("Usage record %s was stored without path and trail: %s", record.request_id.hex(), refusal)
        await self._advance(store, segment, end, _kept(1, kind) if stored else None)

    async def _set_aside(
        self, store: Store, segment: Segment, fd: int, bad: tuple[int, int], kind: int = KIND_UNREADABLE
    ) -> None:
        """Keep a range that cannot be stored in a file to look at, and note in the ledger that it is passed over.

        In this order, and the file on the disk: by the ledger's word the segment, the only other copy, is removed.
        """
        start, end = bad
        path = self._root / QUARANTINE / f"{segment.name}-{start}-{end}.bin"
        await asyncio.to_thread(keep, path, os.pread(fd, end - start, start))
        stored = await store.add(segment, start, end, [], kind)
        log.error("Bytes %d to %d of usage segment %s were set aside", start, end, segment.name)
        gone = Shipped(quarantined=1) if kind == KIND_QUARANTINED else Shipped(set_aside_bytes=end - start)
        await self._advance(store, segment, end, gone if stored else None)

    async def _advance(self, store: Store, segment: Segment, end: int, made: Shipped | None) -> None:
        """Go on after a range; ``None`` says that the ledger had it already, and only it knows up to where."""
        if made is None:
            self.met_another = True
            self._positions[segment.name] = await store.position(segment)
        else:
            self._positions[segment.name] = end
            self.shipped[segment.boot] = self.shipped.get(segment.boot, Shipped()) + made

    def _forget(self, segment: Segment) -> None:
        segment.path.unlink(missing_ok=True)
        self._positions.pop(segment.name, None)


def _kept(calls: int, kind: int) -> Shipped:
    return Shipped(stored=calls, cut_off=calls if kind == KIND_CUT_OFF else 0)


def _named_by(table: LeftTable) -> Path:
    return table.path.with_name(f"{table.worker}-{table.segment}{SUFFIX}")
