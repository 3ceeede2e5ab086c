"""The head of a request: one compiled expression is both the strict layer and the parser's first half.

``parse_request`` matches the whole head at once. Only where that fails does slower code find out whether the head is
incomplete or wrong, and how (docs/adr/0005-http-parser.md has the measurements).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from proxy.dataplane.http import fields as f
from proxy.dataplane.http.malformed import Malformed, bad_request
from proxy.dataplane.http.path import canonical_path

MAX_REQUEST_LINE: Final = 8 * 1024
MAX_FIELD: Final = 8 * 1024
MAX_HEAD: Final = 32 * 1024
MAX_FIELDS: Final = 100
CHUNKED: Final = -1
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"QUERY"})

_REQUEST_LINE: Final = rb"(" + f.TOKEN + rb"++) ([\x21-\x7e]++) HTTP/1\.([01])\r\n"
_HEAD: Final = re.compile(_REQUEST_LINE + rb"(" + f.FIELD_LINES + rb")\r\n")
_ANY_REQUEST_LINE: Final = re.compile(f.TOKEN + rb"++ [\x21-\x7e]++ HTTP/([0-9]\.[0-9])")
_BROKEN_LINE: Final = re.compile(rb"\r[^\n]|(?<!\r)\n|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r\n[ \t]")
_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9\-._]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?#@]++)([/?].*)?")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")


class RequestHead:
    """A request, parsed. ``fields`` are those that may be passed on; the rest has been turned into attributes.

    ``path`` is canonical, ``query`` starts with ``?`` or is empty. ``body_length`` is bytes, or ``CHUNKED``.
    ``size`` is how many bytes of the buffer the head took.
    """

    __slots__ = (
        "api_keys", "authorizations", "body_length", "expects_continue", "fields", "host", "is_http11", "keep_alive",
        "method", "path", "query", "raw_target", "size", "upgrade", "via",
    )  # fmt: skip

    method: bytes
    raw_target: bytes
    path: bytes
    query: bytes
    host: str
    is_http11: bool
    keep_alive: bool
    body_length: int
    expects_continue: bool
    fields: list[f.Field]
    api_keys: list[bytes]
    authorizations: list[bytes]
    via: bytes
    upgrade: bytes
    size: int


def parse_request(buffer: bytes) -> RequestHead | None:
    """The head at the start of ``buffer``, or ``None`` while it is incomplete. Raises ``Malformed``."""
    match = _HEAD.match(buffer)
    if match is None:
        _check_incomplete(buffer)
        return None
    method, target, minor, lines = match.groups()
    size = match.end()
    if size > MAX_FIELD:
        _check_sizes(method, target, lines, size)
    head = RequestHead()
    head.size = size
    head.method = method
    head.is_http11 = minor == b"1"
    head.raw_target = target
    # A target that cannot be read outweighs nothing: fields first, so that framing errors are found on every road.
    host = _read_fields(head, f.split_fields(lines))
    _read_target(head, target, host)
    return head


def _check_sizes(method: bytes, target: bytes, lines: bytes, size: int) -> None:
    if len(method) + len(target) + 11 > MAX_REQUEST_LINE:
        raise Malformed("uri_too_long", f"The request line is over {MAX_REQUEST_LINE} bytes.")
    if size > MAX_HEAD:
        raise Malformed("head_too_large", f"The request head is over {MAX_HEAD} bytes.")
    if any(len(line) > MAX_FIELD for line in lines.split(b"\r\n")):
        raise Malformed("head_too_large", f"A header field is over {MAX_FIELD} bytes.")


def _read_fields(head: RequestHead, fields: list[f.Field]) -> bytes | None:
    """Sort the fields into the head. Returns the ``Host`` value."""
    if len(fields) > MAX_FIELDS:
        raise Malformed("head_too_large", f"The request has more than {MAX_FIELDS} header fields.")
    head.fields = plain = []
    head.api_keys, head.authorizations = [], []
    head.via = head.upgrade = b""
    head.expects_continue = False
    host: bytes | None = None
    length: bytes | None = None
    encoding: bytes | None = None
    connection: bytes | None = None
    content_types = 0
    for field in fields:
        name, value = field
        kind = f.kind_of(name)
        if kind == f.PLAIN:
            plain.append(field)
        elif kind == f.HOST:
            if host is not None:
                raise bad_request("There is more than one Host field.")
            host = value
        elif kind == f.API_KEY:
            head.api_keys.append(value)
        elif kind == f.AUTHORIZATION:
            head.authorizations.append(value)
        elif kind == f.CONNECTION:
            connection = value if connection is None else connection + b"," + value
        elif kind == f.CONTENT_LENGTH:
            if length is not None:
                raise bad_request("There is more than one Content-Length field.")
            length = value
        elif kind == f.CONTENT_TYPE:
            content_types += 1
            plain.append(field)
        elif kind == f.TRANSFER_ENCODING:
            encoding = value if encoding is None else encoding + b"," + value
        elif kind == f.EXPECT:
            if value.lower() != b"100-continue":
                raise Malformed("expectation_failed", "Only 100-continue can be expected.")
            head.expects_continue = head.is_http11
        elif kind == f.VIA:
            head.via = head.via + b", " + value if head.via else value
        elif kind == f.UPGRADE:
            head.upgrade = value
        elif kind == f.FORBIDDEN:
            raise bad_request("A framing field is spelled with an underscore.")
    if content_types > 1:
        raise bad_request("There is more than one Content-Type field.")
    head.body_length = _body_length(head, length, encoding)
    head.keep_alive = head.is_http11 if connection is None else _read_connection(head, connection)
    return host


def _body_length(head: RequestHead, length: bytes | None, encoding: bytes | None) -> int:
    if encoding is not None:
        if length is not None:
            raise bad_request("There are both Content-Length and Transfer-Encoding.")
        if not head.is_http11 or encoding.lower() != b"chunked":
            raise bad_request("Transfer-Encoding must be chunked alone, in HTTP/1.1.")
        return CHUNKED
    if length is None:
        return 0
    if _DIGITS.fullmatch(length) is None:
        raise bad_request("Content-Length is not a number.")
    return int(length)


def _read_connection(head: RequestHead, value: bytes) -> bool:
    """Drop the fields that ``Connection`` names. Returns whether the connection stays open."""
    options = f.connection_options(value)
    if options is None:
        raise bad_request("The Connection field is not a list of names.")
    if not options <= {b"close", b"keep-alive"}:
        head.fields = f.without(head.fields, options)
    if b"upgrade" not in options:
        head.upgrade = b""
    return b"close" not in options and (head.is_http11 or b"keep-alive" in options)


def _read_target(head: RequestHead, target: bytes, host: bytes | None) -> None:
    if head.method not in METHODS:
        raise Malformed(
            "method_not_implemented", "The gateway serves GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, QUERY."
        )
    if host is None:
        if head.is_http11:
            raise bad_request("The Host field is missing.")
        head.host = ""
    else:
        head.host = _canonical_host(host)
    if target[0] != 0x2F:
        target = _from_other_forms(head, target)
    if b"#" in target:
        raise Malformed("bad_path", "The target holds a fragment.")
    path, mark, query = target.partition(b"?")
    head.path = canonical_path(path)
    head.query = mark + query


def _from_other_forms(head: RequestHead, target: bytes) -> bytes:
    """The origin form of an absolute target, whose authority must say what ``Host`` says (H6)."""
    if target == b"*" and head.method == b"OPTIONS":
        return b"/*"
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise bad_request("The request target is neither a path nor an http URL.")
    if _canonical_host(match[1]) != head.host and head.host:
        raise bad_request("The request target and the Host field disagree.")
    head.host = _canonical_host(match[1])
    rest: bytes = match[2] or b"/"
    return b"/" + rest if rest.startswith(b"?") else rest


@lru_cache(maxsize=1024)
def _canonical_host(raw: bytes) -> str:
    match = _AUTHORITY.fullmatch(raw)
    if match is None or (match[2] is not None and int(match[2]) > 65535):
        raise bad_request("The host is not valid.")
    return match[1].decode("ascii").lower().removesuffix(".")


def _check_incomplete(buffer: bytes) -> None:
    """``buffer`` holds no valid head: raise ``Malformed`` unless it may still become one."""
    end = buffer.find(b"\r\n\r\n")
    line_end = buffer.find(b"\r\n")
    line = buffer[:line_end] if line_end >= 0 else buffer
    if len(line) > MAX_REQUEST_LINE:
        raise Malformed("uri_too_long", f"The request line is over {MAX_REQUEST_LINE} bytes.")
    if (len(buffer) if end < 0 else end + 4) > MAX_HEAD:
        raise Malformed("head_too_large", f"The request head is over {MAX_HEAD} bytes.")
    if _BROKEN_LINE.search(buffer, 0, end + 4 if end >= 0 else len(buffer)) is not None:
        raise bad_request("The head holds a bare CR or LF, a folded line or a control character.")
    if line_end >= 0:
        match = _ANY_REQUEST_LINE.fullmatch(line)
        if match is None:
            raise bad_request("The request line is not valid.")
        if match[1] not in (b"1.0", b"1.1"):
            raise Malformed("version_not_supported", "The gateway serves HTTP/1.0 and HTTP/1.1.")
    elif line and not _may_start(line):
        raise bad_request("The request line is not valid.")
    if end >= 0:
        raise bad_request("A header field is not valid.")


_METHOD_START: Final = re.compile(f.TOKEN + rb"++(?: [\x21-\x7e]*+(?: [HTTP/0-9.]*+\r?)?)?")


def _may_start(line: bytes) -> bool:
    return _METHOD_START.fullmatch(line) is not None


def unreadable_head() -> RequestHead:
    """Stands for a request whose head could not be read, so that it too can be answered and recorded."""
    head = RequestHead()
    head.method = head.raw_target = head.path = head.query = head.via = head.upgrade = b""
    head.host = ""
    head.is_http11 = True
    head.keep_alive = head.expects_continue = False
    head.body_length = head.size = 0
    head.fields, head.api_keys, head.authorizations = [], [], []
    return head
