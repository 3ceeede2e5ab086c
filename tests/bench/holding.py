"""What the gateway holds: thousands of idle, slow or insistent callers beside good ones, and bodies of 100 MB."""

from __future__ import annotations

import asyncio
import resource
import selectors
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.bench import peers
from tests.bench.figures import Figure
from tests.bench.measure import Contestant, cpu_seconds, load_script, measure, own_mb, require, rss_mb, split_cores
from tests.bench.world import USUAL, make_keys

IDLE = 10_000
SLOW = 5_000
PIPELINING = 4_000
BIG_BYTES = 100 * 1024 * 1024
LOOKS = 25


def run(idle: int = IDLE, seconds: int = 4) -> list[Figure]:
    """Measure and print: what idle connections cost those that work, and what large bodies cost."""
    require("nginx", "wrk", "taskset")
    room = _make_room(2 * max(idle, SLOW) + 1000) // 2 - 100  # the gateway keeps as many again for upstreams
    idle, slow = min(idle, room), min(SLOW, room)
    core, others = split_cores()
    keys = make_keys(USUAL.keys)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        upstream = stack.enter_context(peers.nginx(home / "upstream", peers.upstream_config, others)).port
        (home / "upstream" / "base").mkdir()
        (home / "upstream" / "base").chmod(0o777)  # uploads are written by nginx's own user
        (home / "upstream" / "base" / "big").write_bytes(bytes(BIG_BYTES))
        (home / "upstream" / "base" / "big").chmod(0o644)
        gateways = [
            stack.enter_context(
                peers.nginx(home / "nginx", lambda port: peers.gateway_config(port, upstream, keys), core)
            ),
            stack.enter_context(peers.apimgr(home / "apimgr", upstream, keys, core, connections=max(idle, slow) + 200)),
        ]
        script = load_script(home / "load.lua", [(f"/api{n}/v1/items/{n}", key) for n, key in enumerate(keys)])
        _idle_connections(gateways[1], script, others, idle, seconds)
        grown = _slow_connections(gateways[1], script, others, slow, seconds)
        pipelining = min(PIPELINING, room)
        waited = _beside_pipelines(gateways[1], script, others, pipelining, seconds)
        grew = _large_bodies(gateways, keys[0])
    return [
        Figure(f"p99 beside {slow:,} slow heads, against without", grown, "×", 2),
        Figure(f"p99 beside {pipelining:,} that send refused requests without pause", waited, "ms", 100),
        Figure(f"memory grown by bodies of {BIG_BYTES // 2**20} MB", grew, "MB", 4),
    ]


def _make_room(files: int) -> int:
    """How many files we and what we start may have open: ``files`` if this is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, max(files, hard)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return files


def _idle_connections(gateway: Contestant, script: Path, others: str, count: int, seconds: int) -> None:
    measure(gateway, script, others, 1)
    before, without = rss_mb(gateway.pids), measure(gateway, script, others, seconds)
    with _held(gateway.port, count):
        time.sleep(1)
        held, beside = rss_mb(gateway.pids), measure(gateway, script, others, seconds)
    print(f"\n{count:,} idle connections beside 64 that work:\n")
    print(f"{'':12}{'CPU µs/call':>13}{'p50 ms':>9}{'p99 ms':>9}{'RSS MB':>9}")
    for name, entry, rss in (("without", without, before), ("beside", beside, held)):
        print(f"{name:12}{entry.cpu_us:13.1f}{entry.p50_ms:9.2f}{entry.p99_ms:9.2f}{rss:9.1f}")
    print(f"an idle connection holds {(held - before) * 1024 / count:.2f} KiB")


def _slow_connections(gateway: Contestant, script: Path, others: str, count: int, seconds: int) -> float:
    """Heads that come byte by byte: good calls' p99 should not even double (H13)."""
    without = measure(gateway, script, others, seconds)
    with _held(gateway.port, count) as held, _trickling(held):
        beside = measure(gateway, script, others, seconds)
    print(f"\n{count:,} heads that come byte by byte, beside 64 connections that work:\n")
    print(f"{'':12}{'CPU µs/call':>13}{'p50 ms':>9}{'p99 ms':>9}")
    for name, entry in (("without", without), ("beside", beside)):
        print(f"{name:12}{entry.cpu_us:13.1f}{entry.p50_ms:9.2f}{entry.p99_ms:9.2f}")
    return beside.p99_ms / without.p99_ms


@contextmanager
def _trickling(connections: list[socket.socket]) -> Iterator[None]:
    """One more byte of a head on each connection about once a second, from a thread."""
    over = threading.Event()

    def trickle() -> None:
        for byte in b"GET /" + b"a" * 1000:
            began = time.monotonic()
            for connection in connections:
                with suppress(OSError):
                    connection.send(bytes((byte,)))
            if over.wait(max(0.0, 1 - (time.monotonic() - began))):
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _beside_pipelines(gateway: Contestant, script: Path, others: str, count: int, seconds: int) -> float:
    """Callers who send without pause what is refused: what a good call waits is what the worker's clock does, too."""
    without = measure(gateway, script, others, seconds)
    with _held(gateway.port, count) as held, _pipelining(held):
        time.sleep(2)
        beside = measure(gateway, script, others, seconds)
    print(f"\n{count:,} connections that send refused requests without pause, beside 64 that work:\n")
    print(f"{'':12}{'calls/s':>9}{'p50 ms':>9}{'p99 ms':>9}")
    for name, entry in (("without", without), ("beside", beside)):
        print(f"{name:12}{entry.rate:9,.0f}{entry.p50_ms:9.2f}{entry.p99_ms:9.2f}")
    return beside.p99_ms


@contextmanager
def _pipelining(connections: list[socket.socket]) -> Iterator[None]:
    """As many requests on each connection as it takes, from a thread."""
    requests = memoryview(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n" * 400)
    over = threading.Event()

    def send_and_read() -> None:
        sent = dict.fromkeys(connections, 0)
        with selectors.DefaultSelector() as selector:
            for connection in connections:
                connection.settimeout(0)
                selector.register(connection, selectors.EVENT_READ | selectors.EVENT_WRITE)
            while not over.is_set():
                for key, ready in selector.select(0.1):
                    connection = key.fileobj
                    assert isinstance(connection, socket.socket)
                    with suppress(OSError):
                        if ready & selectors.EVENT_READ:
                            connection.recv(65_536)
                        if ready & selectors.EVENT_WRITE:
                            sent[connection] += connection.send(requests[sent[connection] % len(requests) :])

    thread = threading.Thread(target=send_and_read)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _held(port: int, count: int) -> Iterator[list[socket.socket]]:
    """Connections from several addresses of loopback: one address has too few ports for many."""
    held = []
    try:
        for number in range(count):
            source = (f"127.0.1.{number // 2000 + 1}", 0)
            held.append(socket.create_connection(("127.0.0.1", port), 10, source_address=source))
        for connection in held:  # a first call each, as idle connections have had
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        for connection in held:
            assert connection.recv(4096).startswith(b"HTTP/1.1 404")
        yield held
    finally:
        for connection in held:
            connection.close()


def _large_bodies(gateways: list[Contestant], key: str) -> float:
    """The most that the gateway's memory grew by while a body went through it, in MB."""
    print(f"\nbodies of {BIG_BYTES // 2**20} MB, one call at a time; memory is looked at 25 times in each:\n")
    print(f"{'':12}{'':6}{'MB/s':>9}{'CPU ms':>9}{'grew MB':>9}")
    most = 0.0
    for gateway in gateways:
        for name, transfer in (("down", _download), ("up", _upload)):
            before, used, began = own_mb(gateway.pids), _cpu_ms(gateway), time.perf_counter()
            grew = asyncio.run(transfer(gateway, key)) - before
            rate, cpu = BIG_BYTES / 2**20 / (time.perf_counter() - began), _cpu_ms(gateway) - used
            print(f"{gateway.name:12}{name:6}{rate:9.0f}{cpu:9.0f}{grew:9.1f}")
            if gateway.name == "apimgr":
                most = max(most, grew)
    return most


def _cpu_ms(gateway: Contestant) -> float:
    return sum(cpu_seconds(gateway.pids)) * 1000


async def _download(gateway: Contestant, key: str) -> float:
    """Returns the most memory seen meanwhile."""
    reader, writer = await _open(gateway, f"GET /api0/v1/big HTTP/1.1\r\nX-Api-Key: {key}\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    read, most = 0, 0.0
    for _ in range(LOOKS):
        read += len(await reader.readexactly(BIG_BYTES // LOOKS))
        most = max(most, own_mb(gateway.pids))
    read += len(await reader.read())
    assert read == BIG_BYTES, f"{read} bytes came of {BIG_BYTES}"
    await _close(writer)
    return most


async def _upload(gateway: Contestant, key: str) -> float:
    """Returns the most memory seen meanwhile."""
    head = f"PUT /api0/v1/upload HTTP/1.1\r\nX-Api-Key: {key}\r\nContent-Length: {BIG_BYTES}\r\n"
    reader, writer = await _open(gateway, head)
    piece, most = bytes(BIG_BYTES // LOOKS), 0.0
    for _ in range(LOOKS):
        writer.write(piece)
        await writer.drain()
        most = max(most, own_mb(gateway.pids))
    answer = await reader.readuntil(b"\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 201", b"HTTP/1.1 204")), answer
    await _close(writer)
    return most


async def _open(gateway: Contestant, head: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=2**20)
    writer.write(f"{head}Host: x\r\nConnection: close\r\n\r\n".encode())
    return reader, writer


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()
