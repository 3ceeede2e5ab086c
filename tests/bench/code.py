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
from collections.abc import Iterator
from contextlib import ExitStack
from email.utils import formatdate
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple, cast

from apimgr.contracts.addresses import EgressRules
from proxy.dataplane import stats
from proxy.dataplane.limits.table import Table
from proxy.dataplane.listener import ClientConnection
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.upstreams.connection import UpstreamConnection
from proxy.dataplane.usage.spool import Spool
from proxy.dataplane.worker import Worker
from tests.bench.figures import Figure
from tests.bench.world import BODY, PEPPER, USUAL, Size, calls, make_keys, write_replica

CALLS: Final = 2_000
DIFFERENT: Final = 5_000  # more than blocks of fields are remembered
LIBRARY: Final = "User-Agent: python-requests/2.31.0\r\nAccept-Encoding: gzip, deflate\r\nAccept: */*\r\n"


class Case(NamedTuple):
    """``fields``: what callers send besides host and key; ``{n}`` in it differs from call to call."""

    name: str
    size: Size = USUAL
    fields: str = ""


CASES: Final = (
    Case("100 routes, 500 operations, 100 keys"),
    Case("one of each", Size(1, 1, 1)),
    Case("10,000 operations", Size(operations=10_000)),
    Case("10,000 keys", Size(keys=10_000)),
    Case("fields of a library", fields=LIBRARY),
    Case("and each call its traceparent", fields=LIBRARY + "traceparent: 00-{n:032x}-{n:016x}-01\r\n"),
    Case("and each call a field of its own", fields=LIBRARY + "X-Own: {n}\r\n"),
)


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
    """A worker with one caller's connection and one upstream connection."""

    def __init__(self, home: Path, case: Case) -> None:
        keys = make_keys(case.size.keys)
        write_replica(home / "replica", 1, keys, case.size)
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
        self._requests = cycle(list(_requests(case, keys)))

    def _upstream(self) -> UpstreamConnection:
        found = self.worker.runtime.version_at("", b"/api0/v1/items/0")
        assert found is not None, "the replica holds it"
        pool = self.worker.pools.of(found[0].target)
        connection = UpstreamConnection(pool)
        connection.connection_made(cast("Any", FakeTransport()))
        pool._open.add(connection)  # as if it had connected
        connection.release()
        return connection

    def calls(self, count: int = CALLS) -> None:
        ask, answer = self.client.data_received, self.upstream.data_received
        for number, request in enumerate(islice(self._requests, count)):
            if not number % 100:
                reply = _reply()  # its date moves on
            ask(request)
            answer(reply)

    def measure(self) -> float:
        """µs of CPU per call."""
        before, start = self.transport.written, time.process_time()
        self.calls()
        used = time.process_time() - start
        assert self.transport.written - before > CALLS * len(BODY), "each call was answered"
        return used / CALLS * 1e6


def _requests(case: Case, keys: list[str]) -> Iterator[bytes]:
    made = calls(case.size, keys)
    for n in range(max(len(made), DIFFERENT if "{n" in case.fields else 0)):
        path, key = made[n % len(made)]
        fields = case.fields.format(n=n)
        yield f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n{fields}X-Api-Key: {key}\r\n\r\n".encode()


def _reply() -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: {formatdate(usegmt=True)}\r\nContent-Type: application/json"
        f"\r\nContent-Length: {len(BODY)}\r\nConnection: keep-alive\r\n\r\n{BODY}"
    ).encode()


def run(rounds: int = 40) -> list[Figure]:
    """Measure and print, the cases taking turns: the best round, and the median of how it compares with the first."""
    with ExitStack() as stack:
        benches = [Bench(_home(stack), case) for case in CASES]
        for bench in benches:
            bench.calls(12_000)  # each key once, at least
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 20)
        rounds_of = list(zip(*([bench.measure() for bench in benches] for _ in range(rounds)), strict=True))
    print(f"\nthe gateway's own code, {rounds} rounds of {CALLS:,} calls:\n")
    print(f"{'':40}{'CPU µs/call':>13}{'more':>9}")
    for case, times in zip(CASES, rounds_of, strict=True):
        more = median(mine - first for mine, first in zip(times, rounds_of[0], strict=True))
        print(f"{case.name:40}{min(times):13.2f}{more:+9.2f}")
    return []


def profile() -> list[Figure]:
    """Where the time goes, by function; that of small ones is overstated."""
    with ExitStack() as stack:
        bench = Bench(_home(stack), CASES[0])
        bench.calls()
        profiler = cProfile.Profile()
        profiler.runcall(bench.calls, 20_000)
    pstats.Stats(profiler).sort_stats("tottime").print_stats(45)
    return []


def _home(stack: ExitStack) -> Path:
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
