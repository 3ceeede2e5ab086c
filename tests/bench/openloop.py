"""Latency that the gateway adds at half load, if the machine can make it: the same arrivals with and without it.

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
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import cast

import uvloop

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
    """Measure and print: latency with and without the gateway in between."""
    require("nginx", "wrk", "taskset")
    core, others = split_cores()
    keys = make_keys(USUAL.keys)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        upstream = stack.enter_context(peers.nginx(home / "upstream", peers.upstream_config, others))
        gateway = stack.enter_context(peers.apimgr(home / "apimgr", upstream.port, keys, core))
        script = load_script(home / "load.lua", [(f"/api{n}/v1/items/{n}", key) for n, key in enumerate(keys)])
        measure(gateway, script, others, 1)
        half = _capacity(gateway, script, others) / 2
        requests = [
            f"GET /api{n}/v1/items/{n} HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key}\r\n\r\n".encode()
            for n, key in enumerate(keys)
        ]
        _pin(others)
        rate = min(half, MOST_RATE * len(others.split(",")))
        rounds_of = {"direct": [], "through the gateway": []}
        for number in range(rounds):
            for name, port in (("direct", upstream.port), ("through the gateway", gateway.port)):
                rounds_of[name].append(_latencies(port, requests, rate, seconds, seed=number))
    share = rate / half / 2
    print(f"\nopen loop, {rate:,.0f} calls a second, {share:.0%} of what one core of the gateway does,")
    print(f"{CONNECTIONS} connections, medians of {rounds} rounds of {seconds} s, ms:\n")
    print(f"{'':22}{'p50':>9}{'p99':>9}{'p99.9':>9}")
    for name, each in rounds_of.items():
        print(
            f"{name:22}"
            + "".join(f"{median(_at(found, share) for found in each):9.3f}" for share in (0.5, 0.99, 0.999))
        )
    added = [
        median(
            _at(through, share) - _at(direct, share)
            for direct, through in zip(rounds_of["direct"], rounds_of["through the gateway"], strict=True)
        )
        for share in SHARES
    ]
    _print("added", added)
    return [
        Figure(f"latency added at {share:.0%} of its capacity, p50", added[0], "ms", 0.3),
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


def _pin(cores: str) -> None:
    os.sched_setaffinity(0, {int(core) for core in cores.split(",")})


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
