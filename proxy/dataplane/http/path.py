"""One canonical spelling of a path, for matching, policy and forwarding alike (H10).

Percent-encoding that is not needed is decoded, what is needed is encoded in upper case, empty and dot segments are
resolved. So two spellings of one resource never part ways between us and the upstream. What cannot be made safe is
refused: encoded separators, controls, bytes that are not UTF-8, and ``..;`` which some servers read as ``..``.
"""

from __future__ import annotations

import re
from typing import Final

from proxy.dataplane.http.malformed import Malformed

_PCHAR: Final = rb"A-Za-z0-9\-._~!$&'()*+,=:@;"
# The usual path needs no work: no "%", no empty segment, no segment that starts with a dot.
PLAIN_PATH: Final = rb"(?:/[A-Za-z0-9\-_~!$&'()*+,=:@;][" + _PCHAR + rb"]*+)*+/?+"
_PLAIN: Final = re.compile(PLAIN_PATH)
_LITERAL: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@")
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})|(.)", re.DOTALL)
_PARAMETERS: Final = re.compile(rb"(?:;|%3B)[^/]*+")
_REFUSED_OCTETS: Final = frozenset({*range(0x20), 0x7F, 0x2F, 0x5C})


def canonical_path(raw: bytes) -> bytes:
    """The canonical form of an absolute path. Raises ``Malformed("bad_path")`` where there is no safe one."""
    if raw and _PLAIN.fullmatch(raw) is not None:
        return raw
    if not raw.startswith(b"/"):
        raise Malformed("bad_path", "The path does not start with a slash.")
    return _resolve([_canonical_segment(segment) for segment in raw[1:].split(b"/")])


def without_parameters(path: bytes) -> bytes:
    """What is left of a canonical path at a server that drops ``;parameters``, or decodes before it splits."""
    return canonical_path(_PARAMETERS.sub(b"", path))


def _canonical_segment(segment: bytes) -> bytes:
    octets = bytearray()
    spelled = bytearray()
    for encoded, plain in _PERCENT.findall(segment):
        octet = int(encoded, 16) if encoded else plain[0]
        octets.append(octet)
        if plain in (b"%", b"\\", b"#"):
            raise Malformed("bad_path", "The path holds a backslash, a fragment or a broken percent-encoding.")
        if octet in _REFUSED_OCTETS:
            raise Malformed("bad_path", "The path holds an encoded slash, backslash or control character.")
        # ";" delimits parameters when bare and is data when encoded: the one case where the spelling has a meaning.
        spelled += bytes((octet,)) if octet in _LITERAL or plain == b";" else b"%%%02X" % octet
    try:
        octets.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("bad_path", "The path is not UTF-8.") from None
    return bytes(spelled)


def _resolve(segments: list[bytes]) -> bytes:
    resolved: list[bytes] = []
    for segment in segments:
        if segment == b"..":
            del resolved[-1:]
        elif segment.startswith((b"..;", b".;", b"..%3B", b".%3B")):
            raise Malformed("bad_path", "The path holds a dot segment with parameters.")
        elif segment not in (b"", b"."):
            resolved.append(segment)
    ends_in_directory = segments[-1] in (b"", b".", b"..")
    return b"/" + b"/".join(resolved) + (b"/" if ends_in_directory and resolved else b"")
