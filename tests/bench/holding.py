"""What the gateway holds: thousands of idle connections beside good traffic, and bodies of 100 MB both ways."""

from __future__ import annotations

import asyncio
import resource
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench import peers
from tests.bench.measure import Contestant, cpu_seconds, load_script, measure, require, rss_mb, split_cores
from tests.bench.world import USUAL, make_keys

IDLE = 10_000
BIG_BYTES = 100 * 1024 * 1024


def run(idle: int = IDLE, seconds: int = 4) -> None:
    require("nginx", "wrk", "taskset")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    core, others = split_cores()
    keys = make_keys(USUAL.keys)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        upstream = stack.enter_context(peers.nginx(home / "upstream", peers.upstream_config, others)).port
        (home / "upstream" / "base").mkdir()
        (home / "upstream" / "base" / "big").write_bytes(bytes(BIG_BYTES))
        (home / "upstream" / "base" / "big").chmod(0o644)
        gateways = [
            stack.enter_context(
                peers.nginx(home / "nginx", lambda port: peers.gateway_config(port, upstream, keys), core)
            ),
            stack.enter_context(peers.apimgr(home / "apimgr", upstream, keys, core)),
        ]
        script = load_script(home / "load.lua", [(f"/api{n}/v1/items/{n}", key) for n, key in enumerate(keys)])
        _idle_connections(gateways[1], script, others, idle, seconds)
        _large_bodies(gateways, keys[0])


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


@contextmanager
def _held(port: int, count: int) -> Iterator[None]:
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
        yield
    finally:
        for connection in held:
            connection.close()


def _large_bodies(gateways: list[Contestant], key: str) -> None:
    print(f"\nbodies of {BIG_BYTES // 2**20} MB, one call at a time:\n")
    print(f"{'':12}{'down MB/s':>11}{'CPU ms':>9}{'grew MB':>9}")
    for gateway in gateways:
        before, used = rss_mb(gateway.pids), _cpu_ms(gateway)
        began = time.perf_counter()
        asyncio.run(_download(gateway.port, key))
        took = time.perf_counter() - began
        grew = rss_mb(gateway.pids) - before
        print(f"{gateway.name:12}{BIG_BYTES / 2**20 / took:11.0f}{_cpu_ms(gateway) - used:9.0f}{grew:9.1f}")


def _cpu_ms(gateway: Contestant) -> float:
    return sum(cpu_seconds(gateway.pids)) * 1000


async def _download(port: int, key: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write(f"GET /api0/v1/big HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nConnection: close\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    read = 0
    while data := await reader.read(2**20):
        read += len(data)
    assert read == BIG_BYTES, f"{read} bytes came of {BIG_BYTES}"
    writer.close()
    await writer.wait_closed()
