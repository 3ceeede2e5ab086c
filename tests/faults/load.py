"""Callers that keep their connections and remember every answer, and an upstream that remembers every call."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

from tests.faults.checker import Call
from tests.stack import kept_ports

_ID = re.compile(rb"\r\nx-request-id: ([0-9a-f]{32})\r\n", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)


# What the last part of a path asks for: a path is some twenty bytes.
_TIMES = {b"long": 50_000, b"huge": 500_000}


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
    """``reached`` is the ledger: when something of each call came last.

    ``manner`` says how it behaves: ``answer``, or one of the ways to misbehave.
    """

    def __init__(self, loop: Loop) -> None:
        self.reached: dict[str, float] = {}
        self.manner = "answer"
        self.takes = 0.02  # seconds, where it is slow
        self._connections: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None] | None] = set()
        self._loop = loop
        self._ports = ExitStack()
        [self.port] = self._ports.enter_context(kept_ports(1))
        self._server = self._listen()

    def _listen(self) -> asyncio.Server:
        server: asyncio.Server = self._loop.start(
            asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        ).result(10)
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        self._serving.add(serving := asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _ID.search(head)
                assert found, head
                request_id = found[1].decode()
                self.reached[request_id] = time.monotonic()
                length = _LENGTH.search(head)
                manner = "answer" if self.manner == "early" and not length else self.manner
                if length and manner != "early":
                    async for _ in _pieces(reader, int(length[1])):
                        self.reached[request_id] = time.monotonic()
                if not await self._answer(writer, head.split(b" ")[1], manner):
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._serving.discard(serving)
            self._connections.discard(writer)
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes, manner: str) -> bool:
        """Answer in that manner. False ends the connection."""
        body *= _TIMES.get(body.rpartition(b"/")[2], 1)
        whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
        match manner:
            case "answer":
                writer.write(whole)
            case "slow":
                await asyncio.sleep(self.takes)
                writer.write(whole)
            case "hang" | "hang in the head" | "hang in the body" | "half-close":
                writer.write({"hang": b"", "hang in the head": whole[:20]}.get(manner, whole[:-1]))
                if manner == "half-close":
                    writer.write_eof()
                await asyncio.sleep(3)
                return False
            case "early":  # the rest of the request is not even read
                writer.write(whole)
                await writer.drain()
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
            case _:
                raise ValueError(manner)
        await writer.drain()
        return True

    @property
    def connections(self) -> int:
        return len(self._connections)

    def drop(self) -> None:
        """Close every connection, and go on."""

        async def drop() -> None:
            for writer in list(self._connections):
                writer.transport.abort()

        self._loop.start(drop()).result(10)

    @contextmanager
    def gone(self) -> Iterator[None]:
        """Nobody listens at its port for a while."""
        self._loop.loop.call_soon_threadsafe(self._server.close)
        self.drop()
        yield
        self._server = self._listen()

    def close(self) -> None:
        async def end() -> None:
            self._server.close()
            for writer in list(self._connections):
                writer.transport.abort()
            for serving in filter(None, list(self._serving)):  # also who still pretends to hang
                serving.cancel()
            await asyncio.sleep(0)

        self._loop.start(end()).result(10)
        self._ports.close()


async def _pieces(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    """A body as it comes."""
    while length:
        piece = await reader.read(min(length, 1 << 16))
        if not piece:
            raise asyncio.IncompleteReadError(b"", length)
        yield piece
        length -= len(piece)


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
        self._broken = 0
        self._last = [Call(0, 0.0, 0.0, 0)] * connections  # by caller, of calls that have ended
        self._callers = [loop.start(self._keep_calling(caller)) for caller in range(connections)]

    @property
    def answered(self) -> int:
        """Calls that had a whole answer."""
        return len(self.calls) - self._broken

    def all_called_since(self, moment: float) -> bool:
        """Whether every caller has made a call since, and knows what became of it."""
        return all(call.began_at > moment for call in self._last)

    def all_answered_since(self, moment: float, status: int) -> bool:
        """Whether every caller has, and was answered ``status`` in the end."""
        return all(call.began_at > moment and call.status == status for call in self._last)

    def stop(self) -> list[Call]:
        self._over = True
        for caller in self._callers:
            caller.result(60)
        return self.calls

    async def _keep_calling(self, caller: int) -> None:
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
                self._broken += 1
            self._last[caller] = Call(number, began, time.monotonic(), status, request_id)
            self.calls.append(self._last[caller])
            if not keep and streams is not None:
                streams[1].close()
                streams = None
            await asyncio.sleep(self._pause if status else max(self._pause, 0.05))
        if streams is not None:
            streams[1].close()


class Crowd:
    """``count`` connections at once, from so many ``hosts``, that say nothing until they are told to."""

    def __init__(self, loop: Loop, port: int, key: str, count: int, calls: list[Call], *, hosts: int = 1) -> None:
        self._loop = loop
        self._key = key
        self._calls = calls  # where to write down what each was answered
        self._few = asyncio.Semaphore(100)
        opening = [loop.start(self._open(port, f"127.0.2.{n % hosts + 1}")) for n in range(count)]
        self._streams = [stream.result(60) for stream in opening]

    def __len__(self) -> int:
        return len(self._streams)

    async def _open(self, port: int, host: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self._few:
            return await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))

    def say(self, data: bytes) -> None:
        for _, writer in self._streams:
            self._loop.loop.call_soon_threadsafe(writer.write, data)

    def leave(self) -> None:
        for _, writer in self._streams:
            self._loop.loop.call_soon_threadsafe(writer.transport.abort)

    def call_and_leave(self) -> dict[int, int]:
        """All at once, and each leaves when it has its answer. How often they were answered what."""
        return self._ask(asyncio.Semaphore(len(self)), leaving=True)

    def call_and_stay(self) -> dict[int, int]:
        """A few at a time."""
        return self._ask(self._few, leaving=False)

    def _ask(self, at_once: asyncio.Semaphore, *, leaving: bool) -> dict[int, int]:
        calls = [self._loop.start(self._call(*streams, at_once, leaving=leaving)) for streams in self._streams]
        answers = [call.result(90) for call in calls]
        self._calls += answers
        return dict(Counter(call.status for call in answers))

    async def _call(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, at_once: asyncio.Semaphore, *, leaving: bool
    ) -> Call:
        async with at_once:
            began = time.monotonic()
            try:
                async with asyncio.timeout(60):
                    status, request_id, _ = await call(reader, writer, self._key, 0)
            except (OSError, TimeoutError, asyncio.IncompleteReadError):
                status, request_id = 0, ""
            if leaving:
                writer.close()
            return Call(0, began, time.monotonic(), status, request_id)


async def call(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, number: int
) -> tuple[int, str, bool]:
    """Status, request id, and whether the connection is kept."""
    writer.write(request_head(key, f"GET /echo/things/{number}"))
    return await _answer(reader)


def request_head(key: str, line: str, *fields: str) -> bytes:
    lines = [f"{line} HTTP/1.1", "Host: x", f"X-Api-Key: {key}", *fields]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, str, bool]:
    head = await reader.readuntil(b"\r\n\r\n")
    found, length = _ID.search(head), _LENGTH.search(head)
    assert length, head
    async for _ in _pieces(reader, int(length[1])):
        pass
    keep = b"\r\nconnection: close\r\n" not in head.lower()
    return int(head.split(b" ")[1]), found[1].decode() if found else "", keep


async def upload(port: int, key: str, size: int, pause: float = 0.01) -> Call:
    """Send a body in pieces of 16 KiB for as long as there is no answer."""
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request_head(key, "POST /echo/things/1", f"Content-Length: {size}"))
    answer = asyncio.ensure_future(_answer(reader))
    try:
        async with asyncio.timeout(30):
            while size and not answer.done():
                writer.write(b"x" * min(size, 1 << 14))
                size -= min(size, 1 << 14)
                await writer.drain()
                await asyncio.sleep(pause)
            status, request_id, _ = await answer
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        status, request_id = 0, ""
    answer.cancel()
    writer.close()
    return Call(0, began, time.monotonic(), status, request_id)
