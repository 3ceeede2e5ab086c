"""Store usage records from this side, by the road the gateway's shipper takes: the ledger's row, then COPY."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from django.db import connection, transaction

from analytics import partitions
from apimgr.contracts.usage import COPY_EVENTS, EVENT_TYPES, INSERT_BATCH, KIND_CALLS, UsageRecord
from apimgr.contracts.usage_rows import at, event_rows


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
        cursor.execute(INSERT_BATCH, (node, boot, worker, segment, 0, len(rows), len(rows), first, last, KIND_CALLS))
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
