"""Gateway nodes that are gone: what is forgotten of them, and what never is (docs/explanation/analytics.md).

A name may be a container's, new with each deployment, so what a node says of itself goes with it. Its books stay: a
call that was generated has to be stored, or to be named. And all of it may turn out wrong: a node that comes back says
anew what it is and what it counted, and finds nothing in its way.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import require_operator
from apimgr.accounts.models import User
from apimgr.audit.services import record
from apimgr.core.errors import Conflict, NotFound
from apimgr.core.events import emit
from proxy import selectors
from proxy.books import BootBooks
from proxy.events import BootGivenUp, NodeRemoved
from proxy.models import AppliedChanges, GatewayBoot, GatewayNode, RejectedDocument

_COUNTS: Final = ("generated", "spooled", "unrecorded", "acknowledged")


@dataclass(frozen=True, slots=True)
class Removal:
    """What went with a node: the books of ``given_up`` boots were open, and ``lost`` calls of theirs have no row."""

    name: str
    given_up: int
    lost: int


@transaction.atomic
def remove_node(*, actor: User | None, name: str) -> Removal:
    """Forget a node that is gone, and give up what it still owed: that counts as lost from now on.

    Refused while the node is heard, which would only say again what it is.
    """
    require_operator(actor)
    node = _locked(name)
    if node is None:
        raise NotFound(_("There is no gateway node %(name)s.") % {"name": name})
    if selectors.is_connected(node):
        raise Conflict(
            _("Gateway node %(name)s is running: it told of itself a moment ago.") % {"name": name},
            code="node_connected",
            fix=_("Stop the gateway there, and remove the node ten seconds later."),
        )
    return _remove(actor, node, _open_books(node))


@transaction.atomic
def give_up_boot(*, actor: User | None, node: str, boot: int) -> BootBooks:
    """Expect nothing more of a boot whose node lives on: what it owed is lost. Giving it up twice changes nothing.

    Of its own folder a node speaks with each heartbeat, so that this is refused; the last boot goes with its node.
    """
    require_operator(actor)
    found = GatewayBoot.objects.select_for_update().filter(node=node, boot=boot).first()
    if found is None:
        raise NotFound(_("There is no such boot of %(name)s.") % {"name": node})
    if found.closed_at is not None:
        return selectors.books_of(found)
    if GatewayNode.objects.filter(name=node, boot=boot).exists():
        raise Conflict(
            _("It is the last boot of %(name)s.") % {"name": node},
            code="boot_runs",
            fix=_("If the node is gone, remove the node."),
        )
    if selectors.is_spoken_of(found):
        raise Conflict(
            _("%(name)s still has the spool of this boot and stores what is left of it.") % {"name": node},
            code="boot_spoken_of",
            fix=_("Wait until it is closed."),
        )
    found.closed_at = timezone.now()
    found.save(update_fields=["closed_at"])
    books = selectors.books_of(found)
    record(actor=actor, action="proxy.boot.given_up", target=found, lost=books.lost)
    emit(BootGivenUp(node, boot, books.lost))
    return books


def remove_gone_nodes() -> int:
    """Remove nodes that have not been heard for ``GATEWAY_NODE_DAYS`` and owe nothing. Returns how many.

    To write off calls is for people: a node that owes some stays until an operator removes it, or its disk is back.
    """
    before = _long_ago()
    names = GatewayNode.objects.filter(heartbeat_at__lt=before).order_by("name").values_list("name", flat=True)
    return sum(_remove_if_even(name, before) for name in list(names))


@transaction.atomic
def _remove_if_even(name: str, before: datetime) -> bool:
    node = _locked(name)
    if node is None or node.heartbeat_at >= before:
        return False  # somebody removed it meanwhile, or it came back
    books = _open_books(node)
    if not all(boot.is_even for boot in books):
        return False
    _remove(None, node, books)
    return True


def close_boots() -> int:
    """Close the books of boots of which nobody has spoken for ``GATEWAY_NODE_DAYS`` and that came out even.

    A node speaks of an earlier boot for as long as it has its folder: of these the disk is gone. Returns how many.
    """
    before, closed = _long_ago(), 0
    running = set(GatewayNode.objects.values_list("name", "boot"))
    for boot in GatewayBoot.objects.filter(closed_at=None, seen_at__lt=before):
        if (boot.node, boot.boot) not in running and selectors.books_of(boot).is_even:
            still = GatewayBoot.objects.filter(node=boot.node, boot=boot.boot, closed_at=None, seen_at__lt=before)
            closed += still.update(closed_at=timezone.now())
    return closed


def _long_ago() -> datetime:
    return timezone.now() - timedelta(days=settings.GATEWAY_NODE_DAYS)


def _locked(name: str) -> GatewayNode | None:
    """The node, whose next heartbeat waits until the transaction ends."""
    return GatewayNode.objects.select_for_update().filter(name=name).first()


def _open_books(node: GatewayNode) -> list[BootBooks]:
    """Of its boots that are not closed. The one that ran last has books of its own if the node told of any."""
    counts = {name: int(node.counters.get(name, 0)) for name in _COUNTS}
    GatewayBoot.objects.get_or_create(
        node=node.name,
        boot=node.boot,
        defaults={
            "software_version": node.software_version,
            "started_at": node.started_at,
            "seen_at": node.heartbeat_at,
            **counts,
        },
    )
    return [selectors.books_of(boot) for boot in GatewayBoot.objects.filter(node=node.name, closed_at=None)]


def _remove(actor: User | None, node: GatewayNode, books: list[BootBooks]) -> Removal:
    GatewayBoot.objects.filter(node=node.name, closed_at=None).update(closed_at=timezone.now())
    AppliedChanges.objects.filter(node=node.name).delete()
    RejectedDocument.objects.filter(node=node.name).delete()
    removal = Removal(node.name, len(books), sum(boot.outstanding for boot in books))
    record(
        actor=actor,
        action="proxy.node.removed",
        target=node,
        lost=removal.lost,
        boots=[boot.boot for boot in books],
        last_heard_at=node.heartbeat_at.isoformat(),
    )
    GatewayNode.objects.filter(name=node.name).delete()
    emit(NodeRemoved(removal.name, removal.lost))
    return removal
