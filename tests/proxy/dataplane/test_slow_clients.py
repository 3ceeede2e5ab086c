"""Callers that take their time: nobody holds a connection for longer than the rules allow (H13)."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from proxy.dataplane import listener, tunnel
from proxy.dataplane.listener import BODY_WINDOW_SECONDS, WRITE_STALL_SECONDS
from tests.proxy.dataplane.support import ClockByHand, Running, read_reply, request, response, until
from tests.proxy.dataplane.test_gateway import last_outcome, play
from tests.proxy.dataplane.test_tunnel import Streams, frame, tunnelled

pytestmark = pytest.mark.processes

SOON = 0.3  # what the patched deadlines are
BODY = b"x" * 40_000  # under the mark at which the transport asks us to stop, over what the sockets below take


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "BODY_WINDOW_SECONDS", SOON)
    monkeypatch.setattr(listener, "WRITE_STALL_SECONDS", SOON)
    monkeypatch.setattr(tunnel, "LAST_BYTES_SECONDS", SOON)


def key(gateway: Running) -> str:
    return f"X-Api-Key: {gateway.world.key}"


async def small_sockets(gateway: Running) -> socket.socket:
    """A connection of which the kernel takes only some kilobytes off either side's hands."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    client.settimeout(0)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", gateway.port))
    await until(lambda: len(gateway.worker.connections) == 1)
    (connection,) = gateway.worker.connections
    connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
    return client


# --- bodies that do not come ----------------------------------------------------------------------------------------


@pytest.mark.requirement("H13.2")
@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 100000"],
        ["Transfer-Encoding: chunked"],
        ["Content-Length: 100000", "Expect: 100-continue"],
    ],
)
def test_a_body_that_never_begins(tmp_path: Path, lines: list[str]) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        writer.write(request("POST", "/orders/items", key(gateway), *lines))
        reply = await read_reply(reader)
        if reply.status == 100:
            reply = await read_reply(reader)
        assert (reply.status, json.loads(reply.body)["code"]) == (408, "request_timeout")
        assert reply.headers["connection"] == "close"
        assert last_outcome(gateway) == "request_timeout"

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.2")
def test_a_body_that_trickles(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        writer.write(request("POST", "/orders/items", key(gateway), "Content-Length: 100000"))

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        trickling = asyncio.ensure_future(trickle())
        reply = await read_reply(reader)
        trickling.cancel()
        assert reply.status == 408
        assert last_outcome(gateway) == "request_timeout"
        assert gateway.upstream.received == [], "the upstream never had a whole request"

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.2")
def test_a_body_that_is_slow_but_steady(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        clock = ClockByHand(gateway)
        reader, writer = await gateway.connect()
        writer.write(request("POST", "/orders/items", key(gateway), "Content-Length: 72000"))
        for _ in range(12):  # four windows long
            writer.write(b"x" * 6000)
            await clock.go_on(SOON / 3)
        assert (await read_reply(reader)).status == 200

    play(tmp_path, scenario)


# --- answers that are not read --------------------------------------------------------------------------------------


@pytest.mark.requirement("H13.4")
@pytest.mark.parametrize("line", ["Connection: close", "Connection: keep-alive"])
def test_an_answer_nobody_reads(tmp_path: Path, line: str) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.idle_seconds = SOON
        gateway.upstream.reply = response(BODY)
        with await small_sockets(gateway) as client:
            await asyncio.get_running_loop().sock_sendall(client, request("GET", "/orders/items/1", key(gateway), line))
            await until(lambda: gateway.recorder.records)
            await until(lambda: not gateway.worker.connections)

    play(tmp_path, scenario)


@pytest.mark.requirement("H12.3", "H13.4")
def test_a_pipeline_whose_answers_nobody_reads_is_held_back(tmp_path: Path) -> None:
    """Refusals need no upstream to hold them up: what is sent after them must not pile up here (H12)."""
    pipeline = request("GET", "/nowhere") * 2000

    async def scenario(gateway: Running) -> None:
        with await small_sockets(gateway) as client:
            loop = asyncio.get_running_loop()
            sending = asyncio.ensure_future(loop.sock_sendall(client, pipeline * 200))
            (connection,) = gateway.worker.connections
            most = 0
            while gateway.worker.connections:  # the answers are not taken, so the connection does not last
                most = max(most, len(connection._buffer))
                await asyncio.sleep(0.005)
            assert most < 1024 * 1024
            with pytest.raises(ConnectionError):
                await sending

    play(tmp_path, scenario)


@pytest.mark.requirement("M1")
def test_a_pipeline_read_late_is_answered_whole(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        clock = ClockByHand(gateway)
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/nowhere") * 5000)
        await clock.go_on(SOON / 3)
        assert [(await read_reply(reader)).status for _ in range(5000)] == [404] * 5000

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.4")
def test_an_early_answer_nobody_reads(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(BODY))
            await reader.read(-1)

        gateway.upstream.handler = early
        with await small_sockets(gateway) as client:
            await asyncio.get_running_loop().sock_sendall(
                client, request("POST", "/orders/items", key(gateway), "Content-Length: 9000") + b"x" * 10
            )
            await until(lambda: gateway.recorder.records)
            await until(lambda: not gateway.worker.connections)

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.4")
def test_who_has_taken_an_answer_that_was_held_up_does_not_stay(tmp_path: Path) -> None:
    """The gateway has closed its side, and lets the caller send for a moment: also where the last bytes had to wait."""

    async def scenario(gateway: Running) -> None:
        _, writer = await gateway.connect()
        await until(lambda: gateway.worker.connections)
        (connection,) = gateway.worker.connections
        connection.pause_writing()
        connection._close(unread=True)
        connection.resume_writing()
        while gateway.worker.connections:
            writer.write(b"x")  # which is read, and dropped
            await asyncio.sleep(0.05)

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.4")
def test_the_end_of_a_body_does_not_excuse_from_reading(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(b"x" * 20_000_000))
            await reader.read(-1)

        gateway.upstream.handler = early
        with await small_sockets(gateway) as client:
            (connection,) = gateway.worker.connections
            loop = asyncio.get_running_loop()
            body = request("POST", "/orders/items", key(gateway), "Content-Length: 10") + b"x" * 9
            await loop.sock_sendall(client, body)
            await until(lambda: connection._writing_blocked)
            await loop.sock_sendall(client, b"x")
            await until(lambda: not gateway.worker.connections)

    play(tmp_path, scenario, read_timeout_ms=900_000)


@pytest.mark.requirement("H13.2")
@pytest.mark.parametrize("steady", [True, False])
def test_while_a_body_is_to_come_the_clock_is_the_callers(
    tmp_path: Path, steady: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upstream has answered in part. Whether it goes on is not asked of it before it was sent everything."""
    monkeypatch.setattr(listener, "BODY_BYTES_PER_WINDOW", 10)

    async def scenario(gateway: Running) -> None:
        over = asyncio.Event()

        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell")
            await reader.readexactly(1000)
            over.set()
            writer.write(b"o all")

        gateway.upstream.handler = early
        reader, writer = await gateway.connect()
        writer.write(request("POST", "/orders/items", key(gateway), "Content-Length: 1000"))
        await reader.readuntil(b"hell")
        for _ in range(50 if steady else 0):
            writer.write(b"x" * 20)
            await asyncio.sleep(0.02)
        rest = await reader.read(-1)
        assert (rest, last_outcome(gateway)) == ((b"o all", "ok") if steady else (b"", "request_timeout"))

    play(tmp_path, scenario, read_timeout_ms=100 if steady else 60_000)


@pytest.mark.requirement("H13.4")
@pytest.mark.parametrize("line", ["Connection: close", "Connection: keep-alive"])
def test_an_answer_read_slowly_but_steadily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    monkeypatch.setattr(listener, "LEAST_TAKEN_PER_WINDOW", 1000)

    async def scenario(gateway: Running) -> None:
        clock = ClockByHand(gateway)
        gateway.worker.idle_seconds = SOON
        gateway.upstream.reply = response(BODY)
        loop = asyncio.get_running_loop()
        with await small_sockets(gateway) as client:
            await loop.sock_sendall(client, request("GET", "/orders/items/1", key(gateway), line))
            got = b""
            while not got.endswith(BODY):
                piece = await loop.sock_recv(client, 2048)
                assert piece, f"broken off after {len(got)} bytes"
                got += piece
                await clock.go_on(SOON / 6)

    play(tmp_path, scenario)


def test_a_tunnel_whose_other_end_left_waits_for_no_reader(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        (opened,) = gateway.worker.tunnels
        theirs = opened._client.transport.get_extra_info("socket")
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2048)
        caller[0]._transport.pause_reading()  # type: ignore[attr-defined]
        caller[1].transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        while not opened._client.transport.get_write_buffer_size():
            upstream[1].write(frame(2, BODY, masked=False))
            await asyncio.sleep(0.01)
        upstream[1].transport.abort()
        await until(lambda: gateway.recorder.records)
        await until(lambda: not gateway.worker.connections)

    tunnelled(tmp_path, scenario)


@pytest.mark.requirement("H13.3")
@pytest.mark.parametrize("has_served", [False, True])
def test_an_idle_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_served: bool) -> None:
    monkeypatch.setattr(listener, "HEAD_SECONDS", SOON)

    async def scenario(gateway: Running) -> None:
        gateway.worker.idle_seconds = SOON
        reader, writer = await gateway.connect()
        if has_served:
            writer.write(request("GET", "/orders/items/1", key(gateway)))
            assert (await read_reply(reader)).status == 200
        assert await reader.read() == b"", "without a word: nothing was asked"
        assert len(gateway.recorder.records) == has_served

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.1", "H13.2", "H13.3", "H13.4")
def test_what_is_allowed_for() -> None:
    """The rules in figures; the tests above make them short."""
    assert (listener.HEAD_SECONDS, listener.IDLE_SECONDS, WRITE_STALL_SECONDS) == (10, 60, 30)
    assert (BODY_WINDOW_SECONDS, listener.BODY_BYTES_PER_WINDOW) == (10, 10 * 500)
    assert listener.LEAST_TAKEN_PER_WINDOW == 30 * 500


# --- how many -------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("H13.5")
def test_an_address_has_only_so_many_connections(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.max_per_address = 2
        first, second = await gateway.connect(), await gateway.connect()
        await until(lambda: len(gateway.worker.connections) == 2)
        reader, _ = await gateway.connect()
        reply = await read_reply(reader)
        assert (reply.status, json.loads(reply.body)["code"]) == (429, "too_many_connections")
        assert (reply.headers["retry-after"], reply.headers["connection"]) == ("1", "close")
        first[1].write(request("GET", "/orders/items/1", key(gateway)))
        assert (await read_reply(first[0])).status == 200, "those that it has go on"
        second[1].transport.abort()
        await until(lambda: len(gateway.worker.connections) == 1)
        assert (await gateway.get()).status == 200, "who leaves makes room"
        for _, writer in (first, second):
            writer.transport.abort()
        await until(lambda: not gateway.worker.connections)
        assert gateway.worker.addresses == {}, "nothing is remembered of who has left"

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.5")
def test_the_worker_has_only_so_many_connections(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.max_connections = 1
        await gateway.connect()
        await until(lambda: len(gateway.worker.connections) == 1)
        reader, _ = await gateway.connect()
        reply = await read_reply(reader)
        assert (reply.status, json.loads(reply.body)["code"]) == (503, "gateway_overloaded")
        assert reply.headers["retry-after"] == "1"

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.6")
def test_good_callers_are_served_beside_slow_ones(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        slow = [await gateway.connect() for _ in range(300)]
        for number, (_, writer) in enumerate(slow):
            head = request("POST", "/orders/items", key(gateway), "Content-Length: 9000")
            writer.write(head[:40] if number % 2 else head + b"x")
        assert [(await gateway.get()).status for _ in range(20)] == [200] * 20

    play(tmp_path, scenario, max_connections=400)  # a slow upload holds a connection to the upstream
