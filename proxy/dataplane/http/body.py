"""The body of a message, however it is framed: feed bytes, get payload (RFC 9112 sections 6 and 7).

Every reader has ``done`` and ``feed(data) -> (payload, rest)`` where ``rest`` is what came after the body's end.
"""

from __future__ import annotations

import re
from typing import Final, Protocol

from proxy.dataplane.http.fields import FIELD_LINES, split_fields
from proxy.dataplane.http.malformed import bad_request

MAX_CHUNK: Final = 2**31
MAX_SIZE_LINE: Final = 1024
MAX_EXTENSIONS: Final = 16 * 1024  # over the whole body: extensions are otherwise free traffic
MAX_TRAILERS: Final = 8 * 1024
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})(;[\t\x20-\x7e\x80-\xff]*+)?\r\n")
_TRAILERS: Final = re.compile(FIELD_LINES)
_FORBIDDEN_TRAILERS: Final = frozenset({b"content-length", b"transfer-encoding", b"host", b"trailer"})


class BodyReader(Protocol):
    done: bool

    def feed(self, data: bytes) -> tuple[bytes, bytes]: ...


class LengthReader:
    """A body of a known number of bytes."""

    __slots__ = ("done", "left")

    def __init__(self, length: int) -> None:
        self.left = length
        self.done = length == 0

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        left = self.left - len(data)
        if left > 0:
            self.left = left
            return data, b""
        payload, rest = (data, b"") if left == 0 else (data[: self.left], data[self.left :])
        self.left = 0
        self.done = True
        return payload, rest


class UntilCloseReader:
    """A response body that ends where the connection does."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        return data, b""


_SIZE: Final = 0
_DATA: Final = 1
_DATA_END: Final = 2
_TRAILER: Final = 3


class ChunkedReader:
    """The chunked coding, strict. Extensions are dropped, trailers are checked and dropped (H3)."""

    __slots__ = ("_buffer", "_extensions", "_left", "_state", "done")

    def __init__(self) -> None:
        self.done = False
        self._state = _SIZE
        self._left = 0
        self._extensions = 0
        self._buffer = b""

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        data = self._buffer + data if self._buffer else data
        payload: list[bytes] = []
        at = 0
        while True:
            start = at
            if self._state == _SIZE:
                at = self._read_size(data, at)
            elif self._state == _DATA:
                piece = data[at : at + self._left]
                payload.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    self._state = _DATA_END
            elif self._state == _DATA_END:
                at = self._read_data_end(data, at)
            else:
                at = self._read_trailers(data, at)
            if self.done:
                return b"".join(payload), data[at:]
            if at == start:
                self._buffer = data[at:]
                return b"".join(payload), b""

    def _read_size(self, data: bytes, at: int) -> int:
        match = _SIZE_LINE.match(data, at)
        if match is None:
            line = data[at : at + MAX_SIZE_LINE + 2]
            if len(line) > MAX_SIZE_LINE or b"\n" in line or not _may_be_size(line):
                raise bad_request("A chunk size is not valid.")
            return at
        self._left = int(match[1], 16)
        self._extensions += len(match[2] or b"")
        if self._left > MAX_CHUNK or self._extensions > MAX_EXTENSIONS or match.end() - at > MAX_SIZE_LINE:
            raise bad_request("A chunk size or its extensions are too large.")
        self._state = _DATA if self._left else _TRAILER
        return match.end()

    def _read_data_end(self, data: bytes, at: int) -> int:
        end = data[at : at + 2]
        if not b"\r\n".startswith(end):
            raise bad_request("A chunk is longer than its size.")
        if len(end) < 2:
            return at
        self._state = _SIZE
        return at + 2

    def _read_trailers(self, data: bytes, at: int) -> int:
        match = _TRAILERS.match(data, at)
        assert match is not None, "the expression matches nothing too"
        end = match.end()
        if end - at > MAX_TRAILERS:
            raise bad_request("The trailers are too large.")
        if data.startswith(b"\r\n", end):
            self._check_trailers(match[0])
            self.done = True
            return end + 2
        tail = data[end:]
        if b"\n" in tail or len(tail) > MAX_TRAILERS or (len(tail) > 1 and tail[0] == 0x0D):
            raise bad_request("A trailer is not valid.")
        return at

    def _check_trailers(self, lines: bytes) -> None:
        if any(name.lower() in _FORBIDDEN_TRAILERS for name, _ in split_fields(lines)):
            raise bad_request("A trailer names a framing field.")


_PART_OF_SIZE: Final = re.compile(rb"[0-9A-Fa-f]{0,16}(?:;[\t\x20-\x7e\x80-\xff]*+)?\r?")


def _may_be_size(line: bytes) -> bool:
    return _PART_OF_SIZE.fullmatch(line) is not None


def chunk(payload: bytes) -> bytes:
    """``payload`` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(payload), payload)


LAST_CHUNK: Final = b"0\r\n\r\n"
