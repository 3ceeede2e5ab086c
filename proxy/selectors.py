"""How the gateway stands: nodes, their books, the log, and how far a change has come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.db.models import BooleanField, Count, ExpressionWrapper, Q, QuerySet
from django.utils import timezone

from apimgr.accounts.access import Permission, organisations_for, require_operator
from apimgr.accounts.models import User
from apimgr.catalog.models import Version
from apimgr.contracts.usage import BOOKS_OF_ALL, BOOKS_OF_BOOT, COUNTED
from apimgr.products.models import Plan
from portal.models import Credential
from proxy.books import BootBooks, Counted, State, Stored
from proxy.models import ChangeCounter, GatewayBoot, GatewayChange, GatewayNode, RejectedDocument

Viewer = User | AnonymousUser | None
# A node that has not been heard of for so long is away: it goes on with what it knows, but nobody can promise for it.
CONNECTED: Final = timedelta(seconds=10)
_LAST_MS: Final = 253_402_300_799_000  # of the year 9999


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """A node with what follows from its row."""

    node: GatewayNode
    is_connected: bool
    lag: int  # changes not applied yet
    books: BootBooks  # since it started
    rejected: int = 0  # documents that it does not understand; the last good ones are in force
    outstanding: int = 0  # calls of it and of its earlier boots that have no row yet: lost if it never comes back

    @property
    def state(self) -> str:
        if not self.is_connected or self.books.lost:
            return "error"
        wants_a_look = self.lag or self.rejected or self.limits == "unavailable" or self.books.in_database.quarantined
        return "warn" if wants_a_look else "ok"

    @property
    def limits(self) -> str:
        """``host``: it counts for itself. ``shared`` with other hosts, or ``unavailable`` if they should be."""
        return str(self.node.counters.get("limits") or "host")

    @property
    def ungranted(self) -> int:
        """Calls since it started that passed a limit of several hosts although nobody could grant them."""
        return int(self.node.counters.get("ungranted", 0))


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far one change has come: enforced on ``live`` of ``total`` connected nodes, on the slowest after ``ms``.

    ``rejected`` of them do not understand it, one of them for the ``reason``.
    """

    live: int
    total: int
    ms: int | None
    rejected: int = 0
    reason: str = ""

    @property
    def is_complete(self) -> bool:
        return self.total > 0 and self.live == self.total


def nodes(viewer: Viewer) -> list[NodeStanding]:
    require_operator(viewer)
    last, stored = last_sequence(), _stored()
    rejected = dict(RejectedDocument.objects.values_list("node").annotate(Count("pk")))
    found = [
        NodeStanding(
            node=node,
            is_connected=is_connected(node),
            lag=max(0, last - node.applied_sequence),
            books=_running_books(node, stored.get((node.name, node.boot), Stored())),
            rejected=rejected.get(node.name, 0),
        )
        for node in GatewayNode.objects.order_by("name")
    ]
    earlier: dict[str, int] = {}
    running = {(standing.node.name, standing.node.boot) for standing in found}
    for boot in GatewayBoot.objects.filter(closed_at=None):
        if (boot.node, boot.boot) not in running:
            books = books_of(boot, stored.get((boot.node, boot.boot), Stored()))
            earlier[boot.node] = earlier.get(boot.node, 0) + books.outstanding
    return [
        replace(standing, outstanding=standing.books.outstanding + earlier.get(standing.node.name, 0))
        for standing in found
    ]


def is_connected(node: GatewayNode) -> bool:
    return timezone.now() - node.heartbeat_at < CONNECTED


def changes(viewer: Viewer) -> QuerySet[GatewayChange]:
    """The log, latest first, without the documents: they may be megabytes each."""
    require_operator(viewer)
    is_removal = ExpressionWrapper(Q(document=None), output_field=BooleanField())
    return GatewayChange.objects.defer("document").annotate(is_removal=is_removal).order_by("-sequence")


def last_sequence() -> int:
    return ChangeCounter.objects.values_list("last", flat=True).first() or 0


def rollout(sequence: int) -> Rollout:
    """Where the change with this number is enforced by now."""
    change = GatewayChange.objects.defer("document").filter(sequence=sequence).first()
    if change is None:  # nothing was said yet, or what was has been superseded
        reached = list(_connected().values_list("applied_sequence", flat=True))
        return Rollout(live=sum(applied >= sequence for applied in reached), total=len(reached), ms=None)
    return rollouts([change])[0][1]


def _connected() -> QuerySet[GatewayNode]:
    return GatewayNode.objects.filter(heartbeat_at__gt=timezone.now() - CONNECTED)


def rollouts(changes: Iterable[GatewayChange]) -> list[tuple[GatewayChange, Rollout]]:
    """Each change with its rollout, in two queries however many there are."""
    changes = list(changes)
    connected = {node.name: node for node in _connected()}
    applied: dict[int, dict[str, datetime]] = {}
    rejected: dict[int, dict[str, str]] = {}
    with connection.cursor() as cursor:
        cursor.execute(_FIRST_APPLIED, [list(connected), [change.sequence for change in changes]])
        for sequence, node, at, reason in cursor.fetchall():
            if reason is not None:
                rejected.setdefault(sequence, {})[node] = reason
            elif at is not None:
                applied.setdefault(sequence, {})[node] = at
    return [
        (change, _rollout(change, connected, applied.get(change.sequence, {}), rejected.get(change.sequence, {})))
        for change in changes
    ]


_FIRST_APPLIED: Final = """
    SELECT change.sequence, node.name, first.applied_at, rejected.reason
    FROM proxy_gatewaychange AS change
    CROSS JOIN unnest(%s::text[]) AS node (name)
    LEFT JOIN LATERAL (
        SELECT applied_at FROM proxy_appliedchanges AS applied
        WHERE applied.node = node.name AND applied.sequence >= change.sequence ORDER BY applied.sequence LIMIT 1
    ) AS first ON true
    LEFT JOIN proxy_rejecteddocument AS rejected ON rejected.node = node.name
        AND rejected.kind = change.kind AND rejected.key = change.key AND rejected.since <= change.sequence
    WHERE change.sequence = ANY(%s::bigint[])
"""


def _rollout(
    change: GatewayChange, nodes: dict[str, GatewayNode], applied: dict[str, datetime], rejected: dict[str, str]
) -> Rollout:
    # A node tells of a change at once and of itself every two seconds; receipts of long ago are gone.
    reached = applied.keys() | {name for name, node in nodes.items() if node.applied_sequence >= change.sequence}
    took = [_taken(change, nodes[name], at) for name, at in applied.items()]
    return Rollout(
        live=len(reached - rejected.keys()),
        total=len(nodes),
        ms=max(took, default=None),
        rejected=len(rejected),
        reason=min(rejected.values(), default=""),
    )


def _taken(change: GatewayChange, node: GatewayNode, applied_at: datetime) -> int:
    """Milliseconds that a node let pass before it enforced a change; one that came later began when it started."""
    begun = change.created_at
    if begun < node.started_at <= applied_at:
        begun = node.started_at
    return max(0, round((applied_at - begun).total_seconds() * 1000))


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


def plan_rollout(viewer: Viewer, plan_id: int) -> Rollout | None:
    mine = organisations_for(viewer or AnonymousUser(), Permission.API_VIEW)
    if not Plan.objects.filter(pk=plan_id, product__organisation__in=mine).exists():
        return None
    return _rollout_of("plan", str(plan_id))


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


def boots(viewer: Viewer) -> list[BootBooks]:
    """The books of every node as it runs, of its earlier boots, the latest first, and of what else the ledger knows."""
    require_operator(viewer)
    stored = _stored()
    running = {(node.name, node.boot): node for node in GatewayNode.objects.order_by("name")}
    found = [_running_books(node, stored.pop(key, Stored())) for key, node in running.items()]
    for boot in GatewayBoot.objects.order_by("-boot", "node"):
        key = boot.node, boot.boot
        if key not in running:
            found.append(books_of(boot, stored.pop(key, Stored())))
    others = [
        BootBooks(node, boot, _boot_time(boot), "closed", None, of_database)
        for (node, boot), of_database in sorted(stored.items())
    ]
    return found + others


def books_of(boot: GatewayBoot, stored: Stored | None = None) -> BootBooks:
    """The books of a boot that does not run; ``stored`` is asked for unless it is given."""
    state: State = "given_up" if boot.is_given_up else "closed" if boot.closed_at else "open"
    counted = Counted(boot.generated, boot.spooled, boot.unrecorded, boot.acknowledged)
    of_database = stored_of(boot.node, boot.boot) if stored is None else stored
    is_silent = state == "open" and not is_spoken_of(boot)
    return BootBooks(boot.node, boot.boot, boot.started_at, state, counted, of_database, is_silent)


def is_spoken_of(boot: GatewayBoot) -> bool:
    """Whether a node that is there says how it stands: it runs, or its folder is still there."""
    return timezone.now() - boot.seen_at < CONNECTED


def counted_calls(viewer: Viewer) -> int:
    """How many calls the counts of the dashboards hold in all: what the ledger's rolled-up ranges must add up to."""
    require_operator(viewer)
    with connection.cursor() as cursor:
        cursor.execute(COUNTED)
        return int(cursor.fetchone()[0])


def _running_books(node: GatewayNode, stored: Stored) -> BootBooks:
    names = ("generated", "spooled", "unrecorded", "acknowledged", "missing")
    counted = Counted(*(int(node.counters.get(name, 0)) for name in names))
    return BootBooks(node.name, node.boot, node.started_at, "running", counted, stored, not is_connected(node))


def _boot_time(boot: int) -> datetime:
    """Boots are numbered by the millisecond they began in."""
    return datetime.fromtimestamp(min(boot, _LAST_MS) / 1000, tz=UTC)


def stored_of(node: str, boot: int) -> Stored:
    """What the database holds of one boot."""
    with connection.cursor() as cursor:
        cursor.execute(BOOKS_OF_BOOT, [node, boot])
        row = cursor.fetchone()
    return Stored(*map(int, row[2:])) if row else Stored()


def _stored() -> dict[tuple[str, int], Stored]:
    """What the database holds, by node and boot."""
    with connection.cursor() as cursor:
        cursor.execute(BOOKS_OF_ALL)
        return {(node, boot): Stored(*map(int, sums)) for node, boot, *sums in cursor.fetchall()}
