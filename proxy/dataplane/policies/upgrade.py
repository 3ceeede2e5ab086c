"""Whether a call may switch protocols, and to what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from proxy.dataplane.http import websocket
from proxy.dataplane.http.fields import TOKEN
from proxy.dataplane.http.request import RequestHead
from proxy.dataplane.policies.refusal import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.runtime import Version

WEBSOCKET: Final = b"websocket"
_VERSIONS: Final = b"Sec-WebSocket-Version: 13\r\n"  # RFC 6455 section 4.2.2: a refusal of the handshake says which
_PROTOCOL: Final = re.compile(TOKEN + rb"++(?:/" + TOKEN + rb"++)?")


def chosen_upgrade(version: Version, head: RequestHead) -> bytes:
    """The protocol that the call switches to if the upstream agrees; empty for none.

    Of several it is the first that the version lists, as RFC 9110 section 7.8 lets a server choose; the upstream is
    offered no other. Where the version lists none of them the call goes on without; but who asks for WebSocket can do
    nothing with a plain answer, so that is refused.
    """
    asked = head.block.upgrade.lower()
    chosen = next((protocol for protocol in _protocols(asked) if protocol in version.upgrades), b"")
    if not chosen:
        if WEBSOCKET in asked:
            raise Refusal("upgrade_not_allowed")
        return b""
    if head.method != b"GET" or head.body_length or not head.is_http11:
        raise Refusal("bad_request", "A call that switches protocols is a GET of HTTP/1.1 without a body.")
    if chosen == WEBSOCKET:
        _check_handshake(version, head)
    return chosen


def _protocols(value: bytes) -> list[bytes]:
    """The protocols of an ``Upgrade`` field, a version being part of the name; none if one of them is malformed."""
    listed = [entry for part in value.split(b",") if (entry := part.strip(b" \t"))]
    return listed if all(map(_PROTOCOL.fullmatch, listed)) else []


def field(head: RequestHead, name: bytes) -> list[bytes]:
    """The values of a passed-on field; ``name`` in lower case."""
    return [value for key, value in head.fields if key.lower() == name]


def _check_handshake(version: Version, head: RequestHead) -> None:
    keys = field(head, b"sec-websocket-key")
    if len(keys) != 1 or not websocket.is_key(keys[0]) or field(head, b"sec-websocket-version") != [b"13"]:
        raise Refusal("bad_request", "The WebSocket handshake needs one key of 16 bytes and version 13.", _VERSIONS)
    allowed = version.document.websocket_origins
    if allowed:
        origins = field(head, b"origin")
        # Only browsers send it, and only they can be made to call by a page the user did not mean to trust.
        if origins and (len(origins) > 1 or origins[0].decode("latin-1").lower() not in allowed):
            raise Refusal("upgrade_not_allowed", "The API accepts WebSocket connections from other origins only.")
