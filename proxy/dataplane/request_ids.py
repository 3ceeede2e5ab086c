"""Request ids: UUIDv7 (RFC 9562), so that they sort by time."""

from __future__ import annotations

from random import SystemRandom, getrandbits, seed
from struct import Struct

_LAYOUT = Struct(">IHHQ")
_VERSION = 7 << 12
_VARIANT = 2 << 62


def reseed() -> None:
    """To be called once in each worker: forked processes would otherwise make the same ids."""
    seed(SystemRandom().getrandbits(256))


def new_request_id(now: float) -> bytes:
    """16 bytes. ``now`` is Unix seconds. Unique, not secret: nothing is granted to who knows one."""
    ms = int(now * 1000)
    return _LAYOUT.pack(ms >> 16, ms & 0xFFFF, _VERSION | getrandbits(12), _VARIANT | getrandbits(62))
