"""The server by which hosts share limits is gone, emptied or frozen.

The plan is open and its limits are generous, so nothing is excused: no call may fail. That quotas hold meanwhile is
proven with three gateways (``tests/proxy/processes/test_limits_of_hosts.py``).
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from apimgr.contracts.snapshot import LimitDocument
from tests.faults.checker import Verdict
from tests.faults.faults import Scale, fault
from tests.faults.stage import Stage, wait_until
from tests.redis_server import RedisServer

LIMITS: Final = (
    LimitDocument(1, "rate", 100_000, "second"),
    LimitDocument(2, "quota", 10**9, "month"),
    LimitDocument(3, "concurrency", 1000, "none"),
)


@contextmanager
def sharing(stage: Stage) -> Iterator[RedisServer]:
    """Have the stage's node share its limits by a Redis of its own."""
    server = RedisServer(stage.home / "redis")
    try:
        stage.publish(limits=LIMITS)
        stage.restart(APIMGR_GATEWAY_LIMITS_URL=server.url)
        is_shared(stage, 1)
        yield server
    finally:
        server.close()


def is_shared(stage: Stage, told: int) -> None:
    wait_until(lambda: stage.node.metric("limits_shared") == told, 30, f"limits_shared is {told}")


@fault
def redis_is_killed(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """And comes back without a memory."""
    with sharing(stage) as server:
        load = stage.load(rate=scale.rate)
        for _ in range(max(2, scale.kills // 10)):
            server.kill()
            is_shared(stage, 0)
            time.sleep(chance.uniform(0.1, 1))
            server.start()
            is_shared(stage, 1)
            time.sleep(chance.uniform(0.1, 1))
        assert stage.node.metric("ungranted_total") > 0, "calls passed without a grant"
        return stage.verdict(load)


@fault
def redis_is_emptied(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    with sharing(stage) as server:
        load = stage.load(rate=scale.rate)
        for _ in range(max(2, scale.kills // 10)):
            server.empty()
            is_shared(stage, 0)
            is_shared(stage, 1)
            time.sleep(chance.uniform(0.1, 1))
        return stage.verdict(load)


@fault
def redis_is_frozen(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Too slow by far: what was asked is answered seconds later, when nobody waits any more."""
    with sharing(stage) as server:
        load = stage.load(rate=scale.rate)
        for _ in range(max(1, scale.kills // 20)):
            server.freeze()
            try:
                is_shared(stage, 0)
                time.sleep(chance.uniform(1, 3))
            finally:
                server.thaw()
            is_shared(stage, 1)
        return stage.verdict(load)
