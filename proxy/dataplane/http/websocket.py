"""WebSocket (RFC 6455) as a gateway sees it: the handshake checked, frames watched and counted, payloads untouched."""

from __future__ import annotations

import re
import struct
from base64 import b64encode
from hashlib import sha1
from typing import Final

GOING_AWAY: Final = 1001
PROTOCOL_ERROR: Final = 1002
POLICY_VIOLATION: Final = 1008
TOO_BIG: Final = 1009

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")  # 16 bytes
_ACCEPT: Final = re.compile(rb"^sec-websocket-accept: (\S+)\r$", re.IGNORECASE | re.MULTILINE)
_EXTENSIONS: Final = re.compile(rb"^sec-websocket-extensions:", re.IGNORECASE | re.MULTILINE)
_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG = 0, 1, 2, 8, 9, 10
_KNOWN: Final = frozenset({_CONTINUATION, _TEXT, _BINARY, _CLOSE, _PING, _PONG})
_MORE_LENGTH: Final = {126: 2, 127: 8}
_MAX_CONTROL: Final = 125


class Violation(Exception):
    """Frames that break the protocol or a limit. ``code`` is the close code that says so (RFC 6455 section 7.4.1).

    ``reason`` is what was sent: it goes on where a sentence says who did.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def is_key(value: bytes) -> bool:
    """Whether ``value`` is a ``Sec-WebSocket-Key`` (RFC 6455 section 4.1)."""
    return _KEY.fullmatch(value) is not None


def accept_for(key: bytes) -> bytes:
    """The ``Sec-WebSocket-Accept`` that answers ``key`` (RFC 6455 section 4.2.2)."""
    return b64encode(sha1(key + _GUID, usedforsecurity=False).digest())


def accepts(lines: bytes, key: bytes) -> bool:
    """Whether the fields of a 101 answer ``key``, and no extension that was not offered is used."""
    return _ACCEPT.findall(lines) == [accept_for(key)] and _EXTENSIONS.search(lines) is None


def close_frame(code: int, reason: str = "", *, masked: bool) -> bytes:
    """A close frame. A client's must be masked; with a key of zeroes, as nothing is to be hidden from a server."""
    payload = struct.pack("!H", code) + reason.encode()[: _MAX_CONTROL - 2]
    return bytes((0x80 | _CLOSE, (0x80 if masked else 0) | len(payload))) + (bytes(4) if masked else b"") + payload


class FrameReader:
    """Follows one direction of frames. ``messages`` counts data messages that are whole.

    ``feed`` raises ``Violation`` before a byte of what it was given may be passed on. Of what was passed on before,
    ``at_boundary`` says whether a frame of ours may follow, and ``is_closed`` whether a close frame was among it.
    """

    __slots__ = (
        "_has_closed", "_head", "_in_message", "_is_last", "_is_masked", "_left", "_limit", "_size", "at_boundary",
        "is_closed", "messages",
    )  # fmt: skip

    def __init__(self, *, masked: bool, max_message_bytes: int) -> None:
        self.messages = 0
        self.at_boundary = True
        self.is_closed = False
        self._has_closed = False
        self._is_masked = masked
        self._limit = max_message_bytes
        self._head = b""
        self._left = 0
        self._size = 0
        self._in_message = False
        self._is_last = False

    def feed(self, data: bytes) -> None:
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                at += step
                self._left -= step
                if not self._left:
                    self._frame_ended()
                continue
            missing = self._head_bytes() - len(self._head)
            self._head += data[at : at + missing]
            at += missing
            if len(self._head) == self._head_bytes():
                head, self._head = self._head, b""
                self._frame_began(head)
        self.at_boundary = not self._left and not self._head
        self.is_closed = self._has_closed

    def _head_bytes(self) -> int:
        if len(self._head) < 2:
            return 2
        return 2 + _MORE_LENGTH.get(self._head[1] & 0x7F, 0) + (4 if self._head[1] & 0x80 else 0)

    def _frame_began(self, head: bytes) -> None:
        if self._has_closed:
            raise Violation(PROTOCOL_ERROR, "a frame after a close frame")
        opcode, is_final = head[0] & 0x0F, bool(head[0] & 0x80)
        if head[0] & 0x70:
            raise Violation(PROTOCOL_ERROR, "a reserved bit, though no extension was agreed on")
        if opcode not in _KNOWN:
            raise Violation(PROTOCOL_ERROR, "an unknown kind of frame")
        if bool(head[1] & 0x80) != self._is_masked:
            raise Violation(PROTOCOL_ERROR, f"a frame that is {'not ' if self._is_masked else ''}masked")
        self._left = _length(head)
        if opcode >= _CLOSE:
            self._control_began(opcode, is_final=is_final)
        else:
            self._data_began(opcode, is_final=is_final)
        if not self._left:
            self._frame_ended()

    def _control_began(self, opcode: int, *, is_final: bool) -> None:
        if not is_final or self._left > _MAX_CONTROL:
            raise Violation(PROTOCOL_ERROR, "a control frame that is fragmented or longer than 125 bytes")
        if opcode == _CLOSE:
            if self._left == 1:
                raise Violation(PROTOCOL_ERROR, "a close frame with half a code")
            self._has_closed = True
        self._is_last = False

    def _data_began(self, opcode: int, *, is_final: bool) -> None:
        if (opcode == _CONTINUATION) != self._in_message:
            raise Violation(PROTOCOL_ERROR, "a fragment without its message, or a message within another")
        self._size = self._size + self._left if self._in_message else self._left
        if self._size > self._limit:
            raise Violation(TOO_BIG, f"a message of more than {self._limit} bytes")
        self._in_message = not is_final
        self._is_last = is_final

    def _frame_ended(self) -> None:
        if self._is_last:
            self.messages += 1
            self._is_last = False


def _length(head: bytes) -> int:
    short = head[1] & 0x7F
    if short < 126:
        return short
    length = int.from_bytes(head[2 : 2 + _MORE_LENGTH[short]], "big")
    if length < (126 if short == 126 else 65_536) or length >= 1 << 63:
        raise Violation(PROTOCOL_ERROR, "a length that is not in its shortest form")
    return length
