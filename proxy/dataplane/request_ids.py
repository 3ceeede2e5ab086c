"""Request ids: UUIDv7 (RFC 9562), so that they sort by time."""

from __future__ import annotations

from random import SystemRandom, getrandbits, seed

_VERSION = 7 << 76
_VARIANT = 2 << 62


def reseed() -> None:
    """To be called once in each worker: forked processes would otherwise make the same ids."""
    seed(SystemRandom().getrandbits(256))


def new_request_id(now: float) -> bytes:
    """16 bytes. ``now`` is Unix seconds. Unique, not secret: nothing is granted to who knows one."""
    random = getrandbits(74)
    return (int(now * 1000) << 80 | _VERSION | (random >> 62) << 64 | _VARIANT | random & 0x3FFFFFFFFFFFFFFF).to_bytes(
        16, "big"
    )
