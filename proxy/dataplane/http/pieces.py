"""Heads that come in pieces."""

from __future__ import annotations

from typing import Final

_STEP: Final = 1024


def worth_another_try(buffer: bytes, tried: int) -> bool:
    """Whether a head that was incomplete at ``tried`` bytes may be whole, or known to be wrong, by now.

    Reading it again for each byte of a trickle would be work in the square of its length, and free for whoever sends
    it. A head ends with a line, and a line has an end.
    """
    return buffer.find(b"\n", tried) >= 0 or len(buffer) - tried >= _STEP
