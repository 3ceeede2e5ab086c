"""From the control plane's change log into the replica."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import AsyncConnection

from proxy.dataplane.replica.writer import Change, Mark, Rejected, ReplicaWriter

log = logging.getLogger(__name__)

PAGE: Final = 2000
CHANNEL: Final = "gateway_change"

_WHERE_THE_LOG_IS: Final = "SELECT log_id, last FROM proxy_changecounter WHERE id = 1"
_AFTER: Final = (
    "SELECT sequence, kind, key, document FROM proxy_gatewaychange WHERE sequence > %s ORDER BY sequence LIMIT %s"
)
_LATEST: Final = """
    SELECT sequence, kind, key, document FROM (
        SELECT DISTINCT ON (kind, key) sequence, kind, key, document
        FROM proxy_gatewaychange ORDER BY kind, key, sequence DESC
    ) AS latest WHERE document IS NOT NULL
"""
# The platform is there but has never published anything: a node may be ready with nothing to serve.
_EMPTY_LOG: Final = Mark(UUID(int=0), 0)


class Feed:
    """Pulls what the replica lacks. ``rejected`` counts documents this node did not understand."""

    def __init__(self, writer: ReplicaWriter) -> None:
        self._writer = writer
        self.rejected = 0

    async def pull(self, connection: AsyncConnection[Any]) -> bool:
        """Apply everything new. Returns whether anything was applied. Raises ``psycopg.Error`` without the database."""
        target = await _where_the_log_is(connection)
        mark = self._writer.mark
        # Another log, or one that was set back to an earlier backup: its numbers do not follow on from ours.
        if not self._writer.ready or mark is None or mark.log_id != target.log_id or mark.sequence > target.sequence:
            await self._synchronise(connection)
            return True
        if mark.sequence == target.sequence:
            return False
        while await self._apply_page(connection, target.log_id):
            pass
        return True

    async def _apply_page(self, connection: AsyncConnection[Any], log_id: UUID) -> bool:
        assert self._writer.mark is not None
        rows = await (await connection.execute(_AFTER, (self._writer.mark.sequence, PAGE))).fetchall()
        if rows:
            changes = [Change._make(row) for row in rows]
            self._count(self._writer.apply(Mark(log_id, changes[-1].sequence), changes))
        return len(rows) == PAGE

    async def _synchronise(self, connection: AsyncConnection[Any]) -> None:
        """Fill a new generation from one consistent view of the log, page by page."""
        with self._writer.rebuild() as rebuild:
            async with connection.transaction():
                await connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                mark = await _where_the_log_is(connection)
                async with connection.cursor(name="latest_changes") as cursor:
                    await cursor.execute(_LATEST)
                    while rows := await cursor.fetchmany(PAGE):
                        self._count(rebuild.add(Change._make(row) for row in rows))
            rebuild.finish(mark)
        log.info("The replica was filled up to change %d", mark.sequence)

    def _count(self, rejected: Iterable[Rejected]) -> None:
        for change, reason in rejected:
            self.rejected += 1
            log.error("Change %d (%s %s) was not applied: %s", change.sequence, change.kind, change.key, reason)


async def _where_the_log_is(connection: AsyncConnection[Any]) -> Mark:
    row = await (await connection.execute(_WHERE_THE_LOG_IS)).fetchone()
    return Mark._make(row) if row else _EMPTY_LOG


async def listen(connection: AsyncConnection[Any]) -> None:
    await connection.execute(psycopg.sql.SQL("LISTEN {}").format(psycopg.sql.Identifier(CHANNEL)))
