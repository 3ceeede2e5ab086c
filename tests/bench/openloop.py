"""Latency that the gateway adds at half load, if the machine can make it: the same arrivals with and without it.

Where load and upstream have one core they make no more than a quarter of what the compiled gateway does. So the gateway
is measured as Python as well, which does half as much: of that they can make half.

An open loop: calls are due at times drawn beforehand (a Poisson process, seeded) and their latency counts from when
they were due, so that a slow answer cannot hide the calls that waited behind it.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import cast

import uvloop

from proxy.dataplane.compiled import is_in_use
from tests.bench import peers
from tests.bench.figures import Figure
from tests.bench.measure import Contestant, load_script, measure, require, split_cores
from tests.bench.world import USUAL, make_keys

CONNECTIONS = 64
SHARES = (0.5, 0.99, 0.999)
MOST_RATE = 12_000  # calls a second that load and upstream make on a core; of more one would measure their queue


class _Caller(asyncio.Protocol):
    """A kept connection that has at most one call under way."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._due = 0.0
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._load.free.append(self)

    def call(self, request: bytes, due: float) -> None:
        self._due = due
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if not self._left:
            head, _, body = data.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            assert head.startswith(b"HTTP/1.1 200"), head
            self._left = int(length) - len(body)
        else:
            self._left -= len(data)
        if not self._left:
            self._load.answered(self, time.perf_counter() - self._due)


class Load:
    """``rate`` calls a second to ``port`` for ``seconds``; ``latencies`` in seconds afterwards."""

    def __init__(self, port: int, requests: list[bytes], rate: float, seconds: float, seed: int) -> None:
        self.free: list[_Caller] = []
        self.latencies: list[float] = []
        self._port = port
        self._requests = requests
        self._rate = rate
        self._seconds = seconds
        self._random = random.Random(seed)
        self._late: deque[float] = deque()
        self._sent = 0

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(CONNECTIONS):
            await loop.create_connection(lambda: _Caller(self), "127.0.0.1", self._port)
        now = time.perf_counter()
        due, end = now, now + self._seconds
        while due < end:
            due += self._random.expovariate(self._rate)
            # The last stretch is spun away: a timer is a millisecond coarse, which is what is to be measured.
            while (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait - 0.0015 if wait > 0.002 else 0)
            self._begin(due)
        while len(self.latencies) < self._sent:
            await asyncio.sleep(0.01)

    def _begin(self, due: float) -> None:
        if not self.free:
            self._late.append(due)
            return
        self._sent += 1
        self.free.pop().call(self._requests[self._sent % len(self._requests)], due)

    def answered(self, caller: _Caller, latency: float) -> None:
        self.latencies.append(latency)
        self.free.append(caller)
        if self._late:
            self._begin(self._late.popleft())


def run(rounds: int = 5, seconds: int = 4) -> list[Figure]:
    """Measure and print, for the compiled gateway and as Python: latency with and without it in between."""
    require("nginx", "wrk", "taskset")
    _, others = split_cores()
    figures = []
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        upstream = stack.enter_context(peers.nginx(home / "upstream", peers.upstream_config, others))
        if not is_in_use():
            print("The gateway is not compiled here: `make compiled`", file=sys.stderr)
        for compiled in (True, False) if is_in_use() else (False,):
            figures += _added(home, upstream.port, rounds, seconds, compiled=compiled)
    return figures


def _added(home: Path, upstream: int, rounds: int, seconds: int, *, compiled: bool) -> list[Figure]:
    core, others = split_cores()
    keys = make_keys(USUAL.keys)
    paths = [(f"/api{n}/v1/items/{n}", key) for n, key in enumerate(keys)]
    form = "GET {} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {}\r\n\r\n"
    requests = [form.format(path, key).encode() for path, key in paths]
    name = "compiled" if compiled else "as Python"
    direct, through = [], []
    with peers.apimgr(home / name, upstream, keys, core, compiled=compiled) as gateway:
        script = load_script(home / "load.lua", paths)
        measure(gateway, script, others, 1)
        capacity = _capacity(gateway, script, others)
        rate = min(capacity / 2, MOST_RATE * len(others.split(",")))
        with _pinned(others):
            for number in range(rounds):
                direct.append(_latencies(upstream, requests, rate, seconds, seed=number))
                through.append(_latencies(gateway.port, requests, rate, seconds, seed=number))
    of_what = f"{rate / capacity:.0%} of the {capacity:,.0f} that one core does"
    print(f"\nopen loop, {name}: {rate:,.0f} calls a second, {of_what};")
    print(f"{CONNECTIONS} connections, medians of {rounds} rounds of {seconds} s, ms:\n")
    print(f"{'':22}{'p50':>9}{'p99':>9}{'p99.9':>9}")
    for title, found in (("direct", direct), ("through the gateway", through)):
        _print(title, [median(_at(one, share) for one in found) for share in SHARES])
    pairs = list(zip(direct, through, strict=True))
    added = [median(_at(mine, share) - _at(base, share) for base, mine in pairs) for share in SHARES]
    _print("added", added)
    return [
        Figure(f"latency added at {rate / capacity:.0%} of its capacity, {name}, p50", added[0], "ms", 0.3),
        Figure("the same, p99", added[1], "ms", 2),
    ]


def _latencies(port: int, requests: list[bytes], rate: float, seconds: float, seed: int) -> list[float]:
    """In seconds, sorted."""
    load = Load(port, requests, rate, seconds, seed)
    uvloop.run(load.run())
    return sorted(load.latencies)


def _print(name: str, values: list[float]) -> None:
    print(f"{name:22}" + "".join(f"{value:9.3f}" for value in values))


def _capacity(gateway: Contestant, script: Path, others: str) -> float:
    """Calls a second that one core could serve."""
    return 1e6 / measure(gateway, script, others, 3).cpu_us


def _at(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000


@contextmanager
def _pinned(cores: str) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
