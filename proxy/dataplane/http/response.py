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
    rb"HTTP/1\.([01]) ([1-5][0-9]{2}(?: " + f.VALUE + rb"*+)?)(\r\n" + f.FIELD_LINE + rb"{0,%d}+)\r\n" % MAX_FIELDS
)
# What differs from response to response is taken out first, as it is of requests; but not the date, which all of one
# second share. First letters as sets: most lines are passed over by them.
_OWN_FIELD: Final = re.compile(
    rb"\n([Cc][Oo](?i:ntent-Length)|[Ee](?i:Tag|xpires)|[Ll](?i:ast-Modified)|[Aa](?i:ge)|[Ss](?i:et-Cookie)"
    rb"|[Xx](?i:-Request-Id)):[ \t]*+([^\r]*+)\r"
)
_MOST_DIGITS: Final = 18
_BODILESS: Final = frozenset({204, 304})
_OTHER, _LENGTH, _ENCODING, _CONNECTION, _UPGRADE, _DROPPED, _DATE = range(7)
_KINDS: Final[dict[bytes, int]] = {
    b"content-length": _LENGTH,
    b"date": _DATE,
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
    """The header fields of a response but those of ``_OWN_FIELD``, sorted: ``lines`` are passed on, each ended by CRLF.

    Upstreams repeat them, so blocks are remembered and shared: nothing may change one. ``upgrade`` is empty where
    ``Connection`` does not list it. ``is_dated``: a ``Date`` is among the lines.
    """

    __slots__ = ("encoding", "is_dated", "keep_alive", "lines", "struck", "upgrade")

    def __init__(self) -> None:
        self.lines = b""
        self.encoding: bytes | None = None
        self.is_dated = False
        self.keep_alive = False
        self.struck = b""
        self.upgrade = b""


class ResponseHead:
    """A response, parsed. ``status_line`` and ``lines``, the fields, are passed on.

    ``length`` is bytes, ``CHUNKED`` or ``UNTIL_CLOSE``.
    """

    __slots__ = ("block", "keep_alive", "length", "lines", "size", "status", "status_line")

    status: int
    status_line: bytes
    lines: bytes
    length: int
    keep_alive: bool
    size: int
    block: ResponseBlock

    @property
    def upgrade(self) -> bytes:
        """The protocol a 101 switches to; empty where ``Connection`` does not list it."""
        return self.block.upgrade

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
    minor, status, lines = match.groups()
    head = ResponseHead()
    head.size = size = match.end()
    if size > MAX_HEAD:
        raise _invalid("The upstream's head is too large.")
    head.status, head.status_line = _read_status(status if len(status) <= _LONGEST_STATUS else status[:3])
    own = _OWN_FIELD.split(lines)
    if len(own) > 1:
        lines = b"".join(own[::3])
    read = _remembered_block if len(lines) <= _REMEMBERED_SIZE else _read_block
    head.block = block = read(lines, minor == b"1")
    head.lines = block.lines
    length = _read_own(head, own) if len(own) > 1 else None
    _read_framing(head, length, is_http11=minor == b"1", to_head=to_head)
    return head


@lru_cache(maxsize=256)
def _read_status(text: bytes) -> tuple[int, bytes]:
    """The code and our own status line, from the code and, mostly, a reason phrase."""
    return int(text[:3]), b"HTTP/1.1 %b %b\r\n" % (text[:3], text[4:])


def _read_own(head: ResponseHead, own: list[bytes]) -> bytes | None:
    """Pass on what was taken out of the block: ``own`` is text, name, value, text and so on. Returns the length."""
    block = head.block
    length: bytes | None = None
    for at in range(1, len(own), 3):
        name, value = own[at], own[at + 1].rstrip(b" \t")
        kind = _remembered.get(name)
        if kind is None:
            kind = _classify(name)
        if kind == _LENGTH:
            if length is not None:
                raise _invalid("The upstream sent more than one Content-Length.")
            length = value
        elif kind == _OTHER and not (block.struck and f.strikes(block.struck, name.lower())):
            head.lines = b"".join((head.lines, name, b": ", value, b"\r\n"))
    return length


def _read_block(lines: bytes, is_http11: bool) -> ResponseBlock:
    block = ResponseBlock()
    plain: list[f.Field] = []
    connection: bytes | None = None
    upgrade = b""
    for field in f.split_fields(lines[2:]):
        name, value = field
        kind = _remembered.get(name)
        if kind is None:
            kind = _classify(name)
        if kind == _OTHER:
            plain.append(field)
        elif kind == _DATE:
            plain.append(field)
            block.is_dated = True
        elif kind == _ENCODING:
            block.encoding = value if block.encoding is None else block.encoding + b"," + value
        elif kind == _UPGRADE:
            upgrade = value
        elif kind == _CONNECTION:
            connection = value if connection is None else connection + b"," + value
    struck = _read_connection(block, connection, upgrade, is_http11=is_http11)
    if struck:
        plain = f.without(plain, struck)
        block.is_dated = block.is_dated and b"date" not in struck
    block.lines = f.join_fields(plain) + b"\r\n" if plain else b""
    return block


_REMEMBERED_SIZE: Final = 1024
_remembered_block = lru_cache(maxsize=1024)(_read_block)
_LONGEST_STATUS: Final = len("200 ") + MAX_REASON


def _read_connection(
    block: ResponseBlock, connection: bytes | None, upgrade: bytes, *, is_http11: bool
) -> frozenset[bytes]:
    """Whether the connection stays open, and to what protocol it may switch. Gives the fields it keeps to this hop."""
    block.keep_alive = is_http11
    if connection is None:
        return frozenset()
    options = f.connection_options(connection)
    if options is None:
        raise _invalid("The upstream's Connection field is not a list of names.")
    block.keep_alive = b"close" not in options and (is_http11 or b"keep-alive" in options)
    if b"upgrade" in options:
        block.upgrade = upgrade
    struck = options - f.PERSISTENCE_OPTIONS
    if struck:
        block.struck = f.struck(struck)
    return struck


def _classify(name: bytes) -> int:
    lower = name.lower()
    kind = _DROPPED if lower.startswith(b"proxy-") else _KINDS.get(lower, _OTHER)
    f.remember(_remembered, name, kind)
    return kind


def _read_framing(head: ResponseHead, length: bytes | None, *, is_http11: bool, to_head: bool) -> None:
    block, status = head.block, head.status
    if length is not None and not (length.isdigit() and len(length) <= _MOST_DIGITS):
        raise _invalid("The upstream's Content-Length is not a number.")
    head.keep_alive = block.keep_alive
    if length is not None and block.encoding is None and status >= 200 and status not in _BODILESS and not to_head:
        head.length = int(length)  # as most have it
        return
    head.length = _length(head, length, is_http11=is_http11, to_head=to_head)
    if head.length == UNTIL_CLOSE:
        head.keep_alive = False
    announces = block.encoding is not None or (length is not None and int(length) > 0)
    if announces and (to_head or status == 204 or (status == 304 and block.encoding is not None)):
        # A body that must not come: a HEAD's answer announces a GET's. Were one to follow, it would be read as the
        # next response, of another caller.
        head.keep_alive = False


def _length(head: ResponseHead, length: bytes | None, *, is_http11: bool, to_head: bool) -> int:
    encoding, status = head.block.encoding, head.status
    if encoding is not None and (length is not None or not is_http11 or encoding.lower() != b"chunked"):
        raise _invalid("The upstream's framing is ambiguous.")
    if status < 200 and (encoding is not None or length not in (None, b"0")):
        raise _invalid("An interim response of the upstream announces a body.")
    if to_head and length is not None:
        # What a GET would have been answered with: a HEAD's response states it and has no body.
        head.lines += b"Content-Length: %b\r\n" % length
    if to_head or status < 200 or status in _BODILESS:
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
