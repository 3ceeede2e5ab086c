"""``python -m tests.proxy.usage.long_life VAR DATABASE_URL ROUNDS``: what an agent keeps of what it ships and tells.

In a process of its own, where nobody else keeps anything. Prints the blocks of memory in use after half as many rounds
and after all, and how many records were stored.
"""

from __future__ import annotations

import gc
import sys

import django
from psycopg import AsyncConnection

from apimgr.contracts.usage import encode
from proxy.dataplane import stats
from proxy.dataplane.agent import Agent
from proxy.dataplane.config import from_environment
from proxy.dataplane.usage.durability import Durability
from proxy.dataplane.usage.spool import Spool
from proxy.dataplane.usage.store import Store

django.setup()  # the next one's models want it

from tests.analytics.calls import call  # noqa: E402
from tests.asynchronous import run  # noqa: E402


async def live(var: str, database: str, rounds: int) -> tuple[int, int, int]:
    config = from_environment({"APIMGR_VAR": var, "APIMGR_KEY_PEPPER": "p" * 32, "APIMGR_NODE_NAME": "long"})
    stats.reset(config.stats_path)
    agent = Agent(config)
    async with await AsyncConnection.connect(database, autocommit=True) as connection:
        store, durability = Store(config.node_name, connection), Durability(config.spool_root)

        async def go_through(rounds: int) -> int:
            for number in range(rounds):
                if not number % 50:  # segments end and others begin
                    workers = [Spool(config.spool_path, worker) for worker in range(2)]
                for spool in workers:
                    spool.append(encode(call(path=b"/things/%d" % number)))
                await agent.ship_once(store)
                if not number % 10:
                    durability.sync()
                    await agent.heart.beat(connection, agent.counters(), None)
                    await agent.close_earlier_boots(connection)
                    agent.metrics()
                if number % 50 == 49:
                    for spool in workers:
                        spool.close()
            gc.collect()
            return sys.getallocatedblocks()

        before, after = await go_through(rounds // 2), await go_through(rounds)
    stored = agent.shipped().stored
    agent.writer.close()
    return before, after, stored


if __name__ == "__main__":
    print(*run(lambda: live(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
