"""HTTP/1.1 read slowly and plainly, a byte at a time where it matters: what the fast parsers are compared with.

Written from RFC 9110 and 9112 and not from the parsers, and without regular expressions, so that they share no mistake.
"""

from __future__ import annotations

from typing import NamedTuple

TCHAR = frozenset(b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
FIELD_BYTES = frozenset({0x09, *range(0x20, 0x7F), *range(0x80, 0x100)})
TARGET_BYTES = frozenset(range(0x21, 0x7F))
HEX = frozenset(b"0123456789abcdefABCDEF")


class Refused(ValueError):
    """Not HTTP/1.1 as we read it."""


class Incomplete(ValueError):
    """More bytes are needed."""


class Head(NamedTuple):
    start: list[bytes]
    fields: list[tuple[bytes, bytes]]
    size: int

    def values(self, name: bytes) -> list[bytes]:
        return [value for known, value in self.fields if known.lower() == name]


def read_lines(raw: bytes) -> tuple[list[bytes], int]:
    """The lines up to the empty one, and how many bytes they took. CR and LF come as a pair or not at all."""
    lines, line, at = [], bytearray(), 0
    while at < len(raw):
        if raw[at] == 0x0A:
            raise Refused("LF alone")
        if raw[at] != 0x0D:
            line.append(raw[at])
            at += 1
            continue
        if at + 1 == len(raw):
            break
        if raw[at + 1] != 0x0A:
            raise Refused("CR alone")
        at += 2
        if not line:
            return lines, at
        lines.append(bytes(line))
        line.clear()
    raise Incomplete


def read_fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not TCHAR.issuperset(name) or not FIELD_BYTES.issuperset(value):
            raise Refused("not a field")
        fields.append((name, value.strip(b" \t")))
    return fields


def read_request(raw: bytes) -> Head:
    lines, size = read_lines(raw)
    if not lines:
        raise Refused("an empty line first")
    start = lines[0].split(b" ")
    if len(start) != 3 or not start[0] or not start[1]:
        raise Refused("not a request line")
    if not TCHAR.issuperset(start[0]) or not TARGET_BYTES.issuperset(start[1]):
        raise Refused("not a request line")
    if start[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        raise Refused("not our version")
    return Head(start, read_fields(lines[1:]), size)


def body_length(head: Head) -> int:
    """Bytes of the body of a request; -1 is chunked."""
    lengths, codings = head.values(b"content-length"), head.values(b"transfer-encoding")
    if len(lengths) > 1 or len(codings) > 1 or (lengths and codings):
        raise Refused("framing")
    if codings:
        if codings[0].lower() != b"chunked" or head.start[2] == b"HTTP/1.0":
            raise Refused("framing")
        return -1
    if not lengths:
        return 0
    if not lengths[0] or any(byte not in b"0123456789" for byte in lengths[0]):
        raise Refused("framing")
    return int(lengths[0])


def read_chunked(raw: bytes) -> tuple[bytes, bytes]:
    """The payload of a whole chunked body, and what follows it."""
    payload = b""
    while True:
        line, raw = _line(raw)
        size_text = line.partition(b";")[0]
        if not 1 <= len(size_text) <= 16 or not HEX.issuperset(size_text) or not FIELD_BYTES.issuperset(line):
            raise Refused("not a chunk size")
        size = int(size_text, 16)
        if size == 0:
            break
        if size > 2**31:
            raise Refused("too large")
        payload, raw = payload + raw[:size], raw[size:]
        if not b"\r\n".startswith(raw[:2]):
            raise Refused("longer than its size")
        if len(raw) < 2:
            raise Incomplete
        raw = raw[2:]
    if raw.startswith(b"\r\n"):
        return payload, raw[2:]
    lines, size = read_lines(raw)
    forbidden = {b"content-length", b"transfer-encoding", b"host", b"trailer"}
    if any(name.lower() in forbidden for name, _ in read_fields(lines)):
        raise Refused("a framing field as a trailer")
    return payload, raw[size:]


def _line(raw: bytes) -> tuple[bytes, bytes]:
    for at, byte in enumerate(raw):
        if byte == 0x0A:
            raise Refused("LF alone")
        if byte == 0x0D:
            if at + 1 == len(raw):
                break
            if raw[at + 1] != 0x0A:
                raise Refused("CR alone")
            return raw[:at], raw[at + 2 :]
    raise Incomplete
