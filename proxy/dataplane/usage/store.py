"""Usage records into the database: the ledger's row and the calls themselves in one transaction."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from apimgr.contracts.usage import COPY_EVENTS, EVENT_TYPES, INSERT_BATCH, UsageRecord
from proxy.dataplane.usage.segments import Segment

# What says that a row itself cannot be stored; anything else is the database's trouble, and is waited out.
REFUSALS: Final = (psycopg.DataError, psycopg.IntegrityError, ValueError, OverflowError, TypeError, struct.error)
_MOST_MICROSECONDS: Final = 2**31 - 1  # 35 minutes: a longer call is stored as that long
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
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

    async def add(self, segment: Segment, start: int, end: int, records: Sequence[UsageRecord]) -> bool:
        """Store a range whole, or not at all. False if the ledger has one that starts there already.

        Without records it notes a range that was set aside. Raises one of ``REFUSALS`` if a row cannot be stored.
        """
        first, last = _span(records)
        row = (*self._identity(segment), start, end, len(records), first, last)
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

    async def acknowledged(self, boot: int) -> int:
        """How many calls of one boot are stored."""
        query = "SELECT coalesce(sum(events), 0)::bigint FROM usage_batch WHERE node = %s AND boot = %s"
        row = await (await self._connection.execute(query, (self._node, boot))).fetchone()
        return int(row[0]) if row else 0

    def _identity(self, segment: Segment) -> tuple[str, int, int, int]:
        return self._node, segment.boot, segment.worker, segment.number


def _span(records: Sequence[UsageRecord]) -> tuple[datetime, datetime]:
    if not records:
        now = datetime.now(UTC)
        return now, now
    times = [record.started_at_us for record in records]
    return _at(min(times)), _at(max(times))


def event_rows(batch_id: int, records: Sequence[UsageRecord]) -> Iterator[tuple[Any, ...]]:
    """The columns of ``usage_event``, in their order, for each record."""
    for record in records:
        yield (
            batch_id,
            UUID(bytes=record.request_id),
            _at(record.started_at_us),
            *record[2:10],
            min(record.total_us, _MOST_MICROSECONDS),
            min(record.upstream_us, _MOST_MICROSECONDS),
            *record[12:17],
            _client(record.client),
            _text(record.path) or None,
            _trail(record.trail),
        )


def _at(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _client(packed: bytes) -> IPv4Address | IPv6Address | None:
    if not any(packed):
        return None
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


def _text(raw: bytes) -> str:
    """PostgreSQL's text takes neither NUL nor what is not UTF-8; a caller's path may hold both."""
    return raw.decode(errors="replace").replace("\0", "\ufffd")


def _trail(raw: bytes) -> Jsonb | None:
    if not raw:
        return None
    text = _text(raw).replace("\\u0000", "\\ufffd")
    try:
        return Jsonb(json.loads(text))
    except ValueError:  # cut to its limit
        return Jsonb({"cut": text})
