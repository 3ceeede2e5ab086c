"""From the control plane's change log into the replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from proxy.dataplane.replica.writer import Change, Mark, Rejected, ReplicaWriter, Step, step_of

log = logging.getLogger(__name__)

# Whichever is met first: a page is held in memory, and committed in one piece.
PAGE: Final = 2000
PAGE_BYTES: Final = 2 * 2**20
CHANNEL: Final = "gateway_change"

# With the token of one change, the last or another; none if of what came after it removals have been forgotten.
_WHERE_THE_LOG_IS: Final = """
    SELECT log_id, last,
        (SELECT token FROM proxy_gatewaychange WHERE sequence = coalesce(%s, last) AND sequence >= whole_since)
    FROM proxy_changecounter WHERE id = 1
"""
# The rows that follow, up to the one that fills the page. The size of a document is known without reading it.
_PAGE_OF: Final = """
    SELECT sequence, kind, key, document, token FROM (
        SELECT *, sum(octet_length(document)) OVER (
            ORDER BY {order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS bytes_before FROM ({rows}) AS next
    ) AS sized WHERE coalesce(bytes_before, 0) < %(bytes)s ORDER BY {order}
"""
_AFTER: Final = _PAGE_OF.format(
    order="sequence",
    rows="""
        SELECT sequence, kind, key, document, token FROM proxy_gatewaychange
        WHERE sequence > %(sequence)s
            -- removals may be forgotten while we read: then no page follows, and where we are is no place to go on from
            AND %(sequence)s >= (SELECT whole_since FROM proxy_changecounter WHERE id = 1)
        ORDER BY sequence LIMIT %(rows)s
    """,
)
_LATEST_AFTER: Final = _PAGE_OF.format(
    order="kind, key",
    rows="""
        SELECT DISTINCT ON (kind, key) sequence, kind, key, document, token FROM proxy_gatewaychange
        WHERE (kind, key) > (%(kind)s, %(key)s) ORDER BY kind, key, sequence DESC LIMIT %(rows)s
    """,
)
_THESE: Final = _PAGE_OF.format(
    order="sequence",
    rows="""
        SELECT sequence, kind, key, document, token FROM proxy_gatewaychange
        WHERE sequence = ANY(%(wanted)s) AND sequence > %(sequence)s ORDER BY sequence LIMIT %(rows)s
    """,
)
# The platform is there but has never published anything: a node may be ready with nothing to serve.
_EMPTY_LOG: Final = Mark(UUID(int=0), 0)


class Feed:
    """Pulls what the replica lacks. ``rejected`` counts documents this node did not understand."""

    def __init__(self, writer: ReplicaWriter) -> None:
        self._writer = writer
        self.rejected = 0
        self._has_read_again = False

    async def pull(self, connection: AsyncConnection[Any]) -> bool:
        """Apply everything new. Returns whether anything was applied. Raises ``psycopg.Error`` without the database."""
        mark = self._writer.mark
        # What software of earlier days did not understand it passed over, and this one may: so all is read again.
        if not self._writer.ready or mark is None or not self._writer.remembers:
            await self._synchronise(connection)
            return True
        target = await _where_the_log_is(connection, mark.sequence)
        if not _follows_on(mark, target):
            if mark.token is not None:
                log.warning(
                    "The change log is not the one that was followed up to %d: it was restored or failed over, or "
                    "changes that came after were compacted before they were read",
                    mark.sequence,
                )
            await self._synchronise(connection)
            return True
        has_read = await self._read_again(connection, mark)
        if mark.sequence == target.sequence:
            return has_read
        while steps := await _read_page(connection, _AFTER, sequence=mark.sequence):
            mark = Mark(target.log_id, steps[-1].change.sequence, steps[-1].change.token)
            self._count(self._writer.take(mark, steps))
            if mark.sequence >= target.sequence:
                break
        return True

    async def _read_again(self, connection: AsyncConnection[Any], mark: Mark) -> bool:
        """Read what was rejected before this process began: only with the process the software may have become another.

        Returns whether any of it was understood. What has been superseded meanwhile is ahead of us.
        """
        if self._has_read_again:
            return False
        before, sequence = self._writer.rejected, 0
        wanted = [rejection.sequence for rejection in before.values()]
        while wanted and (steps := await _read_page(connection, _THESE, wanted=wanted, sequence=sequence)):
            self._count(self._writer.take(mark, steps))
            sequence = steps[-1].change.sequence
        self._has_read_again = True
        return self._writer.rejected is not before

    async def _synchronise(self, connection: AsyncConnection[Any]) -> None:
        """Fill a new generation from one consistent view of the log, page by page."""
        with self._writer.rebuild() as rebuild:
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                mark = await _where_the_log_is(connection)
                kind = key = ""
                while steps := await _read_page(connection, _LATEST_AFTER, kind=kind, key=key):
                    self._count(rebuild.take(steps))
                    kind, key = steps[-1].change.kind, steps[-1].change.key
            rebuild.finish(mark)
        self._has_read_again = True
        log.info("The replica was filled up to change %d", mark.sequence)

    def _count(self, rejected: Iterable[Rejected]) -> None:
        for change, reason in rejected:
            self.rejected += 1
            log.error("Change %d (%s %s) was not applied: %s", change.sequence, change.kind, change.key, reason)


async def _read_page(connection: AsyncConnection[Any], query: str, **after: str | int | list[int]) -> list[Step]:
    rows = await (await connection.execute(query, {**after, "rows": PAGE, "bytes": PAGE_BYTES})).fetchall()
    # In a thread: to read documents takes its time, and the agent has more to do.
    return await asyncio.to_thread(lambda: [step_of(Change._make(row)) for row in rows])


async def _where_the_log_is(connection: AsyncConnection[Any], sequence: int | None = None) -> Mark:
    """How far the log is, with the token of change ``sequence``: of the last one unless told."""
    row = await (await connection.execute(_WHERE_THE_LOG_IS, (sequence,))).fetchone()
    return Mark._make(row) if row else _EMPTY_LOG


def _follows_on(mark: Mark, target: Mark) -> bool:
    """Whether what comes after ``mark`` in the log is all that a replica of this mark lacks.

    Not of another log, nor of one set back to a backup or to a standby that lacked the last changes: it may have given
    their numbers to others. A token is drawn for each change, and numbers are in the order of commits: whoever has the
    same one at our mark has all that we have. If it has gone, superseded before we read on, nothing can be said; nor if
    removals of what we have were forgotten since: they come with no change that is still to be read. A mark without a
    token is of a log that had no change yet: nothing there can be the same, and to read all anew is to read what came.
    """
    if mark.token is None:
        return mark == target
    return mark.log_id == target.log_id and mark.sequence <= target.sequence and mark.token == target.token


async def listen(connection: AsyncConnection[Any]) -> None:
    await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(CHANNEL)))
