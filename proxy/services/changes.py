"""The change log: what gateways must know, numbered in the order in which it was committed (docs/adr/0004)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from secrets import randbits
from typing import Any, Final, NamedTuple

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import KIND_OF, Document
from apimgr.core.errors import DomainError
from proxy.models import AppliedChanges, ChangeCounter, GatewayChange

CHANNEL: Final = "gateway_change"
# A node's store takes no longer key than 511 bytes, its kind included.
MAX_KEY_BYTES: Final = 490
RECEIPTS_KEPT: Final = timedelta(days=2)
SECRETS_REMEMBERED: Final = timedelta(days=365)
UNTOLD: Final = timedelta(hours=1)  # longer than any node that is there takes to tell what it has read

Entry = tuple[str, str]


class Overtaken(Exception):
    """Others have spoken of ``entries`` since the rows were read that these were compiled from."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = frozenset(entries)
        super().__init__(f"others have spoken of {len(self.entries)} entries")


class Said(NamedTuple):
    """The log's last word on an entry, and whether it is the one that is wanted."""

    sequence: int
    is_wanted: bool


# Making the row and locking it is one statement: no migration has to have made it.
_LOCK: Final = """
    INSERT INTO proxy_changecounter AS counter (id, last) VALUES (1, 0)
    ON CONFLICT (id) DO UPDATE SET last = counter.last RETURNING last
"""
_LATEST: Final = """
    SELECT wanted.kind, wanted.key, latest.sequence{document}
    FROM unnest(%s::text[], %s::text[]) AS wanted (kind, key)
    JOIN LATERAL (
        SELECT sequence, document FROM proxy_gatewaychange AS change
        WHERE change.kind = wanted.kind AND change.key = wanted.key AND sequence > 0 ORDER BY sequence DESC LIMIT 1
    ) AS latest ON true
"""
_NUMBER: Final = """
    UPDATE proxy_gatewaychange AS change SET sequence = %s + draft.place, created_at = %s
    FROM unnest(%s::bigint[]) WITH ORDINALITY AS draft (sequence, place) WHERE change.sequence = draft.sequence
"""


def append_compiled(compile_: Callable[[], tuple[Iterable[Document], Iterable[Entry]]]) -> int:
    """Append the documents and tombstones that ``compile_`` makes of the rows, as they are when it is said.

    Another transaction may change a part of the same thing meanwhile, and tell of it. Its rows are not seen before it
    commits, so what was made without them would take its word back: a suspension, say, that nobody ended.
    """
    began = last_said()
    try:
        return append_changes(*compile_(), as_of=began)
    except Overtaken:
        return append_changes(*compile_())  # by now the counter is ours, so that nobody else speaks


def last_said() -> int:
    """The number of the last change that is committed, or this transaction's own."""
    return ChangeCounter.objects.values_list("last", flat=True).first() or 0


def append_changes(
    documents: Iterable[Document] = (), tombstones: Iterable[Entry] = (), *, as_of: int | None = None
) -> int:
    """Append what differs from what the log says last, inside the caller's transaction. Returns the last sequence.

    The counter's row stays locked until the caller commits: a second writer waits there, and so takes its numbers after
    the first one's are visible. Sequence order is commit order, and a reader who asks for "after N" misses nothing.

    ``as_of`` is what was said last before the rows were read: raises ``Overtaken``, with the counter locked and nothing
    appended, if there is a later word on any of it.
    """
    if not connection.in_atomic_block:
        raise RuntimeError("changes belong to the transaction of what they tell")
    wanted: dict[Entry, str | None] = {(kind, _checked(key)): None for kind, key in tombstones}
    wanted.update({(KIND_OF[type(item)], _checked(item.key)): snapshot.dump(item).decode() for item in documents})
    if not wanted:
        return 0
    # All writers wait for the lock, and documents may have megabytes: they are compared and written before. Only what
    # others said in between is looked at again.
    said = _said(wanted)
    drafts = _draft(_news(wanted, said))
    last = _lock_counter()
    by_now = _spoken_of(wanted)
    if as_of is not None and (overtaken := [entry for entry, sequence in by_now.items() if sequence > as_of]):
        _discard(drafts.values())
        raise Overtaken(overtaken)
    # No row ever changes, so the number tells.
    if since := [entry for entry, sequence in by_now.items() if entry not in said or said[entry].sequence != sequence]:
        said.update(_said({entry: wanted[entry] for entry in since}))
    news = _news(wanted, said)
    drafts.update(_draft({entry: document for entry, document in news.items() if entry not in drafts}))
    _discard(draft for entry, draft in drafts.items() if entry not in news)
    if news:
        _number(last, [drafts[entry] for entry in news])
    return last + len(news)


def _checked(key: str) -> str:
    if not key or len(key.encode()) > MAX_KEY_BYTES:
        raise DomainError(_("The public address is too long for the gateway."), code="gateway_key_too_long")
    return key


def _lock_counter() -> int:
    with connection.cursor() as cursor:
        cursor.execute(_LOCK)
        last: int = cursor.fetchone()[0]
        return last


def _said(wanted: dict[Entry, str | None]) -> dict[Entry, Said]:
    """The last word on each that there is one on."""
    rows = _latest(wanted, ", latest.document")
    return {(kind, key): Said(sequence, wanted[kind, key] == document) for kind, key, sequence, document in rows}


def _news(wanted: dict[Entry, str | None], said: dict[Entry, Said]) -> dict[Entry, str | None]:
    """What is yet to be said. Of what was never spoken of, there is nothing to take back."""
    return {
        entry: document
        for entry, document in wanted.items()
        if (not said[entry].is_wanted if entry in said else document is not None)
    }


def _spoken_of(entries: Iterable[Entry]) -> dict[Entry, int]:
    """The number of the last word on each that there is one on."""
    return {(kind, key): sequence for kind, key, sequence in _latest(entries, "")}


def _latest(entries: Iterable[Entry], document: str) -> list[tuple[Any, ...]]:
    kinds, keys = [kind for kind, _ in entries], [key for _, key in entries]
    with connection.cursor() as cursor:
        cursor.execute(_LATEST.format(document=document), [kinds, keys])
        return list(cursor.fetchall())


def _draft(news: dict[Entry, str | None]) -> dict[Entry, int]:
    """Write rows under numbers below 0, which no node asks for and nobody else takes. Returns those."""
    first = -1 - randbits(62)
    drafts = {entry: first - place for place, entry in enumerate(news)}
    GatewayChange.objects.bulk_create(
        (
            GatewayChange(sequence=drafts[kind, key], kind=kind, key=key, document=document)
            for (kind, key), document in news.items()
        ),
        batch_size=1000,
    )
    return drafts


def _discard(drafts: Iterable[int]) -> None:
    if unwanted := list(drafts):
        GatewayChange.objects.filter(sequence__in=unwanted).delete()


def _number(last: int, drafts: list[int]) -> None:
    """Give drafts the numbers after ``last``, in their order. A document stays where it was written."""
    with connection.cursor() as cursor:
        cursor.execute(_NUMBER, [last, timezone.now(), drafts])
        cursor.execute("UPDATE proxy_changecounter SET last = %s WHERE id = 1", [last + len(drafts)])
        cursor.execute("SELECT pg_notify(%s, '')", [CHANNEL])


@transaction.atomic
def compact_changes() -> int:
    """Delete rows that a later one of the same kind and key supersedes, and receipts nobody asks for any more.

    A node that lags behind loses nothing: the row that superseded is still ahead of it. The last row that it read
    stays, for it asks for it (docs/adr/0004): the one it last told of, and what is too new for it to have told. Returns
    how many changes went.
    """
    AppliedChanges.objects.filter(applied_at__lt=timezone.now() - RECEIPTS_KEPT).delete()
    with connection.cursor() as cursor:
        cursor.execute(
            """
            DELETE FROM proxy_gatewaychange AS old WHERE created_at < %s AND EXISTS (
                SELECT FROM proxy_gatewaychange AS newer
                WHERE newer.kind = old.kind AND newer.key = old.key AND newer.sequence > old.sequence
            ) AND NOT EXISTS (SELECT FROM proxy_gatewaynode AS node WHERE node.applied_sequence = old.sequence)
            """,
            [timezone.now() - UNTOLD],
        )
        return int(cursor.rowcount)


# Digests of no key any more: of secrets that were rolled away, and then the one that followed as well.
_ENDED: Final = """
    SELECT key FROM proxy_gatewaychange AS change
    WHERE kind = 'credential' AND document IS NOT NULL AND sequence > 0 AND created_at < %s
        AND NOT EXISTS (
            SELECT FROM proxy_gatewaychange AS newer
            WHERE newer.kind = change.kind AND newer.key = change.key AND newer.sequence > change.sequence
        )
        AND NOT EXISTS (SELECT FROM portal_credential AS one WHERE one.digest = decode(change.key, 'hex'))
        AND NOT EXISTS (SELECT FROM portal_credential AS one WHERE one.former_digest = decode(change.key, 'hex'))
    ORDER BY sequence LIMIT %s
"""


@transaction.atomic
def forget_secrets(*, at_once: int = 5_000) -> int:
    """Take back what is said of secrets that ended ``SECRETS_REMEMBERED`` ago and are no key's. Returns how many.

    Whoever still uses one is told from then on that it is unknown, no longer that it ended: it is refused either way.
    A key's own secret and its former one stay as long as the key, revoked or not.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ENDED, [timezone.now() - SECRETS_REMEMBERED, at_once])
        ended = [("credential", key) for (key,) in cursor.fetchall()]
    append_changes(tombstones=ended)
    return len(ended)


# One statement, so that no reader sees the one without the other. Where there is another row of the entry, an earlier
# one that a node asks for say, it would be the last word on it. The log's last row says where the log is.
_FORGET_REMOVALS: Final = """
    WITH gone AS (
        DELETE FROM proxy_gatewaychange WHERE sequence = ANY(ARRAY(
            SELECT sequence FROM proxy_gatewaychange AS removal
            WHERE document IS NULL AND created_at < %s
                AND sequence BETWEEN 1 AND (SELECT last - 1 FROM proxy_changecounter WHERE id = 1)
                AND NOT EXISTS (
                    SELECT FROM proxy_gatewaychange AS other
                    WHERE other.kind = removal.kind AND other.key = removal.key AND other.sequence <> removal.sequence
                )
            ORDER BY sequence LIMIT %s
        )) RETURNING sequence
    ), told AS (
        UPDATE proxy_changecounter SET whole_since = greatest(whole_since, (SELECT max(sequence) FROM gone))
        WHERE id = 1 AND EXISTS (SELECT FROM gone)
    )
    SELECT count(*) FROM gone
"""


def forget_removals(*, at_once: int = 20_000) -> int:
    """Delete tombstones of ``GATEWAY_NODE_DAYS`` ago and before. Returns how many.

    A node that had not read one by then, known or not, must never follow the log from where it is: it would keep what
    was removed, a key say. ``whole_since`` has it read all anew, and what the log does not hold is not there then.
    """
    with connection.cursor() as cursor:
        cursor.execute(_FORGET_REMOVALS, [timezone.now() - timedelta(days=settings.GATEWAY_NODE_DAYS), at_once])
        return int(cursor.fetchone()[0])
