"""Which state of a subscription may follow which, and whose move it is: one table. The docs are drawn from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from django.utils.translation import gettext as _

from apimgr.core.errors import Conflict
from portal.models import SubscriptionState


class Move(StrEnum):
    APPROVE = "approve"
    REJECT = "reject"
    SUSPEND = "suspend"
    RESUME = "resume"
    CANCEL = "cancel"


class Side(StrEnum):
    PUBLISHER = "publisher"
    DEVELOPER = "developer"


class Step(NamedTuple):
    state: SubscriptionState
    sides: frozenset[Side]


_PUBLISHER: Final = frozenset({Side.PUBLISHER})
_EITHER: Final = frozenset(Side)

TRANSITIONS: Final[dict[tuple[str, Move], Step]] = {
    (SubscriptionState.REQUESTED, Move.APPROVE): Step(SubscriptionState.ACTIVE, _PUBLISHER),
    (SubscriptionState.REQUESTED, Move.REJECT): Step(SubscriptionState.REJECTED, _PUBLISHER),
    (SubscriptionState.REQUESTED, Move.CANCEL): Step(SubscriptionState.CANCELLED, _EITHER),
    (SubscriptionState.ACTIVE, Move.SUSPEND): Step(SubscriptionState.SUSPENDED, _PUBLISHER),
    (SubscriptionState.ACTIVE, Move.CANCEL): Step(SubscriptionState.CANCELLED, _EITHER),
    (SubscriptionState.SUSPENDED, Move.RESUME): Step(SubscriptionState.ACTIVE, _PUBLISHER),
    # Not the developer's: who cancels and subscribes again would lift their own suspension.
    (SubscriptionState.SUSPENDED, Move.CANCEL): Step(SubscriptionState.CANCELLED, _PUBLISHER),
}


def moves_from(state: str, side: Side) -> list[Move]:
    """What ``side`` can do to a subscription in ``state``."""
    return [move for move in Move if (state, move) in TRANSITIONS and side in TRANSITIONS[state, move].sides]


def next_step(state: str, move: Move) -> Step:
    """Where ``move`` leads; raises ``Conflict`` where the table has nothing."""
    try:
        return TRANSITIONS[state, move]
    except KeyError:
        raise Conflict(
            _("A %(state)s subscription cannot be changed by “%(move)s”.")
            % {"state": SubscriptionState(state).label.lower(), "move": move.value},
            code="illegal_transition",
            fix=_("Reload the page: someone has changed it since."),
        ) from None


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = [
        "stateDiagram-v2",
        "    [*] --> requested: subscribe (plan asks for approval)",
        "    [*] --> active: subscribe",
    ]
    lines += [f"    {state} --> {step.state.value}: {move.value}" for (state, move), step in TRANSITIONS.items()]
    return "\n".join([*lines, "    rejected --> [*]", "    cancelled --> [*]"])


def table() -> str:
    """The table as Markdown."""
    lines = ["| from | move | to | by |", "|---|---|---|---|"]
    for (state, move), step in TRANSITIONS.items():
        lines.append(f"| {state} | {move} | {step.state.value} | {' or '.join(sorted(step.sides))} |")
    return "\n".join(lines)
