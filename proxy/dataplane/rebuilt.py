"""What an upstream is sent: the request, rebuilt from its parts and never copied (H4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.dataplane.http.fields import join_fields, without
from proxy.dataplane.http.request import CHUNKED, RequestHead
from proxy.dataplane.policies.identify import passes_on

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange

_EXTENSIONS: Final = frozenset({b"sec-websocket-extensions"})
_WITH_BODY: Final = frozenset({b"POST", b"PUT", b"PATCH"})
_MEANS_BODY: Final = _WITH_BODY | {b"QUERY"}


def may_be_ignored(head: RequestHead) -> bool:
    """Whether the body means nothing by its method (RFC 9110 section 9.3).

    Servers that do not read it take it for the next request, so there must be none over the same connection.
    """
    return head.body_length != 0 and head.method not in _MEANS_BODY


def rebuilt_request(exchange: Exchange, first: bytes) -> bytes:
    """``first`` is what of the body is there, coded as its framing says."""
    head, version, worker = exchange.head, exchange.version, exchange.worker
    assert version is not None, "an upstream is that of a version"
    block, target = head.block, version.target
    fields = block.passed_on if not exchange.upgrade else _fields_to_switch(exchange)
    parts = [
        head.method, target.prefix, exchange.rest, head.query, target.line_end or target.line_end_for(head.authority),
        head.own_lines, fields, exchange.client.forwarded_lines(head), b"X-Request-Id: ", exchange.id_text,
        worker.via if not block.via else b"\r\nVia: " + block.via + b", " + worker.via[7:],
    ]  # fmt: skip
    if head.authorizations:
        parts += [
            b"Authorization: " + value + b"\r\n"
            for value in head.authorizations
            if passes_on(value, keyed=version.is_keyed)
        ]
    if exchange.fork is not None:
        parts.append(exchange.fork.passed_on(block))
    if not exchange.upgrade and may_be_ignored(head):
        parts.append(b"Connection: close\r\n")
    if head.body_length == CHUNKED:
        parts += [b"Transfer-Encoding: chunked\r\n\r\n", first]
    elif head.body_length or head.method in _WITH_BODY:
        parts += [b"Content-Length: %d\r\n\r\n" % head.body_length, first]
    else:
        parts.append(b"\r\n")
    return b"".join(parts)


def _fields_to_switch(exchange: Exchange) -> bytes:
    """The fields of a call that asks to switch, without extensions: nobody could read their frames."""
    fields = without(exchange.head.block.fields, _EXTENSIONS)
    lines = join_fields(fields) + b"\r\n" if fields else b""
    return b"%bConnection: Upgrade\r\nUpgrade: %b\r\n" % (lines, exchange.upgrade)
