"""Four workers, 64 callers, ten times what the limit allows, a reload in between: counted at the upstream."""

from __future__ import annotations

import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from django.db import transaction

from apimgr.contracts.snapshot import LimitDocument, PlanDocument
from proxy.services import append_changes
from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import Upstream, running

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


def plan(*limits: LimitDocument) -> None:
    with transaction.atomic():
        append_changes([replace(PlanDocument(6, "Limited"), limits=limits)])


def test_a_quota_is_never_exceeded(published: Published, upstream: Upstream, tmp_path: Path) -> None:
    plan(LimitDocument(1, "quota", 200, "month"))
    answers: list[int] = []
    with running(tmp_path / "node", workers=4) as node:
        node.wait_ready()
        upstream.calls.clear()

        def call() -> None:
            answers.extend(node.call("/echo/things/1", published.key)[0] for _ in range(30))

        callers = [threading.Thread(target=call) for _ in range(64)]
        for caller in callers:
            caller.start()
        time.sleep(0.3)
        node.process.send_signal(signal.SIGHUP)
        for caller in callers:
            caller.join()
        assert len(upstream.calls) == 200
        assert answers.count(200) <= 200
        assert answers.count(429) > 1000
    with running(tmp_path / "node", workers=4) as node:
        node.wait_ready()
        assert node.call("/echo/things/1", published.key)[0] == 429, "also over a restart"
    assert len(upstream.calls) == 200
