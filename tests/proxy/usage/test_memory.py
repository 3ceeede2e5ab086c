"""An agent runs for months: of what it shipped and told it keeps nothing."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Final

import pytest
from psycopg import AsyncConnection

from apimgr.contracts.usage import encode
from proxy.dataplane import stats
from proxy.dataplane.agent import Agent
from proxy.dataplane.config import from_environment
from proxy.dataplane.usage.durability import Durability
from proxy.dataplane.usage.spool import Spool
from proxy.dataplane.usage.store import Store
from tests.analytics.calls import call
from tests.asynchronous import run as in_loop
from tests.proxy.processes.node import database_url

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS: Final = 500  # of two batches each; half as many before it counts
MOST_OBJECTS_A_ROUND: Final = 0.5  # what is kept of a round, or of one of its batches, is an object at least


def test_an_agent_keeps_nothing_of_a_thousand_batches(tmp_path: Path, transactional_db: None) -> None:
    config = from_environment({"APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": "p" * 32, "APIMGR_NODE_NAME": "long"})
    stats.reset(config.stats_path)
    agent = Agent(config)

    async def ship_and_tell() -> tuple[int, int]:
        async with await AsyncConnection.connect(database_url(), autocommit=True) as connection:
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

            return await go_through(ROUNDS // 2), await go_through(ROUNDS)

    before, after = in_loop(ship_and_tell)
    assert agent.shipped().stored == 3 * ROUNDS
    assert after - before < ROUNDS * MOST_OBJECTS_A_ROUND
    agent.writer.close()
