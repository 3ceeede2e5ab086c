"""One coarse timer wheel per worker instead of a timer per request.

Setting a deadline is usually two attribute writes: an entry that sits in an earlier slot is looked at there, found to
have a later deadline by now, and moved. Deadlines are kept to within a tick (100 ms), never early.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

TICK: Final = 0.1
NEVER: Final = float("inf")


class Timed:
    """Something with a deadline. ``slot`` is where it waits (0: nowhere), ``looked_at`` when that slot begins."""

    deadline = NEVER
    slot = 0
    looked_at = NEVER

    def deadline_passed(self) -> None:
        raise NotImplementedError


class Wheel:
    """``now`` is the clock as of the last tick, and free to read."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.now = clock()
        self._tick = int(self.now / TICK)
        self._slots: dict[int, list[Timed]] = {}

    def arm(self, entry: Timed, seconds: float) -> None:
        """Call ``entry.deadline_passed()`` once, ``seconds`` from now, unless it is armed again or disarmed before."""
        # By the clock itself: the last tick may be long ago, where the process was kept from running.
        deadline = self._clock() + seconds
        entry.deadline = deadline
        if deadline < entry.looked_at:
            self._insert(entry, deadline)

    def disarm(self, entry: Timed) -> None:
        entry.deadline = NEVER

    def _insert(self, entry: Timed, deadline: float) -> None:
        slot = max(int(deadline / TICK) + 1, self._tick + 1)
        entry.slot = slot
        entry.looked_at = (slot - 1) * TICK
        self._slots.setdefault(slot, []).append(entry)

    def advance(self) -> None:
        """Look at every slot up to the present."""
        self.now = self._clock()
        last = int(self.now / TICK)
        while self._tick < last:
            self._tick += 1
            for entry in self._slots.pop(self._tick, ()):
                if entry.slot == self._tick:
                    self._visit(entry)

    def _visit(self, entry: Timed) -> None:
        entry.slot, entry.looked_at = 0, NEVER
        if entry.deadline <= self.now:
            entry.deadline = NEVER
            try:
                entry.deadline_passed()
            except Exception:
                log.exception("What a passed deadline asks for failed; those of others are kept")
        elif entry.deadline != NEVER:
            self._insert(entry, entry.deadline)
