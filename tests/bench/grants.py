"""How many subscriptions an agent can have granted in a second, each for the first time, from a Redis of its own.

That is what the first minute of a busy day asks of it: later a lease is asked for ahead of time, many calls at once.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Final

from apimgr.contracts.snapshot import LimitDocument
from proxy.dataplane.limits.grantor import Grantor, Server
from proxy.dataplane.limits.table import ASKED, LEASE, LEASE_UNTIL, Table
from tests.bench.figures import Figure
from tests.redis_server import RedisServer

SLOTS: Final = 5_000
KINDS: Final = (("rate", "minute"), ("quota", "month"), ("concurrency", "none"))


def run(rounds: int = 3) -> list[Figure]:
    """Measure and print: first grants a second for each kind of limit, and the CPU that one takes."""
    print(f"\ngrants to {SLOTS:,} subscriptions that are new to agent and Redis, medians of {rounds} rounds:\n")
    print(f"{'':40}{'grants/s':>13}{'µs of agent':>13}{'µs of Redis':>13}")
    for kind, period in KINDS:
        with tempfile.TemporaryDirectory(prefix="apimgr-bench-") as folder:
            server = RedisServer(Path(folder) / "redis")
            try:
                limit = LimitDocument(1, kind, 1000, period)  # type: ignore[arg-type]
                measured = [
                    asyncio.run(_measure(Path(folder) / str(number), server, limit)) for number in range(rounds)
                ]
            finally:
                server.close()
        took, of_agent, of_redis = (median(times) / SLOTS for times in zip(*measured, strict=True))
        print(f"{kind:40}{1 / took:13,.0f}{of_agent * 1e6:13.1f}{of_redis * 1e6:13.1f}")
    return []


async def _measure(folder: Path, redis_server: RedisServer, limit: LimitDocument) -> tuple[float, float, float]:
    """Seconds; those of CPU in this process; and in Redis."""
    agent = Grantor(redis_server.url, folder / "table", folder.name)
    agent._table = table = Table(folder / "table", time.time(), shared=True)
    agent._node = folder.name
    agent._answer = lambda asked: None  # type: ignore[method-assign]  # nobody waits
    async with agent._connect() as redis:
        server = Server(redis, agent._node)
        await server.open()
        while not agent.is_open:
            await agent._beat(server)
            await asyncio.sleep(0.1)
        slots = [table.slot(owner, limit, 0, time.time()) for owner in range(1, SLOTS + 1)]
        for at in slots:
            table.cells[at + ASKED] = 1
        agent._asking = {at: {1} for at in slots}
        before, began, used = redis_server.cpu_seconds(), time.perf_counter(), time.process_time()
        while agent._asking:
            await agent._look(server)
        took = time.perf_counter() - began, time.process_time() - used, redis_server.cpu_seconds() - before
    assert all(table.cells[at + LEASE] or table.cells[at + LEASE_UNTIL] for at in slots), "each was granted"
    table.close()
    return took
