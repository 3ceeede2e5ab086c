"""The gateway's own code, without sockets: µs of CPU for a call whose bytes come from memory.

The rest of what ``tests.bench gateway`` shows is the kernel and the event loop. This part is steady even on a busy
machine, so it is what to look at when the code changes.
"""

from __future__ import annotations

import cProfile
import gc
import pstats
import tempfile
import time
from email.utils import formatdate
from pathlib import Path
from statistics import median
from typing import Any, cast

from apimgr.contracts.addresses import EgressRules
from proxy.dataplane import stats
from proxy.dataplane.limits.table import Table
from proxy.dataplane.listener import ClientConnection
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.upstreams.connection import UpstreamConnection
from proxy.dataplane.usage.spool import Spool
from proxy.dataplane.worker import Worker
from tests.bench.world import BODY, PEPPER, USUAL, make_keys, write_replica

CALLS = 2_000


class FakeTransport:
    """Takes what is written and counts it."""

    written = 0

    def write(self, data: bytes) -> None:
        self.written += len(data)

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else None


class Bench:
    """A worker with one caller's connection and one upstream connection per API."""

    def __init__(self, home: Path) -> None:
        keys = make_keys(USUAL.keys)
        write_replica(home / "replica", 1, keys)
        self.worker = Worker(
            replica=ReplicaReader(home / "replica"),
            recorder=Spool(home / "spool" / "1", 0),
            limits=Table(home / "limits", time.time(), may_be_alone=True),
            stats_block=stats.open_block(home / "stats", 0),
            pepper=PEPPER.encode(),
            node_name="bench",
            max_connections=100,
            egress=EgressRules(["127.0.0.1"]),
        )
        self.client = ClientConnection(self.worker)
        self.transport = FakeTransport()
        self.client.connection_made(cast("Any", self.transport))
        self.upstream = self._upstream()
        self.requests = [
            f"GET /api{n}/v1/items/{n} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nX-Api-Key: {key}\r\n\r\n".encode()
            for n, key in enumerate(keys)
        ]

    def _upstream(self) -> UpstreamConnection:
        found = self.worker.runtime.version_at("", b"/api0/v1/items/0")
        assert found is not None, "the replica holds it"
        pool = self.worker.pools.of(found[0].target)
        connection = UpstreamConnection(pool)
        connection.connection_made(cast("Any", FakeTransport()))
        pool._open.add(connection)  # as if it had connected
        connection.release()
        return connection

    def calls(self, count: int) -> None:
        requests, ask, answer = self.requests, self.client.data_received, self.upstream.data_received
        for number in range(count):
            if not number % 100:
                reply = _reply()  # its date moves on
            ask(requests[number % USUAL.keys])
            answer(reply)


def _reply() -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: {formatdate(usegmt=True)}\r\nContent-Type: application/json"
        f"\r\nContent-Length: {len(BODY)}\r\nConnection: keep-alive\r\n\r\n{BODY}"
    ).encode()


def run(rounds: int = 150) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="apimgr-bench-") as home:
        bench = Bench(Path(home))
        bench.calls(CALLS)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        before = bench.transport.written
        times = []
        for _ in range(rounds):
            start = time.process_time()
            bench.calls(CALLS)
            times.append((time.process_time() - start) / CALLS * 1e6)
        assert bench.transport.written - before > rounds * CALLS * len(BODY), "each call was answered"
    print(f"the gateway's code: {min(times):.2f} µs CPU per call at best, {median(times):.2f} as a median")


def profile() -> None:
    with tempfile.TemporaryDirectory(prefix="apimgr-bench-") as home:
        bench = Bench(Path(home))
        bench.calls(CALLS)
        profiler = cProfile.Profile()
        profiler.runcall(bench.calls, 20_000)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
