"""What limits are counted with: the server by which hosts share them is gone, emptied or frozen, a process is stopped.

The plan is open and its limits are generous, so nothing is excused of the server: no call may fail. That quotas hold
meanwhile is proven with three gateways (``tests/proxy/processes/test_limits_of_hosts.py``).
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
from tests.faults.stage import SUBSCRIPTION, Stage, wait_until
from tests.proxy.holder import holding
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


def _times_shared(stage: Stage) -> int:
    return stage.node.log.read_text().count("Limits are shared with ")


@fault
def redis_is_killed(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """And comes back without a memory."""
    with sharing(stage) as server:
        load = stage.load(rate=scale.rate)
        for _ in range(max(2, scale.kills // 10)):
            server.kill()
            is_shared(stage, 0)
            passed = stage.node.metric("ungranted_total")
            wait_until(lambda passed=passed: stage.node.metric("ungranted_total") > passed, 30, "calls pass ungranted")  # type: ignore[misc]
            time.sleep(chance.uniform(0.1, 1))
            server.start()
            is_shared(stage, 1)
            time.sleep(chance.uniform(0.1, 1))
        return stage.verdict(load)


@fault
def redis_is_emptied(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    with sharing(stage) as server:
        load = stage.load(rate=scale.rate)
        for _ in range(max(2, scale.kills // 10)):
            before = _times_shared(stage)
            server.empty()
            # For a second only they are not shared: nobody can be sure to look just then.
            wait_until(lambda before=before: _times_shared(stage) > before, 30, "they are shared anew")  # type: ignore[misc]
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


@fault
def a_process_is_stopped_while_it_counts(stage: Stage, scale: Scale, chance: random.Random) -> Verdict:
    """Calls that would spend of the same are refused until it has ended; a revocation is heard all the same."""
    stage.publish(limits=LIMITS)
    table = stage.node.home / "gateway" / "limits" / "table"
    load = stage.load(rate=scale.rate)
    for _ in range(max(2, scale.kills // 10)):
        with stage.excused():
            with holding(table, SUBSCRIPTION):
                stage.wait_for_answers(503)
                time.sleep(chance.uniform(0.5, 1.5))
            stage.wait_for_answers(200)
        time.sleep(chance.uniform(0.5, 1))
    with stage.excused(), holding(table, SUBSCRIPTION):
        stage.wait_for_answers(503)
        stage.revoke()
        stage.wait_for_answers(401)
    assert {call.status for call in load.calls} == {200, 503, 401}
    time.sleep(1.5)
    return stage.verdict(load)
