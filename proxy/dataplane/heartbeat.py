"""What a node tells the control plane of itself, every two seconds and after each change it applied."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import AsyncConnection

from apimgr.contracts.usage import UPSERT_NODE
from proxy.dataplane.config import SOFTWARE_VERSION, GatewayConfig

_BEAT: Final = """
    INSERT INTO proxy_gatewaynode
        (name, boot, software_version, workers, applied_sequence, applied_at, started_at, heartbeat_at, counters)
    VALUES (%(name)s, %(boot)s, %(version)s, %(workers)s, %(sequence)s, %(applied_at)s, %(started_at)s, now(),
        %(counters)s::jsonb)
    ON CONFLICT (name) DO UPDATE SET
        boot = excluded.boot, software_version = excluded.software_version, workers = excluded.workers,
        applied_sequence = excluded.applied_sequence, applied_at = excluded.applied_at,
        started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at, counters = excluded.counters
"""
# The database's clock, not the node's: receipts of several nodes are compared.
_APPLIED: Final = """
    INSERT INTO proxy_appliedchanges (node, sequence, applied_at) VALUES (%s, %s, clock_timestamp())
    ON CONFLICT DO NOTHING
"""


@dataclass(slots=True)
class Counters:
    """One node's books since this boot. Every call should pass through all of the first three."""

    generated: int = 0
    spooled: int = 0
    acknowledged: int = 0
    unrecorded: int = 0  # calls made whose record the spool did not take
    quarantined: int = 0
    set_aside_bytes: int = 0
    spool_bytes: int = 0
    rejected_documents: int = 0
    shipped_until: str = ""


class Heart:
    """Beats on one connection; remembers when the node applied what."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._started_at = datetime.now(UTC)
        self._applied_at: datetime | None = None
        self._sequence = 0

    def applied(self, sequence: int) -> None:
        self._sequence, self._applied_at = sequence, datetime.now(UTC)

    async def receipt(self, connection: AsyncConnection[Any]) -> None:
        """Say at once that everything up to the applied sequence is enforced."""
        await connection.execute(_APPLIED, (self._config.node_name, self._sequence))

    async def beat(self, connection: AsyncConnection[Any], counters: Counters, shipped_until: datetime | None) -> None:
        row = {
            "name": self._config.node_name,
            "boot": self._config.boot,
            "version": SOFTWARE_VERSION,
            "workers": self._config.workers,
            "sequence": self._sequence,
            "applied_at": self._applied_at,
            "started_at": self._started_at,
            "counters": json.dumps(asdict(counters)),
        }
        async with connection.transaction():
            await connection.execute(_BEAT, row)
            if shipped_until is not None:
                await connection.execute(UPSERT_NODE, (self._config.node_name, shipped_until))
