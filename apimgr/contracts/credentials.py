"""API keys: their format, how they are made, and the digest that is all we keep of them.

A key is ``<prefix>_<live|test>_<43 base62><6 base62 CRC-32>``: 256 bits from ``secrets`` and a checksum over everything
before it, so that a typo is refused without a look-up and a leak scanner can tell a key from noise. Only a keyed
BLAKE2b digest is stored (K3); a fast hash is right for 256-bit secrets (K4).
"""

from __future__ import annotations

import re
import secrets
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from hmac import compare_digest
from typing import Final, Literal

ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_CHARS: Final = 43  # ceil(256 / log2(62))
CHECK_CHARS: Final = 6  # 62**6 > 2**32
DIGEST_BYTES: Final = 32
# Published for leak scanners; the checksum makes it precise.
KEY_PATTERN: Final = r"[a-z][a-z0-9]{1,11}_(?:live|test)_[0-9A-Za-z]{49}"
KEY_START: Final = r"[a-z][a-z0-9]{1,11}_(?:live|test)_[0-9A-Za-z]{1,6}"  # as much of a key as may be shown
_KEY: Final = re.compile(KEY_PATTERN.encode("ascii"))
MAX_KEY_BYTES: Final = 12 + 1 + 4 + 1 + SECRET_CHARS + CHECK_CHARS

Mode = Literal["live", "test"]


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key at the one moment it is readable. ``repr`` never shows the secret."""

    secret: str
    prefix: str
    last4: str

    def __repr__(self) -> str:
        return f"IssuedKey({self.prefix}…{self.last4})"


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, rest = divmod(number, 62)
        digits.append(ALPHABET[rest])
    return "".join(reversed(digits))


def generate_key(prefix: str, mode: Mode = "live") -> IssuedKey:
    """Make a new key. ``prefix`` is 2 to 12 characters, ``[a-z][a-z0-9]*``.

    Raises ``ValueError`` when the prefix would make a key that its own pattern refuses.
    """
    body = f"{prefix}_{mode}_{_base62(secrets.randbits(256), SECRET_CHARS)}"
    secret = body + _base62(zlib.crc32(body.encode("ascii")), CHECK_CHARS)
    if not is_well_formed(secret.encode("ascii")):
        raise ValueError(f"a key cannot start with {prefix!r}: use 2 to 12 of a-z and 0-9, a letter first")
    return IssuedKey(secret=secret, prefix=f"{prefix}_{mode}_{body[-SECRET_CHARS:][:6]}", last4=secret[-4:])


def is_well_formed(key: bytes) -> bool:
    """Whether ``key`` has the format and the checksum of an issued key. Costs no look-up and is safe on any bytes."""
    if len(key) > MAX_KEY_BYTES or _KEY.fullmatch(key) is None:
        return False
    check = _base62(zlib.crc32(key[:-CHECK_CHARS]), CHECK_CHARS)
    return compare_digest(key[-CHECK_CHARS:], check.encode("ascii"))


def without_keys(text: bytes) -> bytes:
    """``text`` with the secret part of every key of ours in it cut out, for what is kept or passed on."""
    return _KEY.sub(_without_secret, text)


def _without_secret(found: re.Match[bytes]) -> bytes:
    text = found[0]
    # What stands before a key without a separator looks like a part of its prefix.
    if any(is_well_formed(text[at:]) for at in range(len(text) - SECRET_CHARS - CHECK_CHARS - len("_live_"))):
        return text[: -SECRET_CHARS - CHECK_CHARS] + b"***"
    return text


def digest_key(key: bytes, pepper: bytes) -> bytes:
    """The 32-byte digest a key is stored and looked up under. ``pepper`` is 16 to 64 bytes from the environment."""
    return blake2b(key, digest_size=DIGEST_BYTES, key=pepper).digest()
