"""A node of two workers that shares its limits, and a process that stands still with a lock of its table in hand."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from django.db import transaction

from apimgr.contracts.snapshot import LimitDocument, PlanDocument
from proxy.services import append_changes
from tests.proxy.holder import holding
from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import Node, running, wait_for
from tests.proxy.processes.test_node import stored
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

LIMITS = (LimitDocument(1, "rate", 1_000_000, "minute"), LimitDocument(2, "quota", 1_000_000, "month"))
SPENDER = 7  # the subscription of ``published``


def limit(node: Node) -> None:
    with transaction.atomic():
        said = append_changes([PlanDocument(6, "Limited", LIMITS)])
    wait_for(lambda: node.metric("applied_sequence") >= said)


@pytest.mark.parametrize("shared", [True, False])
def test_a_revocation_reaches_the_node(
    published: Published, tmp_path: Path, redis_server: RedisServer, shared: bool
) -> None:
    more = {"APIMGR_GATEWAY_LIMITS_URL": redis_server.url} if shared else {}
    with running(tmp_path / "node", workers=2, **more) as node:
        node.wait_ready()
        if shared:
            wait_for(lambda: node.metric("limits_shared") == 1)
        limit(node)
        for _ in range(8):  # both workers have spent of it, and the agent follows it
            assert node.call("/echo/things/1", published.key)[0] == 200
        with holding(node.var / "gateway" / "limits" / "table", SPENDER) as holder:
            wait_for(lambda: node.call("/echo/things/1", published.key)[0] == 503)
            time.sleep(1)  # by now the agent has had a word to say of it
            status, _, request_id = node.call("/echo/things/2", published.key)
            assert status == 503
            wait_for(lambda: stored(request_id) == 1)
            if shared:
                assert node.metric("limits_shared") == 1
            published.revoke()
            assert wait_for(lambda: node.call("/echo/things/1", published.key)[0] == 401) < 1
            wait_for(lambda: f"Process {holder.pid} stands still" in node.log.read_text())
