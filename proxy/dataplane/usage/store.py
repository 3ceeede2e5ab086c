"""Usage records into the database: the ledger's row and the calls themselves in one transaction."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection

from apimgr.contracts.usage import (
    BOOK_COLUMNS,
    BOOKS_OF_BOOT,
    COPY_EVENTS,
    EVENT_TYPES,
    INSERT_BATCH,
    KIND_CALLS,
    UsageRecord,
)
from apimgr.contracts.usage_rows import at, event_rows
from proxy.dataplane.usage.books import Shipped
from proxy.dataplane.usage.segments import Segment

# What says that a row itself cannot be stored; anything else is the database's trouble, and is waited out.
REFUSALS: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, OverflowError, TypeError, struct.error)
_POSITION: Final = (
    "SELECT max(to_offset) FROM usage_batch WHERE node = %s AND boot = %s AND worker = %s AND segment = %s"
)


class Store:
    """One node's side of the ledger."""

    def __init__(self, node: str, connection: AsyncConnection[Any]) -> None:
        self._node = node
        self._connection = connection

    async def position(self, segment: Segment) -> int:
        """How far a segment is stored: the ledger is the only one who knows for sure."""
        row = await (await self._connection.execute(_POSITION, self._identity(segment))).fetchone()
        return (row and row[0]) or 0

    async def add(
        self, segment: Segment, start: int, end: int, records: Sequence[UsageRecord], kind: int = KIND_CALLS
    ) -> bool:
        """Store a range whole, or not at all. False if the ledger has one that starts there already.

        Without records it notes a range that was set aside; ``kind`` says what it was. Raises one of ``REFUSALS`` if a
        row cannot be stored.
        """
        first, last = _span(records)
        row = (*self._identity(segment), start, end, len(records), first, last, kind)
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.execute(INSERT_BATCH, row)
            inserted = await cursor.fetchone()
            if inserted is None:
                return False
            if records:
                async with cursor.copy(COPY_EVENTS) as copy:
                    copy.set_types(EVENT_TYPES)
                    for event in event_rows(inserted[0], records):
                        await copy.write_row(event)
        return True

    async def shipped(self, boot: int) -> Shipped:
        """What was made of one boot's spool, by the books: the ledger itself forgets what is old."""
        found = await self.books(boot)
        return Shipped(*(found.get(name, 0) for name in ("stored", "cut_off", "quarantined", "set_aside_bytes")))

    async def books(self, boot: int) -> dict[str, int]:
        """What the database holds of one boot, and how much of it is in the counts (``BOOK_COLUMNS``)."""
        row = await (await self._connection.execute(BOOKS_OF_BOOT, (self._node, boot))).fetchone()
        return dict(zip(BOOK_COLUMNS, map(int, row[2:]), strict=True)) if row else {}

    def _identity(self, segment: Segment) -> tuple[str, int, int, int]:
        return self._node, segment.boot, segment.worker, segment.number


def _span(records: Sequence[UsageRecord]) -> tuple[datetime, datetime]:
    if not records:
        now = datetime.now(UTC)
        return now, now
    times = [record.started_at_us for record in records]
    return at(min(times)), at(max(times))
