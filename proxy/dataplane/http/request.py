"""The head of a request: one compiled expression is both the strict layer and the parser's first half.

``parse_request`` matches the whole head at once. Only where that fails does slower code find out whether the head is
incomplete or wrong, and how (docs/adr/0005-http-parser.md has the measurements).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from proxy.dataplane.http import fields as f
from proxy.dataplane.http.malformed import Malformed, bad_request
from proxy.dataplane.http.path import canonical_path

MAX_REQUEST_LINE: Final = 8 * 1024
MAX_FIELD: Final = 8 * 1024
MAX_HEAD: Final = 32 * 1024
MAX_FIELDS: Final = 100
MAX_QUERY_FIELDS: Final = 1000
CHUNKED: Final = -1
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"QUERY"})

_REQUEST_LINE: Final = rb"(" + f.TOKEN + rb"++) ([\x21-\x7e]++) HTTP/1\.([01])\r\n"
_HEAD: Final = re.compile(_REQUEST_LINE + rb"(" + f.FIELD_LINES + rb")\r\n")
_ANY_REQUEST_LINE: Final = re.compile(f.TOKEN + rb"++ [\x21-\x7e]++ HTTP/([0-9]\.[0-9])")
_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9\-._]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]([Ss]?)://([^/?#@]++)([/?].*)?")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")


class FieldBlock:
    """The header fields of a request, sorted.

    ``fields`` are those that may be passed on, ``passed_on`` the same as lines; the rest has been turned into
    attributes. ``withheld`` are those that only an API which chooses its version by them passes on, ``struck`` the
    names that ``Connection`` keeps to this hop. ``body_length`` is bytes, or ``CHUNKED``. Callers repeat their fields
    from call to call, so blocks are remembered and shared: nothing may change one.
    """

    __slots__ = (
        "api_keys", "authorizations", "body_length", "expects_continue", "fields", "host", "keep_alive", "passed_on",
        "port", "struck", "upgrade", "via", "withheld",
    )  # fmt: skip

    def __init__(self) -> None:
        self.fields: list[f.Field] = []
        self.passed_on = b""
        self.api_keys: list[bytes] = []
        self.authorizations: list[bytes] = []
        self.host: str | None = None
        self.port = 0  # 0: the scheme's
        self.body_length = 0
        self.keep_alive = False
        self.expects_continue = False
        self.via = b""
        self.upgrade = b""
        self.withheld: list[f.Field] = []
        self.struck: frozenset[bytes] = frozenset()


class RequestHead:
    """A request, parsed. ``path`` is canonical, ``query`` starts with ``?`` or is empty.

    ``size`` is how many bytes of the buffer the head took.
    """

    __slots__ = ("block", "host", "is_http11", "method", "path", "query", "size")

    method: bytes
    path: bytes
    query: bytes
    host: str
    is_http11: bool
    block: FieldBlock
    size: int


def parse_request(buffer: bytes) -> RequestHead | None:
    """The head at the start of ``buffer``, or ``None`` while it is incomplete. Raises ``Malformed``."""
    match = _HEAD.match(buffer)
    if match is None:
        _check_incomplete(buffer)
        return None
    method, target, minor, lines = match.groups()
    head = RequestHead()
    head.size = size = match.end()
    if size > _REMEMBERED_SIZE:
        _check_sizes(method, target, lines, size)
        read = _read_block
    else:
        read = _remembered_block
    head.method = method
    head.is_http11 = is_http11 = minor == b"1"
    # The fields before the target, so that framing errors are found on every road.
    head.block = block = read(lines, is_http11)
    _read_target(head, target, block)
    return head


def _check_sizes(method: bytes, target: bytes, lines: bytes, size: int) -> None:
    if len(method) + len(target) + 11 > MAX_REQUEST_LINE:
        raise Malformed("uri_too_long", f"The request line is over {MAX_REQUEST_LINE} bytes.")
    if size > MAX_HEAD:
        raise Malformed("head_too_large", f"The request head is over {MAX_HEAD} bytes.")
    if any(len(line) > MAX_FIELD for line in lines.split(b"\r\n")):
        raise Malformed("head_too_large", f"A header field is over {MAX_FIELD} bytes.")


def _read_block(lines: bytes, is_http11: bool) -> FieldBlock:
    fields = f.split_fields(lines)
    if len(fields) > MAX_FIELDS:
        raise Malformed("head_too_large", f"The request has more than {MAX_FIELDS} header fields.")
    block = FieldBlock()
    framing: dict[int, bytes] = {}
    for field in fields:
        kind = f.kind_of(field[0])
        if kind == f.PLAIN:
            block.fields.append(field)
        elif kind != f.DROPPED:
            _read_special(block, framing, kind, field)
    _read_framing(block, framing, is_http11=is_http11)
    if block.fields:
        block.passed_on = f.join_fields(block.fields) + b"\r\n"
    return block


_REMEMBERED_SIZE: Final = 1024
_remembered_block = lru_cache(maxsize=2048)(_read_block)
_ONCE: Final = {
    f.HOST: "Host",
    f.CONTENT_LENGTH: "Content-Length",
    f.CONTENT_TYPE: "Content-Type",
}


def _read_special(block: FieldBlock, framing: dict[int, bytes], kind: int, field: f.Field) -> None:
    value = field[1]
    if kind == f.API_KEY:
        block.api_keys.append(value)
    elif kind == f.AUTHORIZATION:
        block.authorizations.append(value)
    elif kind == f.WITHHELD:
        block.withheld.append(field)
    elif kind == f.FORBIDDEN:
        raise bad_request("A framing field is spelled with an underscore.")
    elif kind not in framing:
        framing[kind] = value
    elif kind in _ONCE:
        raise bad_request(f"There is more than one {_ONCE[kind]} field.")
    else:
        framing[kind] += b", " + value
    if kind == f.CONTENT_TYPE:
        block.fields.append(field)


def _read_framing(block: FieldBlock, framing: dict[int, bytes], *, is_http11: bool) -> None:
    host = framing.get(f.HOST)
    if host is not None:
        block.host, block.port = _authority(host)
    block.body_length = _body_length(
        framing.get(f.CONTENT_LENGTH), framing.get(f.TRANSFER_ENCODING), is_http11=is_http11
    )
    expect = framing.get(f.EXPECT)
    if expect is not None:
        if expect.lower() != b"100-continue":
            raise Malformed("expectation_failed", "Only 100-continue can be expected.")
        block.expects_continue = is_http11
    block.via = framing.get(f.VIA, b"")
    connection = framing.get(f.CONNECTION)
    if connection is None:
        block.keep_alive = is_http11
    else:
        _read_connection(block, connection, framing.get(f.UPGRADE, b""), is_http11=is_http11)


def _body_length(length: bytes | None, encoding: bytes | None, *, is_http11: bool) -> int:
    if encoding is not None:
        if length is not None:
            raise bad_request("There are both Content-Length and Transfer-Encoding.")
        if not is_http11 or encoding.lower() != b"chunked":
            raise bad_request("Transfer-Encoding must be chunked alone, in HTTP/1.1.")
        return CHUNKED
    if length is None:
        return 0
    if _DIGITS.fullmatch(length) is None:
        raise bad_request("Content-Length is not a number.")
    return int(length)


def _read_connection(block: FieldBlock, value: bytes, upgrade: bytes, *, is_http11: bool) -> None:
    """Whether the connection stays open; and drop the fields that ``Connection`` names."""
    options = f.connection_options(value)
    if options is None:
        raise bad_request("The Connection field is not a list of names.")
    if not options <= f.PERSISTENCE_OPTIONS:
        if options & f.NEVER_OPTIONS:
            raise bad_request("The Connection field names a field that is not for one connection alone.")
        block.fields = f.without(block.fields, options)
        block.struck = options
    if b"upgrade" in options:
        block.upgrade = upgrade
    block.keep_alive = b"close" not in options and (is_http11 or b"keep-alive" in options)


def _read_target(head: RequestHead, target: bytes, block: FieldBlock) -> None:
    if head.method not in METHODS:
        raise Malformed(
            "method_not_implemented", f"The gateway serves {', '.join(sorted(m.decode() for m in METHODS))}."
        )
    if block.host is None and head.is_http11:
        raise bad_request("The Host field is missing.")
    head.host = block.host or ""
    if target[0] != 0x2F:
        target = _from_other_forms(head, target, block)
    path, mark, query = target.partition(b"?")
    if b"#" in query:
        raise Malformed("bad_path", "The target holds a fragment.")
    if len(query) >= MAX_QUERY_FIELDS and query.count(b"&") >= MAX_QUERY_FIELDS:
        raise Malformed("uri_too_long", f"The query has more than {MAX_QUERY_FIELDS} fields.")
    head.path = canonical_path(path)
    head.query = mark + query


def _from_other_forms(head: RequestHead, target: bytes, block: FieldBlock) -> bytes:
    """The origin form of an absolute target, whose authority must say what ``Host`` says (H6)."""
    if target == b"*" and head.method == b"OPTIONS":
        return b"/*"
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise bad_request("The request target is neither a path nor an http URL.")
    usual_port = 443 if match[1] else 80
    head.host, port = _authority(match[2])
    if block.host is not None and (head.host, port or usual_port) != (block.host, block.port or usual_port):
        raise bad_request("The request target and the Host field disagree.")
    rest: bytes = match[3] or b"/"
    return b"/" + rest if rest.startswith(b"?") else rest


@lru_cache(maxsize=1024)
def _authority(raw: bytes) -> tuple[str, int]:
    """Host in its one canonical spelling, and port, 0 where none is given."""
    match = _AUTHORITY.fullmatch(raw)
    if match is None or (match[2] is not None and int(match[2]) > 65535):
        raise bad_request("The host is not valid.")
    host, port = match[1].decode("ascii").lower().removesuffix("."), int(match[2] or 0)
    if host.startswith("["):
        try:
            return f"[{IPv6Address(host[1:-1]).compressed}]", port
        except ValueError:
            raise bad_request("The host is not valid.") from None
    if not all(host.split(".")):
        raise bad_request("The host is not valid.")
    return host, port


def _check_incomplete(buffer: bytes) -> None:
    """``buffer`` holds no valid head: raise ``Malformed`` unless it may still become one."""
    end = buffer.find(b"\r\n\r\n")
    line_end = buffer.find(b"\r\n")
    line = buffer[:line_end] if line_end >= 0 else buffer
    if len(line) > MAX_REQUEST_LINE:
        raise Malformed("uri_too_long", f"The request line is over {MAX_REQUEST_LINE} bytes.")
    if (len(buffer) if end < 0 else end + 4) > MAX_HEAD:
        raise Malformed("head_too_large", f"The request head is over {MAX_HEAD} bytes.")
    if end < 0 and buffer.count(b"\r\n") > MAX_FIELDS + 2:
        raise Malformed("head_too_large", f"The request has more than {MAX_FIELDS} header fields.")
    if f.BROKEN_LINE.search(buffer, 0, end + 4 if end >= 0 else len(buffer)) is not None:
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
    head.method = head.path = head.query = b""
    head.host = ""
    head.is_http11 = True
    head.block = FieldBlock()
    head.size = 0
    return head
