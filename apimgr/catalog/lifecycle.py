"""Which state of a version may follow which: one table. The diagram in the docs is drawn from it."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from django.utils.translation import gettext as _

from apimgr.catalog.models import VersionState
from apimgr.core.errors import Conflict


class Move(StrEnum):
    PUBLISH = "publish"
    DEPRECATE = "deprecate"
    RESTORE = "restore"
    RETIRE = "retire"


TRANSITIONS: Final[dict[tuple[str, Move], VersionState]] = {
    (VersionState.DRAFT, Move.PUBLISH): VersionState.PUBLISHED,
    # Publishing what is live deploys a new revision and leaves the state alone.
    (VersionState.PUBLISHED, Move.PUBLISH): VersionState.PUBLISHED,
    (VersionState.DEPRECATED, Move.PUBLISH): VersionState.DEPRECATED,
    (VersionState.PUBLISHED, Move.DEPRECATE): VersionState.DEPRECATED,
    # Deprecating again moves the sunset date.
    (VersionState.DEPRECATED, Move.DEPRECATE): VersionState.DEPRECATED,
    (VersionState.DEPRECATED, Move.RESTORE): VersionState.PUBLISHED,
    # Callers are told before they are cut off: only a deprecated version can be retired.
    (VersionState.DEPRECATED, Move.RETIRE): VersionState.RETIRED,
}


def moves_from(state: str) -> list[Move]:
    """What can be done to a version in ``state``, in the order of the life of a version."""
    return [move for move in Move if (state, move) in TRANSITIONS]


def next_state(state: str, move: Move) -> VersionState:
    """The state after ``move``; raises ``Conflict`` where the table has none."""
    try:
        return TRANSITIONS[state, move]
    except KeyError:
        allowed = ", ".join(moves_from(state)) or _("nothing")
        raise Conflict(
            _("A %(state)s version cannot be moved on by “%(move)s”.") % {"state": state, "move": move.value},
            code="illegal_transition",
            fix=_("From here it allows: %(allowed)s.") % {"allowed": allowed},
        ) from None


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", "    [*] --> draft: add"]
    lines += [f"    {state} --> {after.value}: {move.value}" for (state, move), after in TRANSITIONS.items()]
    return "\n".join([*lines, "    retired --> [*]"])
