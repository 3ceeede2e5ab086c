"""Calls that are under way: for hours, while their caller loses the right to them or tries to have them for nothing."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from apimgr.contracts.outcomes import BY_NUMBER
from proxy.dataplane import stats
from proxy.dataplane.exchange import Exchange
from proxy.dataplane.listener import ClientConnection
from tests.proxy.dataplane.support import Running, read_message, read_reply, request, until
from tests.proxy.dataplane.test_gateway import play
from tests.proxy.dataplane.test_limits import limited, quota
from tests.proxy.dataplane.test_tunnel import WebSocketUpstream, closed_with, shake_hands
from tests.proxy.dataplane.test_tunnel import world as world_with

pytestmark = pytest.mark.processes


def revoke(gateway: Running) -> None:
    set_state(gateway, "revoked")


def set_state(gateway: Running, state: str) -> None:
    gateway.world.credential = replace(gateway.world.credential, state=state)
    gateway.world.publish()


def outcomes(gateway: Running) -> list[str]:
    return [BY_NUMBER[record.outcome].code for record in gateway.recorder.records]


class Streaming:
    """An upstream that answers each head with the beginning of a body, whatever is still to come."""

    def __init__(self, gateway: Running) -> None:
        self.asked = 0
        gateway.upstream.handler = self

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked += 1
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell")
        await reader.read(-1)


def chunked(gateway: Running) -> bytes:
    key = f"X-Api-Key: {gateway.world.key}"
    return request("POST", "/orders/items", key, "Transfer-Encoding: chunked") + b"1\r\na\r\n"


@pytest.mark.parametrize(
    ("more", "code"), [(b"zz\r\n", "bad_request"), (b"100\r\n" + bytes(256) + b"\r\n", "body_too_large")]
)
def test_a_call_that_its_caller_breaks_off_is_paid_for(tmp_path: Path, more: bytes, code: str) -> None:
    """Whatever the gateway makes of it: its upstream was asked, and has answered."""

    async def scenario(gateway: Running) -> None:
        upstream, statuses = Streaming(gateway), []
        for _ in range(4):
            reader, writer = await gateway.connect()
            writer.write(chunked(gateway))
            head = await reader.readuntil(b"\r\n\r\n")
            statuses.append(int(head.split()[1]))
            if statuses[-1] == 200:
                assert await reader.readexactly(4) == b"hell"
                writer.write(more)
                await reader.read(-1)
        assert (statuses, upstream.asked) == ([200, 200, 429, 429], 2)
        assert outcomes(gateway)[:2] == [code, code]
        assert all(record.upstream_us for record in gateway.recorder.records[:2])

    world = limited(quota(2, "month"))
    world.version = replace(world.version, max_body_bytes=100)
    play(tmp_path, scenario, world)


def test_a_call_whose_upstream_was_never_asked_is_not(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        for body in (b"zz\r\n", b"100\r\n" + bytes(256) + b"\r\n"):
            reply = await gateway.send(chunked(gateway)[:-6] + body)
            assert reply.status in {400, 413}
        assert not any(record.upstream_us for record in gateway.recorder.records)
        assert [(await gateway.get()).status for _ in range(2)] == [200, 429]

    world = limited(quota(1, "month"))
    world.version = replace(world.version, max_body_bytes=100)
    play(tmp_path, scenario, world)


def test_who_leaves_the_line_pays_nothing(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        asked, go = asyncio.Event(), asyncio.Event()

        async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await read_message(reader):
                asked.set()
                await go.wait()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

        gateway.upstream.handler = think
        first = asyncio.ensure_future(gateway.get())
        await asked.wait()
        _, impatient = await gateway.connect()
        impatient.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await until(lambda: gateway.worker.stats[stats.REQUESTS] == 2)
        impatient.transport.abort()
        await until(lambda: outcomes(gateway) == ["client_aborted"])
        go.set()
        assert [(await first).status, (await gateway.get()).status, (await gateway.get()).status] == [200, 200, 429]

    play(tmp_path, scenario, limited(quota(2, "month")), max_connections=1)


@pytest.mark.requirement("K8.2")
def test_streams_that_a_revocation_ends_are_paid_for(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = Streaming(gateway)
        streams = [await gateway.connect() for _ in range(2)]
        for reader, writer in streams:
            writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
            await reader.readuntil(b"hell")
        revoke(gateway)
        for reader, _ in streams:
            await reader.read(-1)
        set_state(gateway, "active")
        assert (await gateway.get()).status == 429
        assert upstream.asked == 2
        assert outcomes(gateway) == ["key_revoked", "key_revoked", "quota_exceeded"]

    play(tmp_path, scenario, limited(quota(2, "month")))


@pytest.mark.requirement("K8.2")
def test_a_revoked_key_does_not_wait_in_line(tmp_path: Path) -> None:
    """The call that has the only connection waits for its answer, the other one for the connection."""

    async def scenario(gateway: Running) -> None:
        upstream = asyncio.Event()

        async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            gateway.upstream.received.append(await read_message(reader))
            upstream.set()
            await reader.read(-1)

        gateway.upstream.handler = think
        calls = [asyncio.ensure_future(gateway.get()) for _ in range(3)]
        await upstream.wait()
        await until(lambda: gateway.worker.connections and not any(call.done() for call in calls))
        revoke(gateway)
        replies = [await call for call in calls]
        assert [(reply.status, json.loads(reply.body)["code"]) for reply in replies] == [(401, "key_revoked")] * 3
        await asyncio.sleep(0.1)
        assert len(gateway.upstream.received) == 1, "those in line never got there"
        asked = sorted(bool(record.upstream_us) for record in gateway.recorder.records)
        assert asked == [False, False, True]

    play(tmp_path, scenario, max_connections=1)


@pytest.mark.requirement("K8.2")
@pytest.mark.parametrize("ends", ["revoked", "expired"])
def test_an_upload_ends_with_its_key(tmp_path: Path, ends: str) -> None:
    async def scenario(gateway: Running) -> None:
        came, over = asyncio.Event(), asyncio.Event()

        async def read_all(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n1\r\na\r\n")
            came.set()
            await reader.read(-1)
            over.set()

        gateway.upstream.handler = read_all
        reader, writer = await gateway.connect()
        writer.write(chunked(gateway))
        await came.wait()
        if ends == "revoked":
            revoke(gateway)
        else:
            gateway.world.credential = replace(gateway.world.credential, expires_at=1)
            gateway.world.publish()
        reply = await read_reply(reader)
        assert (reply.status, reply.headers["connection"]) == (401, "close")
        assert json.loads(reply.body)["code"] == f"key_{ends}"
        await over.wait()
        record = gateway.recorder.records[-1]
        assert record.upstream_us
        assert [step["step"] for step in json.loads(record.trail)][-2:] == ["upstream", "ended"]

    play(tmp_path, scenario)


# --- for hours --------------------------------------------------------------------------------------------------------

HOURS = 2 * 3600


def begin_earlier(*exchanges: Exchange | None) -> None:
    """As if they had been under way for two hours: more microseconds than 32 bits hold."""
    for exchange in exchanges:
        assert exchange is not None
        exchange.started_ns -= HOURS * 10**9
        exchange.sent_at -= HOURS * 10**9


async def check_recorded(gateway: Running, code: str) -> None:
    await until(lambda: gateway.recorder.records and not gateway.worker.connections)
    (record,) = gateway.recorder.records
    assert (BY_NUMBER[record.outcome].code, record.total_us, record.upstream_us) == (code, 2**32 - 1, 2**32 - 1)
    assert not gateway.recorder.held


def test_a_stream_of_hours_ends_as_others_do(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        go = asyncio.Event()

        async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_message(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
            await go.wait()
            writer.write(b"0\r\n\r\n")

        gateway.upstream.handler = stream
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}", "Connection: close"))
        await reader.readuntil(b"\r\na\r\n")
        begin_earlier(*(connection._exchange for connection in gateway.worker.connections))
        go.set()
        assert await reader.read(-1) == b"0\r\n\r\n"
        await check_recorded(gateway, "ok")

    play(tmp_path, scenario)


@pytest.mark.requirement("K8.2")
def test_a_web_socket_of_hours_ends_with_its_key(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        upstream = WebSocketUpstream(gateway)
        _, (reader, _) = await shake_hands(gateway)
        begin_earlier(*(tunnel.exchange for tunnel in gateway.worker.tunnels))
        revoke(gateway)
        assert await closed_with(reader) == 1008
        await check_recorded(gateway, "key_revoked")
        upstream.end()

    play(tmp_path, scenario, world_with())


def test_many_calls_are_looked_at_a_few_at_a_time(tmp_path: Path) -> None:
    """In one round of the event loop each would have to be found anew after a change."""

    async def scenario(gateway: Running) -> None:
        worker = gateway.worker
        worker._to_check = [ClientConnection(worker) for _ in range(1000)]
        worker._check_some()
        left = [len(worker._to_check)]
        while worker._to_check:
            await asyncio.sleep(0)
            left.append(len(worker._to_check))
        assert left[0] == 1000 - 64
        assert max(before - after for before, after in pairwise(left)) == 64

    play(tmp_path, scenario)
