"""What happened to the gateway's nodes."""

from __future__ import annotations

from dataclasses import dataclass

from apimgr.core.events import Event


@dataclass(frozen=True, slots=True)
class NodeRemoved(Event):
    """A node that was gone is known no more. ``lost`` calls that it had made were given up with it."""

    name: str
    lost: int


@dataclass(frozen=True, slots=True)
class BootGivenUp(Event):
    """Nothing more is expected of a boot of a node that lives on; ``lost`` calls of it have no row."""

    node: str
    boot: int
    lost: int
