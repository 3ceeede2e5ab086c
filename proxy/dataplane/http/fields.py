"""Header fields: their grammar, and what the gateway does with each name.

A field is *plain* (passed on) unless its name says otherwise. ``kind_of`` decides once per spelling of a name and
remembers it, so that the usual request costs one dictionary look-up per field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from apimgr.contracts.selection import DROPPED_PREFIXES

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"
FIELD_LINE: Final = rb"(?:" + TOKEN + rb"++:" + VALUE + rb"*+\r\n)"
FIELD_LINES: Final = FIELD_LINE + rb"*+"
# A bare CR or LF, a folded line or a control character: whatever follows, this is no head.
BROKEN_LINE: Final = re.compile(rb"\r[^\n]|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r\n[ \t]")
# For lines that already matched FIELD_LINES: names hold no colon, values no CR, so single-character scans will do.
_SPLIT: Final = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")
_CONNECTION_OPTION: Final = re.compile(rb"[ \t]*+(" + TOKEN + rb"++)[ \t]*+")

Field = tuple[bytes, bytes]

PLAIN: Final = 0
HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 3
CONNECTION: Final = 4
EXPECT: Final = 5
API_KEY: Final = 6
AUTHORIZATION: Final = 7
VIA: Final = 8
UPGRADE: Final = 9
CONTENT_TYPE: Final = 10
DROPPED: Final = 11  # hop by hop, or an identity that only the gateway may state
FORBIDDEN: Final = 12  # a second spelling of a framing field
WITHHELD: Final = 13  # passed on only where the API chooses its version by it
FORWARDED: Final = 14  # believed of trusted proxies alone, and dropped

_KINDS: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"connection": CONNECTION,
    b"expect": EXPECT,
    b"x-api-key": API_KEY,
    b"authorization": AUTHORIZATION,
    b"via": VIA,
    b"upgrade": UPGRADE,
    b"content-type": CONTENT_TYPE,
    b"x-forwarded-for": FORWARDED,
    b"x-forwarded-proto": FORWARDED,
    b"x-forwarded-host": FORWARDED,
    b"keep-alive": DROPPED,
    b"proxy": DROPPED,  # HTTP_PROXY, to whoever makes environment variables of fields
    b"te": DROPPED,
    b"trailer": DROPPED,
    b"http2-settings": DROPPED,
    b"forwarded": DROPPED,
    b"x-real-ip": DROPPED,
    b"x-request-id": DROPPED,
    b"true-client-ip": DROPPED,
    b"client-ip": DROPPED,
    b"x-client-ip": DROPPED,
    b"x-cluster-client-ip": DROPPED,
    b"x-originating-ip": DROPPED,
    b"x-remote-ip": DROPPED,
    b"x-remote-addr": DROPPED,
    b"x-remote-user": DROPPED,
    b"remote-user": DROPPED,
    b"x-forwarded": DROPPED,
    b"x-forward-for": DROPPED,
    b"forwarded-for": DROPPED,
    b"x-proxyuser-ip": DROPPED,
    b"x-azure-clientip": DROPPED,
    b"fastly-client-ip": DROPPED,
    b"cf-connecting-ip": DROPPED,
}
_DROPPED_PREFIXES: Final = (b"x-api-", *(prefix.encode() for prefix in DROPPED_PREFIXES))
_FRAMING: Final = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
# Servers that make variables of fields take every one of these for "_": there is no honest reason to send them.
_OTHER_DASHES: Final = re.compile(rb"[^a-z0-9]")
_METHOD_OVERRIDES: Final = frozenset({b"x-http-method", b"x-http-method-override", b"x-method-override"})

PERSISTENCE_OPTIONS: Final = frozenset({b"close", b"keep-alive"})
# No option of one connection: a next hop that took these at their word would lose the framing, or the caller.
NEVER_OPTIONS: Final = frozenset(
    {
        b"host", b"content-length", b"transfer-encoding", b"content-type",
        b"expect", b"via", b"authorization", b"x-api-key",
    }
)  # fmt: skip

_remembered: dict[bytes, int] = {}
REMEMBER_AT_MOST: Final = 4096
LONGEST_REMEMBERED: Final = 64  # bytes; names and lists come from strangers, and their memory is ours


def kind_of(name: bytes) -> int:
    """What to do with a request field of this name, in any case and spelling."""
    kind = _remembered.get(name)
    if kind is None:
        kind = _classify(name)
        remember(_remembered, name, kind)
    return kind


def remember(kinds: dict[bytes, int], name: bytes, kind: int) -> None:
    """Keep what a name means, within bounds. All is forgotten when it is full: else a flood of names would stay."""
    if len(name) <= LONGEST_REMEMBERED:
        if len(kinds) >= REMEMBER_AT_MOST:
            kinds.clear()
        kinds[name] = kind


def _classify(name: bytes) -> int:
    lower = name.lower()
    dashed = with_dashes(lower)
    if dashed != lower:
        if dashed in _FRAMING:
            return FORBIDDEN
        return DROPPED if _is_dropped(dashed) or dashed in _KINDS else PLAIN
    kind = _KINDS.get(lower, PLAIN)
    if kind == PLAIN and _is_dropped(lower):
        return WITHHELD if lower.startswith(b"x-api-") else DROPPED
    return kind


def with_dashes(lower: bytes) -> bytes:
    """A name in lower case as servers read it that make variables of fields: there they are all one."""
    return _OTHER_DASHES.sub(b"-", lower)


def _is_dropped(lower: bytes) -> bool:
    return lower.startswith(_DROPPED_PREFIXES) or lower in _METHOD_OVERRIDES


def split_fields(lines: bytes) -> list[Field]:
    """The fields of lines that matched ``FIELD_LINES``, values without surrounding white space."""
    fields: list[Field] = _SPLIT.findall(lines)
    if b" \r\n" in lines or b"\t\r\n" in lines:
        return [(name, value.rstrip(b" \t")) for name, value in fields]
    return fields


def connection_options(value: bytes) -> frozenset[bytes] | None:
    """The options of a ``Connection`` value in lower case, or ``None`` if it is not a list of tokens."""
    return _remembered_options(value) if len(value) <= LONGEST_REMEMBERED else _read_options(value)


def _read_options(value: bytes) -> frozenset[bytes] | None:
    options = set()
    for part in value.split(b","):
        if part.strip(b" \t"):
            match = _CONNECTION_OPTION.fullmatch(part)
            if match is None:
                return None
            options.add(match[1].lower())
    return frozenset(options)


_remembered_options = lru_cache(maxsize=256)(_read_options)


def without(fields: Iterable[Field], names: frozenset[bytes]) -> list[Field]:
    """``fields`` without those whose name is in ``names`` (lower case)."""
    return [field for field in fields if field[0].lower() not in names]


def struck(names: Iterable[bytes]) -> bytes:
    """``names`` that a ``Connection`` field keeps to its hop, to be remembered: each between commas."""
    return b",%b," % b",".join(names)  # a set of a thousand bytes of names takes 28 times as much


def strikes(struck: bytes, name: bytes) -> bool:
    """Whether ``name``, in lower case, is among ``struck``."""
    return b",%b," % name in struck


def join_fields(fields: Iterable[Field]) -> bytes:
    """The lines of ``fields``, the last one without its CRLF."""
    return b"\r\n".join(map(b": ".join, fields))
