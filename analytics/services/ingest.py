"""Store usage records from this side, by the road the gateway's shipper takes: the ledger's row, then COPY."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv6Address
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction
from psycopg.types.json import Jsonb

from analytics import partitions
from apimgr.contracts.usage import COPY_EVENTS, EVENT_TYPES, INSERT_BATCH, UPSERT_NODE, UsageRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_MICROSECONDS: Final = 2**31 - 1  # 35 minutes: a longer call is stored as that long


@transaction.atomic
def write_batch(*, node: str, boot: int, worker: int, segment: int, records: Iterable[UsageRecord]) -> int:
    """Store ``records`` as one batch of the ledger: whole, or not at all, and only once.

    ``(node, boot, worker, segment)`` is its identity; a batch that is there already is left as it is. Returns how many
    records were stored.
    """
    rows: Sequence[UsageRecord] = list(records)
    if not rows:
        return 0
    first, last = at(min(r.started_at_us for r in rows)), at(max(r.started_at_us for r in rows))
    with connection.cursor() as cursor:
        cursor.execute(INSERT_BATCH, (node, boot, worker, segment, 0, len(rows), len(rows), first, last))
        inserted = cursor.fetchone()
        if inserted is None:
            return 0
        with cursor.copy(COPY_EVENTS) as copy:
            copy.set_types(EVENT_TYPES)
            for row in event_rows(inserted[0], rows):
                copy.write_row(row)
    return len(rows)


def ensure_days(first: datetime, last: datetime) -> None:
    """Make the partitions that calls from ``first`` to ``last`` belong to. Do so before writing the past."""
    partitions.ensure_partitions(first.astimezone(UTC).date(), last.astimezone(UTC).date())


def tell_shipped(*, node: str, until: datetime) -> None:
    """Say that everything ``node`` served before ``until`` is stored."""
    with connection.cursor() as cursor:
        cursor.execute(UPSERT_NODE, (node, until))


def event_rows(batch_id: int, records: Iterable[UsageRecord]) -> Iterator[tuple[Any, ...]]:
    """The columns of ``usage_event`` for each record."""
    for record in records:
        yield (
            batch_id,
            UUID(bytes=record.request_id),
            at(record.started_at_us),
            *record[2:10],
            min(record.total_us, _MOST_MICROSECONDS),
            min(record.upstream_us, _MOST_MICROSECONDS),
            *record[12:17],
            client_address(record.client),
            record.path.decode(errors="replace").replace("\0", "\ufffd") or None,
            trail_of(record.trail),
        )


def at(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def client_address(packed: bytes) -> Any:
    """The peer's address, ``None`` where the deployment keeps none."""
    if not any(packed):
        return None
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


def trail_of(raw: bytes) -> Jsonb | None:
    """The decision trail; one that was cut is kept as text, so that the call is stored all the same."""
    if not raw:
        return None
    try:
        return Jsonb(json.loads(raw))
    except ValueError:
        return Jsonb({"cut": raw.decode(errors="replace").replace("\0", "\ufffd")})
