"""Whoever has more to do than one turn allows: a few of them in each round of the event loop.

However many they are, a round stays short, and in each round the loop hears everybody else and the worker's clock: what
a clock that stands still would hold up are deadlines, revocations and the sign of life that the supervisor waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

_IN_A_ROUND: Final = 8


class Turns:
    """In the order in which they came to wait."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_due = False

    def wait(self, turn: Callable[[], None]) -> None:
        """Call ``turn`` once, in a later round."""
        self._waiting.append(turn)
        self._see_to_it()

    def _see_to_it(self) -> None:
        if self._waiting and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._give)

    def _give(self) -> None:
        self._is_due = False
        try:
            for _ in range(min(len(self._waiting), _IN_A_ROUND)):
                self._waiting.popleft()()
        finally:  # one that fails must not keep the others waiting
            self._see_to_it()
