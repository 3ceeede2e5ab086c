"""Callers that keep their connections and remember every answer, and an upstream that remembers every call."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from concurrent.futures import Future
from itertools import count
from typing import Any

from tests.faults.checker import Call

_ID = re.compile(rb"\r\nx-request-id: ([0-9a-f]{32})\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


class Upstream:
    """``reached`` is the ledger. ``manner`` says how it behaves: ``answer``, or one of the ways to misbehave."""

    def __init__(self, loop: Loop) -> None:
        self.reached: list[str] = []
        self.manner = "answer"
        self._connections: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server = loop.start(asyncio.start_server(self._serve, "127.0.0.1", 0)).result(10)
        self._loop = loop
        self.port: int = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _ID.search(head)
                assert found, head
                self.reached.append(found[1].decode())
                if not await self._answer(writer, head.split(b" ")[1]):
                    return
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        """Answer in the present manner. False ends the connection."""
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        match self.manner:
            case "answer":
                writer.write(whole)
            case "slow":
                await asyncio.sleep(0.02)
                writer.write(whole)
            case "hang":
                await asyncio.sleep(3)
                return False
            case "reset":
                writer.transport.abort()
                return False
            case "close":
                return False
            case "half":
                writer.write(whole[:-1])
                await writer.drain()
                return False
            case "flood":
                writer.write(b"HTTP/1.1 200 OK\r\n" + b"X-Flood: %b\r\n" % (b"x" * 4000) * 40)
                await writer.drain()
                return False
            case "lie":
                writer.write(whole + b"more than was said")
            case "nonsense":
                writer.write(b"HTTP/9.9 banana\r\n\r\n")
            case manner:
                raise ValueError(manner)
        await writer.drain()
        return True

    def drop(self) -> None:
        """Close every connection, and go on."""

        async def drop() -> None:
            for writer in list(self._connections):
                writer.transport.abort()

        self._loop.start(drop()).result(10)

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for writer in list(self._connections):
                writer.transport.abort()

        self._loop.start(end()).result(10)


class Load:
    """``connections`` callers, each making one call after the other, about ``rate`` a second in all."""

    def __init__(self, loop: Loop, port: int, key: str, *, connections: int = 16, rate: float = 300) -> None:
        self.calls: list[Call] = []
        self.key = key
        self._loop = loop
        self._port = port
        self._numbers = count(1)
        self._pause = connections / rate
        self._over = False
        self._callers = [loop.start(self._keep_calling()) for _ in range(connections)]

    def stop(self) -> list[Call]:
        self._over = True
        for caller in self._callers:
            caller.result(60)
        return self.calls

    async def _keep_calling(self) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self._over:
            number, began = next(self._numbers), time.monotonic()
            try:
                async with asyncio.timeout(30):
                    if streams is None:
                        streams = await asyncio.open_connection("127.0.0.1", self._port)
                    status, request_id, keep = await call(*streams, self.key, number)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                status, request_id, keep = 0, "", False
            self.calls.append(Call(number, began, time.monotonic(), status, request_id))
            if not keep and streams is not None:
                streams[1].close()
                streams = None
            await asyncio.sleep(self._pause if status else max(self._pause, 0.05))
        if streams is not None:
            streams[1].close()


class Crowd:
    """``count`` connections at once that say nothing, until each makes one call and leaves."""

    def __init__(self, loop: Loop, port: int, key: str, count: int, calls: list[Call]) -> None:
        self._loop = loop
        self._key = key
        self._calls = calls  # where to write down what each was answered
        self._streams = [loop.start(asyncio.open_connection("127.0.0.1", port)) for _ in range(count)]

    def leave(self) -> None:
        for stream in self._streams:
            self._loop.loop.call_soon_threadsafe(stream.result(30)[1].transport.abort)

    def call_and_leave(self) -> dict[int, int]:
        """How often they were answered what."""
        calls = [self._loop.start(self._call(stream.result(30), -n)) for n, stream in enumerate(self._streams, 1)]
        answers = [call.result(90) for call in calls]
        self._calls += answers
        return dict(Counter(call.status for call in answers))

    async def _call(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], number: int) -> Call:
        began = time.monotonic()
        try:
            async with asyncio.timeout(60):
                status, request_id, _ = await call(*streams, self._key, number)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            status, request_id = 0, ""
        streams[1].close()
        return Call(number, began, time.monotonic(), status, request_id)


async def call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, number: int
) -> tuple[int, str, bool]:
    """Status, request id, and whether the connection is kept."""
    request = f"GET /echo/things/{number} HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\n\r\n"
    writer.write(request.encode())
    head = await reader.readuntil(b"\r\n\r\n")
    found, length = _ID.search(head), _LENGTH.search(head)
    assert length, head
    await reader.readexactly(int(length[1]))
    keep = b"\r\nconnection: close\r\n" not in head.lower()
    return int(head.split(b" ")[1]), found[1].decode() if found else "", keep
