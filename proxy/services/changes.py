"""The change log: what gateways must know, numbered in the order in which it was committed (docs/adr/0004)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import KIND_OF, Document
from apimgr.core.errors import DomainError
from proxy.models import AppliedChanges, GatewayChange

CHANNEL: Final = "gateway_change"
# A node's store takes no longer key than 511 bytes, its kind included.
MAX_KEY_BYTES: Final = 490
RECEIPTS_KEPT: Final = timedelta(days=2)

Entry = tuple[str, str]

# Making the row and locking it is one statement: no migration has to have made it.
_LOCK: Final = """
    INSERT INTO proxy_changecounter AS counter (id, last) VALUES (1, 0)
    ON CONFLICT (id) DO UPDATE SET last = counter.last RETURNING last
"""
_LATEST: Final = """
    SELECT wanted.kind, wanted.key, latest.document
    FROM unnest(%s::text[], %s::text[]) AS wanted (kind, key)
    JOIN LATERAL (
        SELECT document FROM proxy_gatewaychange AS change
        WHERE change.kind = wanted.kind AND change.key = wanted.key ORDER BY sequence DESC LIMIT 1
    ) AS latest ON true
"""


def append_changes(documents: Iterable[Document] = (), tombstones: Iterable[Entry] = ()) -> int:
    """Append what differs from what the log says last, inside the caller's transaction. Returns the last sequence.

    The counter's row stays locked until the caller commits: a second writer waits there, and so takes its numbers after
    the first one's are visible. Sequence order is commit order, and a reader who asks for "after N" misses nothing.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("changes belong to the transaction of what they tell")
    wanted: dict[Entry, str | None] = {(kind, _checked(key)): None for kind, key in tombstones}
    wanted.update({(KIND_OF[type(item)], _checked(item.key)): snapshot.dump(item).decode() for item in documents})
    if not wanted:
        return 0
    last = _lock_counter()
    known = _latest_documents(wanted)
    fresh = [(entry, document) for entry, document in wanted.items() if known.get(entry) != document]
    if fresh:
        _write(last, fresh)
    return last + len(fresh)


def _checked(key: str) -> str:
    if not key or len(key.encode()) > MAX_KEY_BYTES:
        raise DomainError(_("The public address is too long for the gateway."), code="gateway_key_too_long")
    return key


def _lock_counter() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        last: int = cursor.fetchone()[0]
        return last


def _latest_documents(entries: Iterable[Entry]) -> dict[Entry, str | None]:
    kinds, keys = zip(*entries, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(_LATEST, [list(kinds), list(keys)])
        return {(kind, key): document for kind, key, document in cursor.fetchall()}


def _write(last: int, fresh: list[tuple[Entry, str | None]]) -> None:
    GatewayChange.objects.bulk_create(
        (
            GatewayChange(sequence=sequence, kind=kind, key=key, document=document)
            for sequence, ((kind, key), document) in enumerate(fresh, last + 1)
        ),
        batch_size=1000,
    )
    with connection.cursor() as cursor:
        cursor.execute("UPDATE proxy_changecounter SET last = %s WHERE id = 1", [last + len(fresh)])
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


@transaction.atomic
def compact_changes() -> int:
    """Delete rows that a later one of the same kind and key supersedes, and receipts nobody asks for any more.

    A node that lags behind loses nothing: the row that superseded is still ahead of it. If the last one that it read
    went, it reads all anew. Returns how many changes went.
    """
    AppliedChanges.objects.filter(applied_at__lt=timezone.now() - RECEIPTS_KEPT).delete()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM proxy_gatewaychange AS old WHERE EXISTS (
                SELECT FROM proxy_gatewaychange AS newer
                WHERE newer.kind = old.kind AND newer.key = old.key AND newer.sequence > old.sequence
            )
            """
        )
        return int(cursor.rowcount)
