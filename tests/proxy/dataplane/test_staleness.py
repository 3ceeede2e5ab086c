"""A node that is cut off from its configuration cannot know what was revoked: it may be told to refuse."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.proxy.dataplane.support import Running, until
from tests.proxy.dataplane.test_gateway import last_outcome, play

pytestmark = pytest.mark.processes


def test_a_node_cut_off_for_too_long_refuses_until_it_is_back(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        replica = gateway.world.replica
        replica.last_in_touch = int(time.time()) - 100
        await asyncio.sleep(0.25)
        assert (await gateway.get()).status == 200, "served for ever unless told otherwise"

        gateway.worker.max_staleness = 60
        await until(lambda: gateway.worker.runtime.is_stale)
        reply = await gateway.get()
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert last_outcome(gateway) == "gateway_stale"
        assert len(gateway.upstream.received) == 1

        replica.last_in_touch = int(time.time())
        await until(lambda: not gateway.worker.runtime.is_stale)
        assert (await gateway.get()).status == 200

    play(tmp_path, scenario)
