"""Upstreams that misbehave at every stage, names that lead where they must not, and the pool between them.

Whatever an upstream does: one outcome, one record, and its connection serves nobody again.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from apimgr.contracts import addresses
from apimgr.contracts.addresses import Address, EgressRules
from apimgr.contracts.snapshot import UpstreamDocument
from proxy.dataplane.upstreams import connect, pool
from proxy.dataplane.upstreams.connect import CannotConnect, Connector, is_local_address
from tests.asynchronous import run
from tests.proxy.dataplane.support import PATIENCE, Reply, Running, read_message, read_reply, request, response, until
from tests.proxy.dataplane.test_gateway import last_outcome, play

pytestmark = pytest.mark.processes

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def call(gateway: Running) -> Reply | None:
    """The final reply, or ``None`` where the connection broke off."""
    reader, writer = await gateway.connect()
    writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
    try:
        while (reply := await read_reply(reader)).status < 200:
            pass
        return reply
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def answers(*parts: bytes, then: str = "hold", pause: float = 0.0) -> Handler:
    """Take a request, write ``parts``, then hold the connection, close it, half-close it or reset it."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)
        for part in parts:
            writer.write(part)
            with suppress(ConnectionError):
                await writer.drain()
            await asyncio.sleep(pause)
        if then == "reset":
            await asyncio.sleep(0.05)
            reset(writer)
        elif then == "eof":
            writer.write_eof()
        if then != "close":
            await reader.read(-1)

    return handler


OK = b"HTTP/1.1 200 OK\r\n"
END = b": y\r\nContent-Length: 0\r\n\r\n"
HINT = b"HTTP/1.1 103 Early Hints\r\n\r\n"
BROKEN = None  # the caller's connection breaks off

MISBEHAVIOUR: dict[str, tuple[Handler, int | None, str]] = {
    "hangs before it answers": (answers(), 504, "upstream_timeout"),
    "hangs in its head": (answers(OK + b"X: y"), 504, "upstream_timeout"),
    "trickles its head": (answers(OK, *[b"X"] * 60, END, pause=0.02), 504, "upstream_timeout"),
    "hangs in its body": (answers(OK + b"Content-Length: 9\r\n\r\nhalf"), BROKEN, "upstream_timeout"),
    "closes unheard": (answers(then="close"), 502, "upstream_unreachable"),
    "half-closes unheard": (answers(then="eof"), 502, "upstream_unreachable"),
    "resets unheard": (answers(then="reset"), 502, "upstream_unreachable"),
    "closes in its head": (answers(OK + b"X: y", then="close"), 502, "upstream_invalid"),
    "resets in its head": (answers(OK + b"X: y", then="reset"), 502, "upstream_invalid"),
    "closes in its body": (answers(OK + b"Content-Length: 9\r\n\r\nhalf", then="close"), BROKEN, "upstream_aborted"),
    "half-closes in its body": (answers(OK + b"Content-Length: 9\r\n\r\nhalf", then="eof"), BROKEN, "upstream_aborted"),
    "resets in its body": (answers(OK + b"Content-Length: 9\r\n\r\nhalf", then="reset"), BROKEN, "upstream_aborted"),
    "resets in a body without length": (answers(OK + b"\r\nhalf", then="reset"), BROKEN, "upstream_aborted"),
    "closes in its chunks": (
        answers(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n", then="close", pause=0.05),
        BROKEN, "upstream_aborted",
    ),
    "breaks its chunks": (
        answers(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\nhello", pause=0.05), BROKEN, "upstream_aborted"
    ),
    "floods its head": (answers(OK, *[b"X: " + b"x" * 4000 + b"\r\n"] * 30), 502, "upstream_invalid"),
    "sends too many fields": (answers(OK, b"X: y\r\n" * 300), 502, "upstream_invalid"),
    "sends interim responses for ever": (answers(HINT * 500), 502, "upstream_invalid"),
    "sends big interim responses": (
        answers(*[b"HTTP/1.1 103 E\r\nX: " + b"x" * 9000 + b"\r\n\r\n"] * 5), 502, "upstream_invalid"
    ),
    "gives an interim response a body": (
        answers(b"HTTP/1.1 103 E\r\nContent-Length: 2\r\n\r\nab"), 502, "upstream_invalid"
    ),
    "switches protocols unasked": (answers(b"HTTP/1.1 101 S\r\nUpgrade: x\r\n\r\n"), 502, "upstream_invalid"),
    "speaks something else": (answers(b"SSH-2.0-OpenSSH\r\n"), 502, "upstream_invalid"),
    "speaks HTTP/2": (answers(b"\0\0\x12\x04\0\0\0\0\0"), 502, "upstream_invalid"),
    "states two lengths": (answers(OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 502, "upstream_invalid"),
    "frames twice": (
        answers(OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 502, "upstream_invalid"
    ),
    "codes what we cannot decode": (answers(OK + b"Transfer-Encoding: gzip\r\n\r\n"), 502, "upstream_invalid"),
    "folds a line": (answers(OK + b"A: b\r\n c\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_invalid"),
    "ends lines with LF": (answers(b"HTTP/1.1 200 OK\nContent-Length: 0\n\n"), 502, "upstream_invalid"),
    "puts a control character into a value": (
        answers(OK + b"A: b\x0bc\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_invalid"
    ),
    "puts a space before a colon": (answers(OK + b"A : b\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_invalid"),
    "states an odd status": (answers(b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n"), 502, "upstream_invalid"),
}  # fmt: skip


@pytest.mark.requirement("H5.1", "H5.2", "H17.1")
@pytest.mark.parametrize("what", MISBEHAVIOUR)
def test_misbehaviour(tmp_path: Path, what: str) -> None:
    handler, status, outcome = MISBEHAVIOUR[what]

    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = handler
        reply = await call(gateway)
        assert (reply and reply.status) == status
        assert (last_outcome(gateway), len(gateway.recorder.records)) == (outcome, 1)
        assert b"127.0.0.1" not in (reply.body if reply else b"")
        gateway.upstream.handler = None
        assert (await gateway.get()).status == 200
        assert gateway.upstream.connections == 2, "the connection served nobody again"
        assert len(gateway.recorder.records) == 2

    play(tmp_path, scenario, read_timeout_ms=300)


SPENT: dict[str, Handler] = {
    "bytes after the response": answers(response(b"ok") + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"),
    "bytes a moment after the response": answers(response(b"ok"), b"poison", pause=0.02),
    "a body after 204": answers(b"HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\n", b"poison", pause=0.02),
    "chunks after 204": answers(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
    "a body after 304": answers(b"HTTP/1.1 304 Not Modified\r\n\r\npoison"),
    "a wish to close": answers(OK + b"Connection: close\r\nContent-Length: 0\r\n\r\n"),
    "HTTP/1.0": answers(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"),
}


@pytest.mark.requirement("H5.1")
@pytest.mark.parametrize("what", SPENT)
def test_spent_connections_are_not_used_again(tmp_path: Path, what: str) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = SPENT[what]
        assert (await gateway.get()).status in (200, 204, 304)
        await asyncio.sleep(0.1)
        gateway.upstream.handler = None
        assert (await gateway.get()).body == b'{"hello": "world"}'
        assert gateway.upstream.connections == 2
        assert len(gateway.recorder.records) == 2

    play(tmp_path, scenario)


@pytest.mark.requirement("H5.1", "M8")
def test_an_early_answer_spends_the_connection(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(b"no"))
            await reader.read(-1)

        gateway.upstream.handler = early
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(request("POST", "/orders/items", key, "Content-Length: 100000") + b"x")
        assert (await read_reply(reader)).body == b"no"
        gateway.upstream.handler = None
        assert (await gateway.get()).status == 200
        assert gateway.upstream.connections == 2

    play(tmp_path, scenario)


def test_an_upstream_that_does_not_read_times_out(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(3 * PATIENCE)

        gateway.upstream.handler = deaf
        key = f"X-Api-Key: {gateway.world.key}"
        reader, writer = await gateway.connect()
        writer.write(request("POST", "/orders/items", key, "Content-Length: 9000000") + b"x" * 8_999_999)
        assert (await read_reply(reader)).status == 504
        assert (last_outcome(gateway), len(gateway.recorder.records)) == ("upstream_timeout", 1)

    play(tmp_path, scenario, read_timeout_ms=500)


def test_a_slow_caller_is_not_the_upstreams_fault(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(request("POST", "/orders/items", key, "Content-Length: 4") + b"x")
        await asyncio.sleep(0.7)
        writer.write(b"yzz")
        assert (await read_reply(reader)).status == 200

    play(tmp_path, scenario, read_timeout_ms=300)


@pytest.mark.requirement("M3")
def test_interim_responses_buy_time(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = answers(*[b"HTTP/1.1 102 Processing\r\n\r\n"] * 4, response(b"ok"), pause=0.4)
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        assert [(await read_reply(reader)).status for _ in range(5)] == [102] * 4 + [200]

    play(tmp_path, scenario, read_timeout_ms=1200)


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 200), ("POST", 502), ("PATCH", 502)])
def test_only_what_is_safe_is_sent_again(tmp_path: Path, method: str, status: int) -> None:
    """A kept connection that breaks before any byte of an answer: the request may have arrived, or not."""

    async def scenario(gateway: Running) -> None:
        change(gateway, unknown_operation="pass")

        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            gateway.upstream.received.append(await read_message(reader))
            writer.write(response(b"ok"))
            gateway.upstream.received.append(await read_message(reader))
            reset(writer)

        gateway.upstream.handler = once
        assert (await gateway.get()).status == 200
        gateway.upstream.handler = None
        assert (await gateway.get(method=method)).status == status
        assert len(gateway.upstream.received) == (3 if status == 200 else 2)
        assert len(gateway.recorder.records) == 2

    play(tmp_path, scenario)


def change(gateway: Running, **fields: Any) -> None:
    """Change the version and have the gateway know."""
    gateway.world.version = replace(gateway.world.version, **fields)
    gateway.world.publish()


# --- the pool -------------------------------------------------------------------------------------------------------


def the_pool(gateway: Running) -> pool.Pool:
    (found,) = gateway.worker.pools._pools.values()
    return found


def test_callers_in_line_learn_that_there_is_no_upstream(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        replies = await asyncio.wait_for(asyncio.gather(*(gateway.get() for _ in range(20))), PATIENCE)
        assert {reply.status for reply in replies} == {502}
        assert len(gateway.recorder.records) == 20
        found = the_pool(gateway)
        assert [len(part) for part in (found._open, found._waiting, found._connecting)] == [0, 0, 0]

    play(tmp_path, scenario, url="http://127.0.0.1:1", max_connections=1)


def test_an_upstream_that_resets_what_it_accepts_is_called_again_once_it_is_sound(tmp_path: Path) -> None:
    """Connections may be lost before anybody has them: then there is nobody to say so, and they must not count."""

    async def scenario(gateway: Running) -> None:
        is_sound = threading.Event()
        with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
            port = server.getsockname()[1]
            threading.Thread(target=reset_until, args=(server, is_sound), daemon=True).start()
            gateway.worker.pools.resolve = name_server(["127.0.0.1", "127.0.0.2"])
            change(gateway, upstream=UpstreamDocument(f"http://two.example:{port}", max_connections=16))
            for _ in range(3):
                replies = await asyncio.wait_for(asyncio.gather(*(gateway.get() for _ in range(100))), PATIENCE)
                assert {reply.status for reply in replies} == {502}
            found = the_pool(gateway)
            await until(lambda: not (found._open or found._connecting or found._waiting))
            is_sound.set()
            assert (await gateway.get()).status == 200

    play(tmp_path, scenario, egress=EgressRules(["127.0.0.0/8"]))


def reset_until(server: socket.socket, is_sound: threading.Event) -> None:
    """Accept and reset; once ``is_sound`` answer one call."""
    while True:
        accepted, _ = server.accept()
        with accepted:
            if is_sound.is_set():
                accepted.recv(65_536)
                accepted.sendall(response())
                return
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def test_the_line_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "_MAX_WAITING", 2)

    async def scenario(gateway: Running) -> None:
        release = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await read_message(reader)
                await release.wait()
                writer.write(response(b"ok"))

        gateway.upstream.handler = slow
        calls = [asyncio.ensure_future(gateway.get()) for _ in range(5)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
        refused = done.pop().result()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        release.set()
        statuses = sorted(reply.status for reply in await asyncio.gather(*calls))
        assert statuses == [200, 200, 200, 503, 503]
        assert len(gateway.recorder.records) == 5
        assert gateway.upstream.connections == 1

    play(tmp_path, scenario, max_connections=1)


def test_one_who_leaves_the_line_takes_nothing_along(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        release = asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await read_message(reader)
                await release.wait()
                writer.write(response(b"ok"))

        gateway.upstream.handler = slow
        first = asyncio.ensure_future(gateway.get())
        await until(lambda: gateway.upstream.connections == 1)
        line = the_pool(gateway)._waiting
        _, leaver = await gateway.connect()
        leaver.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await until(lambda: len(line) == 1)
        leaver.transport.abort()
        await until(lambda: len(gateway.recorder.records) == 1)
        assert not line, "the place is free at once"
        last = asyncio.ensure_future(gateway.get())
        await until(lambda: len(line) == 1)
        release.set()
        assert [(await first).status, (await last).status] == [200, 200]
        assert gateway.upstream.connections == 1
        assert len(the_pool(gateway)._idle) == 1
        assert len(gateway.recorder.records) == 3

    play(tmp_path, scenario, max_connections=1)


def test_idle_connections_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "IDLE_SECONDS", 0.2)

    async def scenario(gateway: Running) -> None:
        await asyncio.gather(*(gateway.get() for _ in range(5)))
        found = the_pool(gateway)
        assert found._open
        await until(lambda: not found._open)
        assert not found._idle
        assert (await gateway.get()).status == 200

    play(tmp_path, scenario)


# --- names and addresses --------------------------------------------------------------------------------------------


def name_server(*answers: list[str], asked: list[str] | None = None) -> connect.Resolve:
    """Gives ``answers`` one after another, then the last one for ever."""
    log = asked if asked is not None else []

    async def resolve(host: str, port: int) -> list[Address]:
        log.append(host)
        return [ip_address(text) for text in answers[min(len(log), len(answers)) - 1]]

    return resolve


def at(name: str) -> Callable[[Running], None]:
    """Point the API at ``name``, at the port where the upstream is."""

    def move(gateway: Running) -> None:
        port = int(gateway.world.version.upstream.url.split(":")[2].split("/")[0])
        upstream = UpstreamDocument(url=f"http://{name}:{port}", connect_timeout_ms=2000)
        change(gateway, upstream=upstream)

    return move


LOOPBACK = ["127.0.0.1", "localhost", "127.1", "127.0.1", "0x7f000001", "0x7f.1", "2130706433", "0177.0.0.1",
            "017700000001", "0.0.0.0", "0", "LOCALHOST", "user:password@127.0.0.1", "[::1]", "[::]",
            "[::ffff:127.0.0.1]", "[0:0:0:0:0:ffff:7f00:1]", "[::127.0.0.1]"]  # fmt: skip
NO_HOSTS = ["127.0.0.1.", "127\u30020\u30020\u30021", "\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1",
            "[fe80::1%25lo]", "256.256.256.256", "1.2.3.4.5", "-", "a" * 300, "\u00ad"]  # fmt: skip


@pytest.mark.requirement("R2.2")
@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_is_not_called_unless_allowed(tmp_path: Path, host: str) -> None:
    async def scenario(gateway: Running) -> None:
        at(host)(gateway)
        reply = await gateway.get()
        assert (reply.status, last_outcome(gateway)) == (502, "upstream_forbidden")
        assert b"oopback" not in reply.body, "callers are not told where a name leads"
        assert (gateway.upstream.connections, len(gateway.recorder.records)) == (0, 1)

    play(tmp_path, scenario, egress=EgressRules(["10.0.0.0/8", "127.0.0.1:1"]))


@pytest.mark.requirement("R2.2")
@pytest.mark.parametrize("host", NO_HOSTS)
def test_what_is_hardly_a_host_is_not_called(tmp_path: Path, host: str) -> None:
    """Whether the system's resolver makes sense of it or not."""

    async def scenario(gateway: Running) -> None:
        at(host)(gateway)
        assert (await gateway.get()).status == 502
        assert last_outcome(gateway) in {"upstream_forbidden", "upstream_unreachable"}
        assert gateway.upstream.connections == 0

    play(tmp_path, scenario, egress=EgressRules())


@pytest.mark.requirement("R1.2", "R2.1")
@pytest.mark.parametrize("network", [network for network, _reason in addresses._denied_networks()], ids=str)
def test_no_denied_network_is_connected_to(network: addresses.Network) -> None:
    """First and last address, alone and behind a public one; nothing is even tried."""

    async def opened() -> None:
        for address in (network[0], network[-1]):
            for found in ([address], [ip_address("8.8.8.8"), address]):
                connector = Connector("evil.example", 80, tls=False, rules=EgressRules(), resolve=name_server(found))
                with pytest.raises(CannotConnect) as caught:
                    await connector.open(lambda: pytest.fail("it was connected to"), 5)
                assert caught.value.code == "upstream_forbidden"
                assert str(address) not in caught.value.detail

    run(opened)


@pytest.mark.requirement("R1.4")
def test_redirects_are_relayed_and_proxies_of_the_environment_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = response(b"", "302 Found", "Location: http://169.254.169.254/latest/meta-data")
        reply = await gateway.get()
        assert (reply.status, reply.headers["location"]) == (302, "http://169.254.169.254/latest/meta-data")
        assert gateway.upstream.connections == 1

    play(tmp_path, scenario)


@pytest.mark.requirement("R1.3")
def test_an_allowed_name_keeps_its_host_field(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.pools.resolve = name_server(["127.0.0.1"])
        at("inner.example")(gateway)
        assert (await gateway.get()).status == 200
        assert b"\r\nHost: inner.example:" in gateway.upstream.received[0]

    play(tmp_path, scenario, egress=EgressRules(["inner.example"]))


@pytest.mark.requirement("R1.2", "R2.1")
@pytest.mark.parametrize(
    "found", [["8.8.8.8", "127.0.0.1"], ["127.0.0.1"], ["::ffff:127.0.0.1"], ["64:ff9b::7f00:1"], ["169.254.169.254"],
              ["2606:4700::1", "fd00::1"], ["0.0.0.0"], ["100.64.0.1"], ["2002:7f00:1::"]]
)  # fmt: skip
def test_one_private_address_condemns_a_name(tmp_path: Path, found: list[str]) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.pools.resolve = name_server(found)
        at("evil.example")(gateway)
        assert (await gateway.get()).status == 502
        assert last_outcome(gateway) == "upstream_forbidden"
        assert gateway.upstream.connections == 0

    play(tmp_path, scenario, egress=EgressRules())


@pytest.mark.requirement("R1.1", "R1.2")
def test_rebinding_gains_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A public address first (127.0.0.9 plays one, where nobody listens), loopback for ever after."""
    monkeypatch.setattr(connect, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(addresses, "denial", lambda address: "" if str(address) == "127.0.0.9" else "loopback")
    asked: list[str] = []

    async def scenario(gateway: Running) -> None:
        gateway.worker.pools.resolve = name_server(["127.0.0.9"], ["127.0.0.1"], asked=asked)
        at("evil.example")(gateway)
        outcomes = []
        for _ in range(3):
            assert (await gateway.get()).status == 502
            outcomes.append(last_outcome(gateway))
        assert outcomes == ["upstream_unreachable", "upstream_forbidden", "upstream_forbidden"]
        assert len(asked) == 3, "asked anew for each connection, and once only"
        assert gateway.upstream.connections == 0

    play(tmp_path, scenario, egress=EgressRules())


@pytest.mark.requirement("R1.1", "R1.2")
def test_a_look_up_is_shared_and_soon_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "FRESH_SECONDS", 1.0)
    asked: list[str] = []

    async def scenario(gateway: Running) -> None:
        gateway.worker.pools.resolve = name_server(["127.0.0.1"], ["192.168.0.1"], asked=asked)
        at("inner.example")(gateway)
        await asyncio.gather(*(gateway.get() for _ in range(10)))
        assert len(asked) == 1
        the_pool(gateway).close()
        await asyncio.sleep(1.1)
        assert (await gateway.get()).status == 502, "the name leads elsewhere by now"
        assert len(asked) == 2

    play(tmp_path, scenario, egress=EgressRules(["127.0.0.1"]))


@pytest.mark.requirement("R1.4")
def test_no_allow_list_opens_a_port_of_ours(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        at("127.0.0.1")(gateway)
        port = int(gateway.world.version.upstream.url.rpartition(":")[2])
        cases = (("127.0.0.1", 502), ("0.0.0.0", 502), ("::", 502), ("10.9.9.9", 200))
        for number, (own, status) in enumerate(cases):
            gateway.worker.pools._rules = EgressRules(["127.0.0.0/8"], [(own, port)], is_local=is_local_address)
            # Another upstream, so that it has a pool of its own.
            change(gateway, upstream=replace(gateway.world.version.upstream, read_timeout_ms=5000 + number))
            assert (await gateway.get()).status == status, own

    play(tmp_path, scenario)


def test_local_addresses() -> None:
    assert is_local_address(ip_address("127.0.0.1"))
    assert not is_local_address(ip_address("192.0.2.1"))
    assert not is_local_address(ip_address("2001:db8::1"))


@pytest.mark.parametrize("entry", ["10.0.0.5/8", "10.0.0.0/33", "inner.example/x"])
def test_an_entry_that_is_no_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="not a network"):
        EgressRules([entry])


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "allowed"),
    [
        ("10.0.0.0/8", "a", 80, "10.1.2.3", True),
        ("10.0.0.7", "a", 80, "10.0.0.8", False),
        ("10.0.0.7:81", "a", 80, "10.0.0.7", False),
        ("10.0.0.7:80", "a", 80, "10.0.0.7", True),
        ("Inner.Example", "inner.example", 80, "10.0.0.7", True),
        ("inner.example:81", "inner.example", 80, "10.0.0.7", False),
        ("[fd00::1]:80", "a", 80, "fd00::1", True),
        ("fd00::1", "a", 80, "fd00::1", True),
        ("fd00::/8", "a", 80, "::ffff:10.0.0.1", False),
        ("10.0.0.0/8", "a", 80, "::ffff:10.0.0.1", False),
    ],
)
def test_entries(entry: str, host: str, port: int, address: str, allowed: bool) -> None:
    assert (EgressRules([entry]).refusal(host, port, ip_address(address)) == "") is allowed


def test_the_next_address_is_tried(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.pools.resolve = name_server(["127.0.0.9", "::1", "127.0.0.1"])
        at("inner.example")(gateway)
        assert (await gateway.get()).status == 200

    play(tmp_path, scenario, egress=EgressRules(["inner.example"]))


@contextmanager
def full_listener(host: str, port: int = 0) -> Iterator[int]:
    """A port whose queue is full: a connection to it is neither accepted nor refused. 0 is whichever is free."""
    with socket.socket() as listener:
        listener.bind((host, port))
        listener.listen(0)
        held = []
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)  # noqa: FBT003
            client.connect_ex((host, listener.getsockname()[1]))
            held.append(client)
        yield listener.getsockname()[1]
        for client in held:
            client.close()


def test_an_address_that_hangs_does_not_hold_up_the_next(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.pools.resolve = name_server(["127.0.0.9", "127.0.0.1"])
        at("inner.example")(gateway)
        patient = replace(gateway.world.version.upstream, connect_timeout_ms=int(3 * PATIENCE * 1000))
        change(gateway, upstream=patient)
        port = int(gateway.world.version.upstream.url.rpartition(":")[2])
        with full_listener("127.0.0.9", port):
            assert (await asyncio.wait_for(gateway.get(), PATIENCE / 2)).status == 200

    play(tmp_path, scenario, egress=EgressRules(["inner.example"]))


def test_connecting_has_a_deadline(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def never(host: str, port: int) -> list[Address]:
            await asyncio.sleep(60)
            return []

        upstream = UpstreamDocument(url="http://inner.example:1", connect_timeout_ms=300)
        change(gateway, upstream=upstream)
        gateway.worker.pools.resolve = never
        assert (await gateway.get()).status == 504
        assert last_outcome(gateway) == "upstream_timeout"
        gateway.worker.pools.resolve = name_server(["127.0.0.9"])
        with full_listener("127.0.0.9") as port:
            change(gateway, upstream=UpstreamDocument(url=f"http://i.example:{port}", connect_timeout_ms=300))
            assert (await gateway.get()).status == 504
        assert last_outcome(gateway) == "upstream_timeout"
        assert len(gateway.recorder.records) == 2

    play(tmp_path, scenario, egress=EgressRules(["inner.example", "i.example"]))


def test_a_name_that_is_not_known(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def unknown(host: str, port: int) -> list[Address]:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        gateway.worker.pools.resolve = unknown
        at("nowhere.example")(gateway)
        assert (await gateway.get()).status == 502
        assert last_outcome(gateway) == "upstream_unreachable"

    play(tmp_path, scenario)


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for ``secure.example`` that signs itself, and its key."""
    home = tmp_path_factory.mktemp("tls")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=secure.example", "-addext", "subjectAltName=DNS:secure.example",
         "-keyout", home / "key.pem", "-out", home / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    return home / "cert.pem", home / "key.pem"


@contextmanager
def tls_server(certificate: tuple[Path, Path], newest: ssl.TLSVersion) -> Iterator[tuple[int, list[object]]]:
    """A port that answers one call, and what it saw: the name it was asked for, and the request."""
    seen: list[object] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.maximum_version = newest
    context.sni_callback = lambda _socket, name, _context: seen.append(name)  # type: ignore[assignment,return-value]

    def serve() -> None:
        with suppress(OSError):
            client, _ = listener.accept()
            client.settimeout(PATIENCE)
            with context.wrap_socket(client, server_side=True) as secured:
                seen.append(secured.recv(4096))
                secured.sendall(response(b"ok"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], seen
        thread.join()


@pytest.mark.requirement("R1.3")
@pytest.mark.parametrize(
    ("host", "newest", "trust", "status"),
    [
        ("secure.example", ssl.TLSVersion.TLSv1_3, True, 200),
        ("secure.example", ssl.TLSVersion.TLSv1_2, True, 200),
        ("secure.example", ssl.TLSVersion.TLSv1_1, True, 502),
        ("secure.example", ssl.TLSVersion.TLSv1_3, False, 502),
        ("other.example", ssl.TLSVersion.TLSv1_3, True, 502),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_certificates_and_names_are_verified(
    tmp_path: Path,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    newest: ssl.TLSVersion,
    trust: bool,
    status: int,
) -> None:
    if trust:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    connect.tls_context.cache_clear()

    async def scenario(gateway: Running) -> None:
        with tls_server(certificate, newest) as (port, seen):
            change(gateway, upstream=UpstreamDocument(url=f"https://{host}:{port}", connect_timeout_ms=20_000))
            gateway.worker.pools.resolve = name_server(["127.0.0.1"])
            reply = await gateway.get()
        assert reply.status == status
        if status == 200:
            name, raw = seen
            assert name == host, "the name is asked for, though the connection goes to an address"
            assert f"\r\nHost: {host}:{port}\r\n".encode() in raw  # type: ignore[operator]
        else:
            assert not [part for part in seen if isinstance(part, bytes)]
            assert last_outcome(gateway) == "upstream_unreachable"
            assert b"certificate" in reply.body or b"TLS" in reply.body

    try:
        play(tmp_path, scenario)
    finally:
        connect.tls_context.cache_clear()


def test_a_handshake_has_a_deadline(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)

        gateway.upstream.handler = silent
        port = gateway.world.version.upstream.url.split(":")[2].split("/")[0]
        upstream = UpstreamDocument(url=f"https://a.example:{port}", connect_timeout_ms=300)
        change(gateway, upstream=upstream)
        gateway.worker.pools.resolve = name_server(["127.0.0.1"])
        assert (await gateway.get()).status == 504
        assert (last_outcome(gateway), len(gateway.recorder.records)) == ("upstream_timeout", 1)

    play(tmp_path, scenario)
