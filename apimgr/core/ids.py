"""Ids: 64-bit, time-ordered, and thirteen characters on the outside.

A usage event names six entities and must stay narrow, so ids are ``bigint`` rather than UUID (docs/adr/0003). The upper
42 bits are milliseconds since 2024, the lower 21 are random: neighbours in time are neighbours in the index, and an id
cannot be counted up. Outside (URLs, REST) an id is Crockford base 32, lower case.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

from django.db import models
from django.urls.converters import UUIDConverter

EPOCH_MS = 1_704_067_200_000  # 2024-01-01T00:00:00Z
RANDOM_BITS = 21
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 13
PATTERN = f"[{ALPHABET}]{{{LENGTH}}}"
_VALUES = {char: value for value, char in enumerate(ALPHABET)}

_lock = threading.Lock()
_last = 0


def new_id() -> int:
    """A new id, larger than every one this process made before."""
    global _last
    fresh = (int(time.time() * 1000) - EPOCH_MS) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    with _lock:
        # Within a millisecond, or when the clock steps back, go on from the last one by a random step.
        _last = fresh if fresh > _last else _last + 1 + secrets.randbits(8)
        return _last


def encode_id(value: int) -> str:
    """The 13 characters an id has outside."""
    if not 0 <= value < 1 << 63:
        raise ValueError(f"not an id: {value}")
    return "".join(ALPHABET[value >> shift & 31] for shift in range(5 * (LENGTH - 1), -1, -5))


def decode_id(text: str) -> int:
    """The id behind 13 characters. Raises ``ValueError`` for anything else."""
    if len(text) != LENGTH or not set(text) <= _VALUES.keys():
        raise ValueError(f"not an id: {text!r}")
    value = 0
    for char in text:
        value = value << 5 | _VALUES[char]
    if value >= 1 << 63:
        raise ValueError(f"not an id: {text!r}")
    return value


class IdConverter:
    """``<id:version_id>`` in a URL pattern."""

    regex = PATTERN

    def to_python(self, value: str) -> int:
        return decode_id(value)

    def to_url(self, value: int | str) -> str:
        return value if isinstance(value, str) else encode_id(value)


class RequestIdConverter(UUIDConverter):
    """``<request:request_id>``: as ``X-Request-Id`` gives it, 32 digits, or with the dashes of a UUID."""

    regex = "[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}"


class Entity(models.Model):
    """Base of every entity: a time-ordered id and the time it was made."""

    id: models.BigIntegerField[Any, Any] = models.BigIntegerField(primary_key=True, default=new_id, editable=False)
    created_at: models.DateTimeField[Any, Any] = models.DateTimeField(auto_now_add=True, editable=False)

    class Meta:
        abstract = True

    @property
    def public_id(self) -> str:
        return encode_id(self.pk)
