"""The admin port: health, readiness and metrics of one node. Small and strict; loopback unless told otherwise."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import Callable
from hmac import compare_digest
from typing import Final, NamedTuple

_MOST_HEAD_BYTES: Final = 8192
_PATIENCE_SECONDS: Final = 5.0
_MOST_CONNECTIONS: Final = 32
_REQUEST_LINE: Final = re.compile(rb"([A-Z]{1,16}) (/[!-~]{0,1024}) HTTP/1\.[01]\r\n")
_BEARER: Final = re.compile(rb"\r\nauthorization:[ \t]*bearer +([!-~]{1,512})[ \t]*\r\n", re.IGNORECASE)
_REASONS: Final = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed"}


class Answer(NamedTuple):
    status: int
    body: str
    fields: str = ""


class AdminPort:
    """``is_ready`` and ``metrics`` are asked at each request. Without a token nobody may read metrics."""

    def __init__(self, token: str, *, is_ready: Callable[[], bool], metrics: Callable[[], str]) -> None:
        self._token = token.encode()
        self._is_ready = is_ready
        self._metrics = metrics
        self._open = 0

    async def serve(self, listener: socket.socket) -> asyncio.Server:
        return await asyncio.start_server(self._connected, sock=listener, limit=_MOST_HEAD_BYTES)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open <= _MOST_CONNECTIONS:
                async with asyncio.timeout(_PATIENCE_SECONDS):
                    await self._exchange(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            head = b""
        writer.write(_serialise(self.answer(head)))
        await writer.drain()

    def answer(self, head: bytes) -> Answer:
        """What a request head deserves."""
        match = _REQUEST_LINE.match(head)
        if match is None:
            return Answer(400, "The request is not one this port understands.\n")
        if match[1] != b"GET":
            return Answer(405, "This port is for reading.\n", "Allow: GET\r\n")
        match match[2]:
            case b"/health":
                return Answer(200, "ok\n")
            case b"/ready":
                return Answer(200, "ready\n") if self._is_ready() else Answer(503, "no configuration yet\n")
            case b"/metrics":
                return self._metrics_for(head)
        return Answer(404, "Here are /health, /ready and /metrics.\n")

    def _metrics_for(self, head: bytes) -> Answer:
        given = _BEARER.findall(head)
        if not self._token or len(given) != 1 or not compare_digest(given[0], self._token):
            why = "Send Authorization: Bearer with the token in APIMGR_GATEWAY_ADMIN_TOKEN.\n"
            return Answer(401, why, "WWW-Authenticate: Bearer\r\n")
        return Answer(200, self._metrics())


def _serialise(answer: Answer) -> bytes:
    body = answer.body.encode()
    reason = _REASONS.get(answer.status, "Service Unavailable")
    head = (
        f"HTTP/1.1 {answer.status} {reason}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\n{answer.fields}Connection: close\r\n\r\n"
    )
    return head.encode() + body
