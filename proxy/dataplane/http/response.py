"""The head of an upstream's response, parsed as strictly as a request (H5, H17)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from proxy.dataplane.http import fields as f
from proxy.dataplane.http.body import BodyReader, ChunkedReader, LengthReader, UntilCloseReader
from proxy.dataplane.http.malformed import Malformed

MAX_HEAD: Final = 64 * 1024
MAX_FIELDS: Final = 200
MAX_REASON: Final = 128  # a longer phrase is left out; nobody reads it
MAX_INTERIM: Final = 32 * 1024  # of all interim responses before the final one, each counted as 1 KiB at least
UNTIL_CLOSE: Final = -2
CHUNKED: Final = -1

_HEAD: Final = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: (" + f.VALUE + rb"*+))?(\r\n" + f.FIELD_LINES + rb")\r\n"
)
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")
_OTHER, _LENGTH, _ENCODING, _CONNECTION, _UPGRADE, _DROPPED = range(6)
_KINDS: Final[dict[bytes, int]] = {
    b"content-length": _LENGTH,
    b"transfer-encoding": _ENCODING,
    b"connection": _CONNECTION,
    b"keep-alive": _DROPPED,
    b"trailer": _DROPPED,
    b"upgrade": _UPGRADE,
    b"te": _DROPPED,
    # The gateway states these itself.
    b"x-request-id": _DROPPED,
    b"ratelimit": _DROPPED,
    b"ratelimit-policy": _DROPPED,
}
_remembered: dict[bytes, int] = {}


def _invalid(detail: str) -> Malformed:
    return Malformed("upstream_invalid", detail)


class ResponseBlock:
    """The header fields of a response, sorted: ``lines`` are those passed on, each ended by CRLF.

    Upstreams repeat all of them but length and date, so blocks without these are remembered and shared: nothing may
    change one. ``options`` are the names that ``Connection`` lists.
    """

    __slots__ = ("encoding", "keep_alive", "length", "lines", "options", "upgrade")

    def __init__(self) -> None:
        self.lines = b""
        self.length: bytes | None = None
        self.encoding: bytes | None = None
        self.keep_alive = False
        self.options: frozenset[bytes] = frozenset()
        self.upgrade = b""


class ResponseHead:
    """A response, parsed. ``lines`` are the fields passed on; ``length`` is bytes, ``CHUNKED`` or ``UNTIL_CLOSE``."""

    __slots__ = ("block", "has_length", "keep_alive", "length", "lines", "reason", "size", "status")

    status: int
    reason: bytes
    lines: bytes
    length: int
    has_length: bool
    keep_alive: bool
    size: int
    block: ResponseBlock

    @property
    def upgrade(self) -> bytes:
        """The protocol a 101 switches to; empty where ``Connection`` does not list it."""
        return self.block.upgrade if b"upgrade" in self.block.options else b""

    def body_reader(self) -> BodyReader:
        if self.length == CHUNKED:
            return ChunkedReader()
        return UntilCloseReader() if self.length == UNTIL_CLOSE else LengthReader(self.length)


def parse_response(buffer: bytes, *, to_head: bool) -> ResponseHead | None:
    """The response at the start of ``buffer``, or ``None`` while incomplete. ``to_head``: it answers a HEAD request."""
    match = _HEAD.match(buffer)
    if match is None:
        _check_incomplete(buffer)
        return None
    minor, status, reason, lines = match.groups()
    head = ResponseHead()
    head.size = size = match.end()
    if size > MAX_HEAD:
        raise _invalid("The upstream's head is too large.")
    head.status = int(status)
    head.reason = reason if reason and len(reason) <= MAX_REASON else b""
    length, lines = _take_out(lines, b"\r\nContent-Length: ", b"\r\ncontent-length: ")
    date, lines = _take_out(lines, b"\r\nDate: ", b"\r\ndate: ")
    read = _remembered_block if size <= _REMEMBERED_SIZE else _read_block
    head.block = block = read(lines, minor == b"1")
    if date is None or b"date" in block.options:
        head.lines = block.lines
    else:
        head.lines = b"%bDate: %b\r\n" % (block.lines, date)
    _read_framing(head, block, length, is_http11=minor == b"1", to_head=to_head)
    return head


def _take_out(lines: bytes, *spellings: bytes) -> tuple[bytes | None, bytes]:
    """The value of a field, if it is there and usually spelled, and the lines without it."""
    for spelling in spellings:
        before, found, after = lines.partition(spelling)
        if found:
            value, end, after = after.partition(b"\r\n")
            return value.strip(b" \t"), before + end + after
    return None, lines


def _read_block(lines: bytes, is_http11: bool) -> ResponseBlock:
    fields = f.split_fields(lines[2:])
    if len(fields) > MAX_FIELDS:
        raise _invalid("The upstream's head has too many fields.")
    block = ResponseBlock()
    plain: list[f.Field] = []
    connection: bytes | None = None
    for field in fields:
        name, value = field
        kind = _remembered.get(name)
        if kind is None:
            kind = _classify(name)
        if kind == _OTHER:
            plain.append(field)
        elif kind == _LENGTH:
            if block.length is not None:
                raise _invalid(_TWO_LENGTHS)
            block.length = value
        elif kind == _ENCODING:
            block.encoding = value if block.encoding is None else block.encoding + b"," + value
        elif kind == _UPGRADE:
            block.upgrade = value
        elif kind == _CONNECTION:
            connection = value if connection is None else connection + b"," + value
    _read_connection(block, connection, is_http11=is_http11)
    plain = f.without(plain, block.options)
    block.lines = f.join_fields(plain) + b"\r\n" if plain else b""
    return block


_REMEMBERED_SIZE: Final = 1024
_remembered_block = lru_cache(maxsize=1024)(_read_block)
_TWO_LENGTHS: Final = "The upstream sent more than one Content-Length."


def _read_connection(block: ResponseBlock, connection: bytes | None, *, is_http11: bool) -> None:
    block.keep_alive = is_http11
    if connection is not None:
        options = f.connection_options(connection)
        if options is None:
            raise _invalid("The upstream's Connection field is not a list of names.")
        block.options = options
        block.keep_alive = b"close" not in options and (is_http11 or b"keep-alive" in options)


def _classify(name: bytes) -> int:
    lower = name.lower()
    kind = _DROPPED if lower.startswith(b"proxy-") else _KINDS.get(lower, _OTHER)
    f.remember(_remembered, name, kind)
    return kind


def _read_framing(
    head: ResponseHead, block: ResponseBlock, length: bytes | None, *, is_http11: bool, to_head: bool
) -> None:
    if length is None:
        length = block.length
    elif block.length is not None:
        raise _invalid(_TWO_LENGTHS)
    head.has_length = length is not None
    head.length = _length(head, length, block.encoding, is_http11=is_http11, to_head=to_head)
    head.keep_alive = block.keep_alive and head.length != UNTIL_CLOSE
    if head.status == 204 and (block.encoding is not None or (length is not None and int(length) > 0)):
        # It announces a body that it must not have. Were one to follow, it would be read as the next response.
        head.keep_alive = False


def _length(head: ResponseHead, length: bytes | None, encoding: bytes | None, *, is_http11: bool, to_head: bool) -> int:
    if encoding is not None and (length is not None or not is_http11 or encoding.lower() != b"chunked"):
        raise _invalid("The upstream's framing is ambiguous.")
    if length is not None and _DIGITS.fullmatch(length) is None:
        raise _invalid("The upstream's Content-Length is not a number.")
    status = head.status
    if status < 200 and (encoding is not None or length not in (None, b"0")):
        raise _invalid("An interim response of the upstream announces a body.")
    if to_head and length is not None:
        # What a GET would have been answered with: a HEAD's response states it and has no body.
        head.lines += b"Content-Length: %b\r\n" % length
    if to_head or status < 200 or status in (204, 304):
        return 0
    if encoding is not None:
        return CHUNKED
    return UNTIL_CLOSE if length is None else int(length)


def _check_incomplete(buffer: bytes) -> None:
    if b"\r\n\r\n" in buffer or len(buffer) > MAX_HEAD or buffer.count(b"\r\n") > MAX_FIELDS + 2:
        raise _invalid("The upstream's head is not valid HTTP/1.1.")
    start = buffer[:9]
    if not (
        start.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
        or b"HTTP/1.1 ".startswith(start)
        or b"HTTP/1.0 ".startswith(start)
    ):
        raise _invalid("The upstream did not answer with HTTP/1.1.")
    if f.BROKEN_LINE.search(buffer) is not None:
        raise _invalid("The upstream's head is not valid HTTP/1.1.")
