"""Facts and who reacts to them.

A service emits a past-tense fact; an app further up reacts, without the service knowing. A reaction registered with
``receives`` runs at once, inside the service's transaction: what it writes commits with the fact (the gateway's change
log depends on that), and its failure undoes both. ``receives(..., after_commit=True)`` is for what must not: mail,
tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from django.db import transaction


@dataclass(frozen=True, slots=True)
class Event:
    """Base of every fact. Subclasses are frozen dataclasses that carry ids, not rows."""


F = TypeVar("F", bound=Callable[[Any], None])
_inside: dict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)
_after: dict[type[Event], list[Callable[[Any], None]]] = defaultdict(list)


def receives(*events: type[Event], after_commit: bool = False) -> Callable[[F], F]:
    """Register the decorated function for each of ``events``."""

    def register(function: F) -> F:
        for event in events:
            (_after if after_commit else _inside)[event].append(function)
        return function

    return register


def emit(event: Event) -> None:
    """Tell everyone who asked. Call it as the last step of a service, inside its transaction."""
    if not transaction.get_connection().in_atomic_block:
        raise RuntimeError(f"{type(event).__name__} was emitted outside a transaction")
    for react in _inside[type(event)]:
        react(event)
    for react in _after[type(event)]:
        transaction.on_commit(partial(react, event))
