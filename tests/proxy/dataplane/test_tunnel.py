"""Calls that switch protocols: a real worker between a real caller and a real upstream, byte for byte (H16)."""

from __future__ import annotations

import asyncio
import json
import struct
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from apimgr.contracts import snapshot
from apimgr.contracts.usage import FLAG_TUNNEL
from proxy.dataplane.http.websocket import accept_for
from tests.proxy.dataplane.support import PATIENCE, Running, World, stopwatch, until
from tests.proxy.dataplane.test_gateway import last_outcome, play

pytestmark = pytest.mark.processes

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def world(**version: object) -> World:
    made = World()
    made.version = replace(made.version, **{"upgrades": ("websocket",), **version})  # type: ignore[arg-type]
    return made


def frame(opcode: int, payload: bytes = b"", *, masked: bool, final: bool = True, more: int = 0) -> bytes:
    """A frame; ``more`` bits are set in its first byte."""
    length = len(payload)
    short = length if length < 126 else 126 if length < 65_536 else 127
    extended = b"" if short < 126 else struct.pack("!H" if short == 126 else "!Q", length)
    mask = b"\1\2\3\4" if masked else b""
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload)) if masked else payload
    return bytes(((0x80 if final else 0) | opcode | more, (0x80 if masked else 0) | short)) + extended + mask + body


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Opcode and payload, unmasked."""
    first, second = await asyncio.wait_for(reader.readexactly(2), PATIENCE)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", await reader.readexactly(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", await reader.readexactly(8))
    mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
    payload = await reader.readexactly(length)
    return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))


async def closed_with(reader: asyncio.StreamReader) -> int:
    opcode, payload = await read_frame(reader)
    assert opcode == 8
    assert await asyncio.wait_for(reader.read(), PATIENCE) == b"", "and the connection ends"
    return int.from_bytes(payload[:2], "big")


class WebSocketUpstream:
    """Accepts the handshake and hands its streams over; ``heads`` is what it was sent."""

    def __init__(self, gateway: Running, answer: Callable[[bytes], bytes] | None = None) -> None:
        self.heads: list[bytes] = []
        self.streams: asyncio.Queue[Streams] = asyncio.Queue()
        self._answer = answer or self._accept
        self._over = asyncio.Event()
        gateway.upstream.handler = self._serve

    @staticmethod
    def _accept(head: bytes) -> bytes:
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: "
            + accept_for(KEY)
            + b"\r\n\r\n"
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self._answer(self.heads[-1]))
        self.streams.put_nowait((reader, writer))
        await self._over.wait()

    def end(self) -> None:
        self._over.set()


HANDSHAKE = (
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY.decode()}",
    "Sec-WebSocket-Version: 13",
)


async def shake_hands(gateway: Running, *lines: str, handshake: tuple[str, ...] = HANDSHAKE) -> tuple[bytes, Streams]:
    """The head of the answer, and the streams."""
    reader, writer = await gateway.connect()
    fields = "".join(f"{line}\r\n" for line in ("Host: x", f"X-Api-Key: {gateway.world.key}", *handshake, *lines))
    writer.write(f"GET /orders/items HTTP/1.1\r\n{fields}\r\n".encode())
    return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE), (reader, writer)


async def recorded(gateway: Running, count: int = 1) -> None:
    await until(lambda: len(gateway.recorder.frames) >= count)


def tunnelled(
    tmp_path: Path, scenario: Callable[[Running, Streams, Streams], Awaitable[None]], made: World | None = None
) -> None:
    """Play ``scenario(gateway, caller's streams, upstream's streams)`` within an open tunnel."""

    async def whole(gateway: Running) -> None:
        upstream = WebSocketUpstream(gateway)
        head, caller = await shake_hands(gateway)
        assert head.startswith(b"HTTP/1.1 101 "), head
        try:
            await scenario(gateway, caller, await asyncio.wait_for(upstream.streams.get(), PATIENCE))
        finally:
            upstream.end()

    play(tmp_path, whole, made or world())


@pytest.mark.requirement("H9.2", "H16.2")
def test_the_handshake_is_rebuilt_without_key_and_extensions(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = WebSocketUpstream(gateway)
        head, _ = await shake_hands(
            gateway,
            "Sec-WebSocket-Protocol: chat",
            "Sec-WebSocket-Extensions: permessage-deflate",
            "Origin: https://a.test",
            "Authorization: Basic " + b64encode(f"{gateway.world.key}:".encode()).decode(),
        )
        lines = head.lower().split(b"\r\n")
        assert {
            b"connection: upgrade",
            b"upgrade: websocket",
            b"sec-websocket-accept: " + accept_for(KEY).lower(),
        } <= set(lines)
        assert b"x-request-id: " in head.lower()
        sent = upstream.heads[0].lower()
        assert gateway.world.key.lower().encode() not in sent
        assert b"authorization" not in sent
        assert b"extensions" not in sent
        assert b"\r\nconnection: upgrade\r\nupgrade: websocket\r\n" in sent
        assert b"\r\nsec-websocket-protocol: chat\r\n" in sent
        upstream.end()

    play(tmp_path, scenario, world())


@pytest.mark.requirement("H16.5", "M11")
def test_frames_pass_both_ways_and_are_metered_once(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        first, second = frame(1, b"hel", masked=True, final=False), frame(0, b"lo", masked=True)
        caller[1].write(first + frame(9, b"?", masked=True) + second[:3])
        await asyncio.sleep(0.05)
        caller[1].write(second[3:])
        assert [await read_frame(upstream[0]) for _ in range(3)] == [(1, b"hel"), (9, b"?"), (0, b"lo")]
        big = frame(2, b"x" * 70_000, masked=False)
        upstream[1].write(big)
        assert await read_frame(caller[0]) == (2, b"x" * 70_000)
        assert gateway.recorder.frames == [], "recorded once, at the end"
        caller[1].close()
        await recorded(gateway)
        (record,) = gateway.recorder.records
        assert (record.status, record.upstream_status, record.flags & FLAG_TUNNEL) == (101, 101, FLAG_TUNNEL)
        assert (record.bytes_in, record.bytes_out) == (len(first + second) + 7, len(big))
        (step,) = json.loads(record.trail)
        assert (step["messages_in"], step["messages_out"]) == (1, 1)
        assert last_outcome(gateway) == "ok"

    tunnelled(tmp_path, scenario)


def test_an_open_tunnel_is_held_and_what_went_through_is_noted(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = WebSocketUpstream(gateway)
        _, (_, writer) = await shake_hands(gateway)
        sent = frame(1, b"hello", masked=True)
        writer.write(sent)
        while (1, len(sent), 0, 101) not in gateway.recorder.noted:
            await asyncio.sleep(0.05)
        assert len(gateway.recorder.held) == 1
        upstream.end()
        writer.transport.abort()
        await recorded(gateway)
        assert gateway.recorder.held == {}

    play(tmp_path, scenario, world())


@pytest.mark.requirement("H16.3", "H16.4")
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(1, b"x", masked=False), 1002),
        (frame(3, b"x", masked=True), 1002),
        (frame(1, b"x", masked=True, more=0x40), 1002),
        (frame(9, b"x" * 126, masked=True), 1002),
        (frame(9, b"x", masked=True, final=False), 1002),
        (frame(0, b"x", masked=True), 1002),
        (frame(1, b"x", masked=True, final=False) + frame(1, b"x", masked=True), 1002),
        (b"\x82\xfe\x00\x05", 1002),
        (b"\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff\1\2\3\4", 1002),
        (frame(8, b"x", masked=True), 1002),
        (frame(2, b"x" * 1001, masked=True), 1009),
        (frame(2, b"x" * 600, masked=True, final=False) + frame(0, b"x" * 600, masked=True), 1009),
    ],
)
def test_a_violation_ends_it_on_both_sides(tmp_path: Path, raw: bytes, code: int) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        caller[1].write(raw + (b"\0" * 8 if raw.startswith(b"\x82\xfe\x00\x05") else b""))
        assert await closed_with(caller[0]) == code
        assert await closed_with(upstream[0]) == code, "nothing of it was passed on"
        await recorded(gateway)
        assert last_outcome(gateway) == "tunnel_violation"
        assert json.loads(gateway.recorder.records[0].trail)[-1]["detail"].startswith("the caller sent ")

    tunnelled(tmp_path, scenario, world(max_message_bytes=1000))


@pytest.mark.requirement("H16.4")
def test_a_masked_frame_of_the_upstream_is_a_violation_too(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        upstream[1].write(frame(1, b"x", masked=True))
        assert await closed_with(caller[0]) == 1002
        await recorded(gateway)
        assert last_outcome(gateway) == "tunnel_violation"

    tunnelled(tmp_path, scenario)


@pytest.mark.requirement("H16.2", "K8.2")
def test_a_revoked_key_ends_an_open_tunnel(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        gateway.world.credential = replace(gateway.world.credential, state="revoked")
        gateway.world.publish()
        async with stopwatch() as seconds:
            assert await closed_with(caller[0]) == 1008
            assert seconds() < 1
        assert await closed_with(upstream[0]) == 1008
        await recorded(gateway)
        assert last_outcome(gateway) == "key_revoked"

    tunnelled(tmp_path, scenario)


@pytest.mark.requirement("K8.2")
def test_a_suspended_organisation_ends_an_open_tunnel(tmp_path: Path) -> None:
    """As one is told to be, too, whose last owner was disabled."""

    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        owner = gateway.world.application.organisation_id
        gateway.world.replica.put(snapshot.OrganisationDocument(owner, "suspended"))
        assert await closed_with(caller[0]) == 1008
        assert await closed_with(upstream[0]) == 1008
        await recorded(gateway)
        assert last_outcome(gateway) == "organisation_suspended"

    tunnelled(tmp_path, scenario)


@pytest.mark.requirement("H16.2", "K8.2")
def test_a_key_that_expires_ends_an_open_tunnel(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        began = time.time()
        gateway.world.credential = replace(gateway.world.credential, expires_at=int(began) + 2)
        gateway.world.publish()
        async with stopwatch() as seconds:
            assert await closed_with(caller[0]) == 1008
            assert began + seconds() < gateway.world.credential.expires_at + 1.5
        assert time.time() >= gateway.world.credential.expires_at
        await recorded(gateway)
        assert last_outcome(gateway) == "key_expired"

    tunnelled(tmp_path, scenario)


@pytest.mark.requirement("K8.2")
def test_a_retired_version_ends_an_open_tunnel(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        gateway.world.version = replace(gateway.world.version, state="retired")
        gateway.world.publish()
        assert await closed_with(caller[0]) == 1008
        await recorded(gateway)
        assert last_outcome(gateway) == "version_retired"

    tunnelled(tmp_path, scenario)


def test_silence_ends_it(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        assert await closed_with(caller[0]) == 1001
        await recorded(gateway)
        assert last_outcome(gateway) == "ok"

    tunnelled(tmp_path, scenario, world(tunnel_idle_ms=1000))


def test_a_worker_that_leaves_says_so(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        for tunnel in list(gateway.worker.tunnels):
            tunnel.drain()
        assert await closed_with(caller[0]) == 1001
        assert not gateway.worker.tunnels

    tunnelled(tmp_path, scenario)


def test_an_upstream_that_goes_away_takes_the_caller_along(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        upstream[1].write(frame(8, b"\x03\xe8", masked=False))
        upstream[1].close()
        assert await read_frame(caller[0]) == (8, b"\x03\xe8")
        assert await asyncio.wait_for(caller[0].read(), PATIENCE) == b""
        await recorded(gateway)
        assert last_outcome(gateway) == "ok"

    tunnelled(tmp_path, scenario)


def test_a_slow_reader_holds_the_sender_back(tmp_path: Path) -> None:
    async def scenario(gateway: Running, caller: Streams, upstream: Streams) -> None:
        piece, sent = frame(2, b"x" * 60_000, masked=False), 0
        upstream[1].transport.set_write_buffer_limits(high=1 << 16)
        while sent < 2000:
            upstream[1].write(piece)
            sent += 1
            try:
                await asyncio.wait_for(upstream[1].drain(), 0.3)
            except TimeoutError:
                break
        assert sent < 2000, "back-pressure reaches the upstream"
        for _ in range(sent):
            assert (await read_frame(caller[0]))[0] == 2

    tunnelled(tmp_path, scenario)


@pytest.mark.requirement("H16.1", "H16.2")
@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"), 400),
        (("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: short==", "Sec-WebSocket-Version: 13"), 400),
        ((*HANDSHAKE[:3], "Sec-WebSocket-Version: 8"), 400),
        ((*HANDSHAKE, f"Sec-WebSocket-Key: {KEY.decode()}"), 400),
        ((*HANDSHAKE, "Origin: https://evil.test"), 403),
    ],
)
def test_an_unsound_handshake_is_refused_before_the_upstream(
    tmp_path: Path, lines: tuple[str, ...], status: int
) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = WebSocketUpstream(gateway)
        head, _ = await shake_hands(gateway, handshake=lines)
        assert int(head.split(b" ")[1]) == status
        assert (b"\r\nSec-WebSocket-Version: 13\r\n" in head) == (status == 400)
        assert upstream.heads == []

    play(tmp_path, scenario, world(websocket_origins=("https://good.test",)))


@pytest.mark.requirement("H16.1")
def test_a_listed_origin_may_connect(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = WebSocketUpstream(gateway)
        head, _ = await shake_hands(gateway, "Origin: https://good.test")
        assert head.startswith(b"HTTP/1.1 101 ")
        upstream.end()

    play(tmp_path, scenario, world(websocket_origins=("https://good.test",)))


@pytest.mark.requirement("H5.2")
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: other\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_an_answer_that_does_not_fit_is_not_relayed(tmp_path: Path, answer: bytes) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = WebSocketUpstream(gateway, lambda head: answer)
        head, _ = await shake_hands(gateway)
        assert head.startswith(b"HTTP/1.1 502 ")
        assert last_outcome(gateway) == "upstream_invalid"
        upstream.end()

    play(tmp_path, scenario, world())


def test_an_upstream_may_say_no(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reply = await gateway.get("/orders/items", *HANDSHAKE)
        assert (reply.status, reply.body) == (200, b'{"hello": "world"}')

    play(tmp_path, scenario, world())


def test_what_is_not_listed_is_not_switched(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        assert (await gateway.get("/orders/items", *HANDSHAKE)).status == 403
        assert last_outcome(gateway) == "upgrade_not_allowed"
        reply = await gateway.get(
            "/orders/items", "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: x"
        )
        assert reply.status == 200, "a protocol nobody offers is passed over"
        assert b"h2c" not in gateway.upstream.received[-1]

    play(tmp_path, scenario, world(upgrades=("sound",)))


@pytest.mark.requirement("H15.1")
@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (("websocket, h2c",), b"websocket"),
        (("h2c, WebSocket",), b"websocket"),
        ((", HTTP/2.0 ,\twebsocket,",), b"websocket"),
        (("h2c", "websocket"), b"websocket"),
        (("websocket, sound",), b"websocket"),
        (("websocket/13, sound",), b"sound"),
        (("sound, websocket",), b"sound"),
    ],
)
def test_of_several_protocols_the_first_that_is_listed_is_offered_alone(
    tmp_path: Path, asked: tuple[str, ...], chosen: bytes
) -> None:
    async def scenario(gateway: Running) -> None:
        answer = b"HTTP/1.1 101 X\r\nUpgrade: sound\r\nConnection: upgrade\r\n\r\n"
        upstream = WebSocketUpstream(gateway, (lambda head: answer) if chosen == b"sound" else None)
        lines = (*HANDSHAKE[2:], "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")
        head, _ = await shake_hands(gateway, *(f"Upgrade: {value}" for value in asked), handshake=lines)
        assert head.startswith(b"HTTP/1.1 101 "), head
        assert b"\r\nUpgrade: %b\r\n" % chosen in head
        sent = upstream.heads[0].lower()
        assert sent.count(b"upgrade:") == 1
        assert b"\r\nconnection: upgrade\r\nupgrade: %b\r\n" % chosen in sent
        assert not any(word in sent for word in (b"h2c", b"settings", b"http/2"))
        upstream.end()

    play(tmp_path, scenario, world(upgrades=("sound", "websocket", "h2c", "http/2.0")))


@pytest.mark.parametrize(
    "asked",
    [
        "websocket/13",
        "websocket/13, h2c",
        '"websocket"',
        "websocket;q=1",
        "websocket sound",
        "sound websocket/, websocket",
    ],
)
def test_websocket_spelled_otherwise_is_refused(tmp_path: Path, asked: str) -> None:
    """A version makes another protocol, and a list with something malformed in it offers none."""

    async def scenario(gateway: Running) -> None:
        assert (await gateway.get("/orders/items", f"Upgrade: {asked}", *HANDSHAKE[1:])).status == 403
        assert (last_outcome(gateway), gateway.upstream.received) == ("upgrade_not_allowed", [])

    play(tmp_path, scenario, world(upgrades=("websocket", "sound")))


@pytest.mark.requirement("M11")
def test_another_protocol_is_an_opaque_tunnel(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = WebSocketUpstream(
            gateway, lambda head: b"HTTP/1.1 101 X\r\nUpgrade: sound\r\nConnection: upgrade\r\n\r\nhello"
        )
        head, caller = await shake_hands(gateway, handshake=("Upgrade: sound", "Connection: Upgrade"))
        assert head.startswith(b"HTTP/1.1 101 ")
        assert await caller[0].readexactly(5) == b"hello"
        there = await upstream.streams.get()
        caller[1].write(b"\x00anything\xff")
        caller[1].write_eof()
        assert await asyncio.wait_for(there[0].read(), PATIENCE) == b"\x00anything\xff"
        there[1].write(b"last words")
        there[1].close()
        assert await asyncio.wait_for(caller[0].read(), PATIENCE) == b"last words", "a half-closed tunnel still answers"
        upstream.end()
        await recorded(gateway)
        (record,) = gateway.recorder.records
        assert (record.bytes_in, record.bytes_out) == (10, 15)

    play(tmp_path, scenario, world(upgrades=("sound",)))


@pytest.mark.requirement("H15.1")
@pytest.mark.parametrize("protocol", ["h2c", "HTTP/2.0", "TLS/1.2", "h2c, HTTP/2.0,,TLS/1.2"])
def test_no_tunnel_carries_requests_past_the_gateway(tmp_path: Path, protocol: str) -> None:
    """What would speak HTTP inside is not switched to, whatever a version lists (h2c smuggling)."""

    async def scenario(gateway: Running) -> None:
        reply = await gateway.get(
            "/orders/items/1", f"Upgrade: {protocol}", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk"
        )
        assert reply.status == 200, "it goes on as if nothing had been asked"
        sent = gateway.upstream.received[0].lower()
        assert not any(word in sent for word in (b"upgrade", b"h2c", b"settings", b"connection", b"tls"))

    play(tmp_path, scenario, world(upgrades=("websocket", "h2c", "http/2.0", "tls/1.2")))


# --- what is under way without a switch -----------------------------------------------------------------------------


@pytest.mark.requirement("K8.2")
def test_a_revoked_key_ends_an_open_stream(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        over = asyncio.Event()

        async def events(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
            await over.wait()

        gateway.upstream.handler = events
        reader, writer = await gateway.connect()
        writer.write(f"GET /orders/items HTTP/1.1\r\nHost: x\r\nX-Api-Key: {gateway.world.key}\r\n\r\n".encode())
        assert b"data: 1" in await reader.readuntil(b"\n\n\r\n"), "an event is passed on at once"
        gateway.world.plan = snapshot.PlanDocument(40, "Renamed")
        gateway.world.publish()
        await asyncio.sleep(0.3)
        assert not reader.at_eof(), "what is allowed goes on"
        gateway.world.credential = replace(gateway.world.credential, state="revoked")
        gateway.world.publish()
        async with stopwatch() as seconds:
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await reader.readuntil(b"never")
            assert seconds() < 1
        over.set()
        assert last_outcome(gateway) == "key_revoked"
        assert gateway.recorder.records[0].status == 200

    play(tmp_path, scenario)
