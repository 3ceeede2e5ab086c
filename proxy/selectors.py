"""How the gateway stands: nodes, their books, the log, and how far a change has come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.db.models import QuerySet
from django.utils import timezone

from apimgr.accounts.access import Permission, organisations_for, require_operator
from apimgr.accounts.models import User
from apimgr.catalog.models import Version
from portal.models import Credential
from proxy.models import ChangeCounter, GatewayChange, GatewayNode

Viewer = User | AnonymousUser | None
# A node that has not been heard of for so long is away: it goes on with what it knows, but nobody can promise for it.
CONNECTED: Final = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """A node with what follows from its row. ``stored`` is the ledger's count for the same boot."""

    node: GatewayNode
    is_connected: bool
    lag: int  # changes not applied yet
    stored: int

    @property
    def books(self) -> list[int]:
        counters = self.node.counters
        return [*(int(counters.get(name, 0)) for name in ("generated", "spooled", "acknowledged")), self.stored]

    @property
    def gap(self) -> int:
        """Calls on their way, or lost: 0 when every book says the same."""
        return max(self.books) - min(self.books)

    @property
    def state(self) -> str:
        if not self.is_connected:
            return "error"
        return "warn" if self.lag or self.node.counters.get("quarantined") else "ok"


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far one change has come: enforced on ``live`` of ``total`` connected nodes, on the slowest after ``ms``."""

    live: int
    total: int
    ms: int | None

    @property
    def is_complete(self) -> bool:
        return self.total > 0 and self.live == self.total


def nodes(viewer: Viewer) -> list[NodeStanding]:
    require_operator(viewer)
    last, stored, now = last_sequence(), _stored_per_boot(), timezone.now()
    return [
        NodeStanding(
            node=node,
            is_connected=now - node.heartbeat_at < CONNECTED,
            lag=max(0, last - node.applied_sequence),
            stored=stored.get((node.name, node.boot), 0),
        )
        for node in GatewayNode.objects.order_by("name")
    ]


def changes(viewer: Viewer) -> QuerySet[GatewayChange]:
    """The log, latest first, without the documents."""
    require_operator(viewer)
    return GatewayChange.objects.order_by("-sequence")


def last_sequence() -> int:
    return ChangeCounter.objects.values_list("last", flat=True).first() or 0


def rollout(sequence: int) -> Rollout:
    """Where the change with this number is enforced by now."""
    change = GatewayChange.objects.filter(sequence=sequence).first()
    if change is None:  # nothing was said yet, or what was has been superseded
        reached = list(_connected().values_list("applied_sequence", flat=True))
        return Rollout(live=sum(applied >= sequence for applied in reached), total=len(reached), ms=None)
    return rollouts([change])[0][1]


def _connected() -> QuerySet[GatewayNode]:
    return GatewayNode.objects.filter(heartbeat_at__gt=timezone.now() - CONNECTED)


def rollouts(changes: Iterable[GatewayChange]) -> list[tuple[GatewayChange, Rollout]]:
    """Each change with its rollout, in two queries however many there are."""
    changes = list(changes)
    reached = dict(_connected().values_list("name", "applied_sequence"))
    applied: dict[int, dict[str, datetime]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_FIRST_APPLIED, [[change.sequence for change in changes], list(reached)])
        for sequence, node, at in cursor.fetchall():
            applied.setdefault(sequence, {})[node] = at
    return [(change, _rollout(change, reached, applied.get(change.sequence, {}))) for change in changes]


_FIRST_APPLIED: Final = """
    SELECT change.sequence, node.name, first.applied_at
    FROM unnest(%s::bigint[]) AS change (sequence)
    CROSS JOIN unnest(%s::text[]) AS node (name)
    CROSS JOIN LATERAL (
        SELECT applied_at FROM proxy_appliedchanges AS applied
        WHERE applied.node = node.name AND applied.sequence >= change.sequence ORDER BY applied.sequence LIMIT 1
    ) AS first
"""


def _rollout(change: GatewayChange, reached: dict[str, int], applied: dict[str, datetime]) -> Rollout:
    # A node tells of a change at once and of itself every two seconds; receipts of long ago are gone.
    live = applied.keys() | {name for name, sequence in reached.items() if sequence >= change.sequence}
    slowest = max(applied.values(), default=None)
    ms = round((slowest - change.created_at).total_seconds() * 1000) if slowest else None
    return Rollout(live=len(live), total=len(reached), ms=None if ms is None else max(ms, 0))


def version_rollout(viewer: Viewer, version_id: int) -> Rollout | None:
    """The rollout of what was last said of a version; ``None`` if there is nothing, or nothing for this person."""
    mine = organisations_for(viewer or AnonymousUser(), Permission.API_VIEW)
    if not Version.objects.filter(pk=version_id, api__organisation__in=mine).exists():
        return None
    return _rollout_of("version", str(version_id))


def credential_rollout(viewer: Viewer, credential_id: int) -> Rollout | None:
    mine = organisations_for(viewer or AnonymousUser(), Permission.APPLICATION_VIEW)
    found = Credential.objects.filter(pk=credential_id, application__organisation__in=mine)
    digest = found.values_list("digest", flat=True).first()
    return None if digest is None else _rollout_of("credential", bytes(digest).hex())


def organisation_rollout(viewer: Viewer, organisation_id: int) -> Rollout | None:
    """Of a suspension, or its end: for operators."""
    require_operator(viewer)
    return _rollout_of("organisation", str(organisation_id))


def application_rollout(viewer: Viewer, application_id: int) -> Rollout | None:
    require_operator(viewer)
    return _rollout_of("application", str(application_id))


def _rollout_of(kind: str, key: str) -> Rollout | None:
    said = GatewayChange.objects.filter(kind=kind, key=key).order_by("-sequence")
    sequence = said.values_list("sequence", flat=True).first()
    return None if sequence is None else rollout(sequence)


def _stored_per_boot() -> dict[tuple[str, int], int]:
    """Calls in the database by node and boot, as the ledger has it."""
    running = list(GatewayNode.objects.values_list("name", "boot"))
    if not running:
        return {}
    names, boots = zip(*running, strict=True)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT node, boot, sum(events)::bigint FROM usage_batch"
            " WHERE (node, boot) IN (SELECT * FROM unnest(%s::text[], %s::bigint[])) GROUP BY 1, 2",
            [list(names), list(boots)],
        )
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return {(node, boot): int(count) for node, boot, count in rows}
