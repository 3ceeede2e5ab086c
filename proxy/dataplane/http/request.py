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
from proxy.dataplane.http.path import PLAIN_PATH, canonical_path

MAX_REQUEST_LINE: Final = 8 * 1024
MAX_FIELD: Final = 8 * 1024
MAX_HEAD: Final = 32 * 1024
MAX_FIELDS: Final = 100
MAX_QUERY_FIELDS: Final = 1000
CHUNKED: Final = -1
METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"QUERY"})

# The target in three parts: a path that is canonical as it stands, a query, and what there usually is not.
_TARGET: Final = rb"(?=[\x21-\x7e])(" + PLAIN_PATH + rb")((?:\?[\x21\x22\x24-\x7e]*+)?+)([\x21-\x7e]*+)"
_HEAD: Final = re.compile(
    rb"(" + f.TOKEN + rb"++) " + _TARGET + rb" HTTP/1\.([01])(\r\n" + f.FIELD_LINE + rb"{0,%d}+)\r\n" % MAX_FIELDS
)
_ANY_REQUEST_LINE: Final = re.compile(f.TOKEN + rb"++ [\x21-\x7e]++ HTTP/([0-9]\.[0-9])")
_AUTHORITY: Final = re.compile(rb"([A-Za-z0-9\-._]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?")
_ABSOLUTE: Final = re.compile(rb"[Hh][Tt][Tt][Pp]([Ss]?)://([^/?#@]++)([/?].*)?")
_DIGITS: Final = re.compile(rb"[0-9]{1,18}")

# What differs from call to call is taken out of the fields first, so that the block that is left is the same for all
# who use the same library, whatever their keys. The lines match ``FIELD_LINE``: what follows LF is the name of a field.
_OWN_FIELD: Final = re.compile(
    rb"(?i)\n(X-(?:Api-Key|Forwarded-For|Request-Id)|Authorization|Co(?:ntent-Length|okie)|Trace(?:parent|state)"
    rb"|I(?:dempotency-Key|f-(?:None-Match|Modified-Since))):[ \t]*+([^\r]*+)\r"
)


class FieldBlock:
    """The header fields of a request but those of ``_OWN_FIELD``, sorted.

    ``fields`` are those that may be passed on, ``passed_on`` the same as lines; the rest has been turned into
    attributes. ``withheld`` are those that only an API which chooses its version by them passes on, ``struck`` what
    ``Connection`` keeps to this hop, ``forwarded`` what a proxy says of its caller.
    Callers repeat their fields from call to call, so blocks are remembered and shared: nothing may change one.
    """

    __slots__ = (
        "authority", "expects_continue", "fields", "forwarded", "host", "is_chunked", "keep_alive", "passed_on", "port",
        "struck", "upgrade", "via", "withheld",
    )  # fmt: skip

    def __init__(self) -> None:
        self.fields: list[f.Field] = []
        self.passed_on = b""
        self.host: str | None = None
        self.port = 0  # 0: the scheme's
        self.authority = ""  # both
        self.is_chunked = False
        self.keep_alive = False
        self.expects_continue = False
        self.via = b""
        self.upgrade = b""
        self.withheld: list[f.Field] = []
        self.forwarded: tuple[f.Field, ...] = ()
        self.struck = b""


class RequestHead:
    """A request, parsed. ``path`` is canonical, ``query`` starts with ``?`` or is empty.

    ``size`` is how many bytes of the buffer the head took. ``body_length`` is bytes, or ``CHUNKED``. ``own_fields`` are
    those of ``_OWN_FIELD`` that may be passed on, ``own_lines`` the same as lines.
    """

    __slots__ = (
        "api_keys", "authority", "authorizations", "block", "body_length", "forwarded", "host", "is_http11", "method",
        "own_fields", "own_lines", "path", "query", "size",
    )  # fmt: skip

    api_keys: tuple[bytes, ...]
    authority: str  # the host with its port, as the caller named them; empty where none is named
    authorizations: tuple[bytes, ...]
    block: FieldBlock
    body_length: int
    forwarded: tuple[f.Field, ...]
    host: str
    is_http11: bool
    method: bytes
    own_fields: tuple[f.Field, ...]
    own_lines: bytes
    path: bytes
    query: bytes
    size: int

    @property
    def fields(self) -> list[f.Field]:
        """All that may be passed on. In order wherever order means anything: among fields of one name."""
        return [*self.own_fields, *self.block.fields]


def parse_request(buffer: bytes) -> RequestHead | None:
    """The head at the start of ``buffer``, or ``None`` while it is incomplete. Raises ``Malformed``."""
    match = _HEAD.match(buffer)
    if match is None:
        _check_incomplete(buffer)
        return None
    method, path, query, odd, minor, lines = match.groups()
    head = RequestHead()
    head.size = size = match.end()
    if size > MAX_FIELD:
        _check_sizes(match.end(4), lines, size)
    own = _OWN_FIELD.split(lines)
    if len(own) > 1:
        lines = b"".join(own[::3])
    read = _remembered_block if len(lines) <= _REMEMBERED_SIZE else _read_block
    head.method = method
    head.is_http11 = is_http11 = minor == b"1"
    # The fields before the target, so that framing errors are found on every road.
    head.block = block = read(lines, is_http11)
    head.api_keys = head.authorizations = head.own_fields = head.forwarded = ()
    head.own_lines = b""
    head.body_length = CHUNKED if block.is_chunked else 0
    if len(own) > 1:
        _read_own(head, own)
    _read_target(head, path, query, odd)
    return head


def _check_sizes(target_end: int, lines: bytes, size: int) -> None:
    if target_end + len(" HTTP/1.1\r\n") > MAX_REQUEST_LINE:
        raise Malformed("uri_too_long", f"The request line is over {MAX_REQUEST_LINE} bytes.")
    if size > MAX_HEAD:
        raise Malformed("head_too_large", f"The request head is over {MAX_HEAD} bytes.")
    if any(len(line) > MAX_FIELD for line in lines.split(b"\r\n")):
        raise Malformed("head_too_large", f"A header field is over {MAX_FIELD} bytes.")


def _read_block(lines: bytes, is_http11: bool) -> FieldBlock:
    block = FieldBlock()
    framing: dict[int, bytes] = {}
    for field in f.split_fields(lines[2:]):
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
_ONCE: Final = {f.HOST: "Host", f.CONTENT_TYPE: "Content-Type"}


def _read_special(block: FieldBlock, framing: dict[int, bytes], kind: int, field: f.Field) -> None:
    value = field[1]
    if kind == f.FORWARDED:
        block.forwarded += (field,)
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
        block.host, block.port = authority(host)
        block.authority = spelled(block.host, block.port)
    encoding = framing.get(f.TRANSFER_ENCODING)
    if encoding is not None:
        if not is_http11 or encoding.lower() != b"chunked":
            raise bad_request("Transfer-Encoding must be chunked alone, in HTTP/1.1.")
        block.is_chunked = True
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


def _read_connection(block: FieldBlock, value: bytes, upgrade: bytes, *, is_http11: bool) -> None:
    """Whether the connection stays open; and drop the fields that ``Connection`` names."""
    options = f.connection_options(value)
    if options is None:
        raise bad_request("The Connection field is not a list of names.")
    if not options <= f.PERSISTENCE_OPTIONS:
        if options & f.NEVER_OPTIONS:
            raise bad_request("The Connection field names a field that is not for one connection alone.")
        block.fields = f.without(block.fields, options)
        block.struck = f.struck(options)
    if b"upgrade" in options:
        block.upgrade = upgrade
    block.keep_alive = b"close" not in options and (is_http11 or b"keep-alive" in options)


def _read_own(head: RequestHead, own: list[bytes]) -> None:
    """The fields that were taken out of the block: ``own`` is text, name, value, text, name, value and so on."""
    block = head.block
    lengths: tuple[bytes, ...] = ()
    for at in range(1, len(own), 3):
        name, value = own[at], own[at + 1].rstrip(b" \t")
        kind = f.kind_of(name)
        if kind == f.API_KEY:
            head.api_keys += (value,)
        elif kind == f.AUTHORIZATION:
            head.authorizations += (value,)
        elif kind == f.CONTENT_LENGTH:
            lengths += (value,)
        elif kind == f.FORWARDED:
            head.forwarded += ((name, value),)
        elif kind == f.PLAIN and not (block.struck and f.strikes(block.struck, name.lower())):
            head.own_fields += ((name, value),)
            head.own_lines = b"".join((head.own_lines, name, b": ", value, b"\r\n"))
    if lengths:
        head.body_length = _content_length(block, lengths)


def _content_length(block: FieldBlock, lengths: tuple[bytes, ...]) -> int:
    if len(lengths) > 1:
        raise bad_request("There is more than one Content-Length field.")
    if block.is_chunked:
        raise bad_request("There are both Content-Length and Transfer-Encoding.")
    if _DIGITS.fullmatch(lengths[0]) is None:
        raise bad_request("Content-Length is not a number.")
    return int(lengths[0])


def _read_target(head: RequestHead, path: bytes, query: bytes, odd: bytes) -> None:
    if head.method not in METHODS:
        raise Malformed(
            "method_not_implemented", f"The gateway serves {', '.join(sorted(m.decode() for m in METHODS))}."
        )
    block = head.block
    if block.host is None and head.is_http11:
        raise bad_request("The Host field is missing.")
    head.host, head.authority = block.host or "", block.authority
    if path and not odd and len(query) <= MAX_QUERY_FIELDS:
        head.path, head.query = path, query
        return
    target = path + query + odd
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
    head.host, port = authority(match[2])
    if block.host is None:
        head.authority = spelled(head.host, port)
    elif (head.host, port or usual_port) != (block.host, block.port or usual_port):
        raise bad_request("The request target and the Host field disagree.")
    rest: bytes = match[3] or b"/"
    return b"/" + rest if rest.startswith(b"?") else rest


@lru_cache(maxsize=1024)
def authority(raw: bytes) -> tuple[str, int]:
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


def spelled(host: str, port: int) -> str:
    """What ``authority`` read, as one word again."""
    return f"{host}:{port}" if port else host


def _check_incomplete(buffer: bytes) -> None:
    """``buffer`` holds no valid head: raise ``Malformed`` unless it may still become one."""
    end = buffer.find(b"\r\n\r\n")
    line_end = buffer.find(b"\r\n")
    line = buffer[:line_end] if line_end >= 0 else buffer
    if len(line) > MAX_REQUEST_LINE:
        raise Malformed("uri_too_long", f"The request line is over {MAX_REQUEST_LINE} bytes.")
    if (len(buffer) if end < 0 else end + 4) > MAX_HEAD:
        raise Malformed("head_too_large", f"The request head is over {MAX_HEAD} bytes.")
    if (buffer.count(b"\r\n") - 2 if end < 0 else buffer.count(b"\r\n", 0, end)) > MAX_FIELDS:
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
    head.method = head.path = head.query = head.own_lines = b""
    head.api_keys = head.authorizations = head.own_fields = head.forwarded = ()
    head.host = head.authority = ""
    head.is_http11 = True
    head.block = FieldBlock()
    head.size = head.body_length = 0
    return head
