"""Three gateways of two workers each around one Redis, callers at ten times the limit, counted at the upstream.

Redis is killed in between and comes back empty.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from django.db import transaction

from apimgr.contracts.snapshot import LimitDocument, PlanDocument
from proxy.services import append_changes
from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import Node, Upstream, running, wait_for
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

CALLERS_PER_HOST = 8


@dataclass
class Storm:
    """Callers at every host, one call after the other, until told to stop. ``calls``: when each began, its answer."""

    hosts: list[Node]
    key: str
    calls: list[tuple[float, int]] = field(default_factory=list)

    def answers(self, since: float = 0.0) -> Counter[int]:
        """To calls that began after ``since``."""
        return Counter(status for began, status in list(self.calls) if began > since)

    @contextmanager
    def blowing(self) -> Iterator[None]:
        calm = threading.Event()

        def call(host: Node) -> None:
            while not calm.is_set():
                began = time.monotonic()
                status, _, _ = host.call("/echo/things/1", self.key)
                self.calls.append((began, status))

        callers = [threading.Thread(target=call, args=(host,)) for host in self.hosts for _ in range(CALLERS_PER_HOST)]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            calm.set()
            for caller in callers:
                caller.join()


@pytest.fixture
def hosts(published: Published, tmp_path: Path, redis_server: RedisServer) -> Iterator[list[Node]]:
    with ExitStack() as stack:
        more = {"APIMGR_GATEWAY_LIMITS_URL": redis_server.url}
        made = [
            stack.enter_context(running(tmp_path / f"node{n}", workers=2, APIMGR_NODE_NAME=f"node{n}", **more))
            for n in range(3)
        ]
        for host in made:
            host.wait_ready()
        wait_for(lambda: all(host.metric("limits_shared") == 1 for host in made))
        yield made


def plan(hosts: list[Node], *limits: LimitDocument, closed: bool = True) -> None:
    """In force on all hosts."""
    with transaction.atomic():
        said = append_changes([PlanDocument(6, "Limited", limits, without_grantor="closed" if closed else "open")])
    wait_for(lambda: all(host.metric("applied_sequence") >= said for host in hosts))


def lose_memory(server: RedisServer) -> None:
    server.kill()
    time.sleep(0.5)
    server.start()


def until(condition: Callable[[], bool]) -> None:
    wait_for(condition, 60, every=0.1)


@pytest.mark.parametrize("period", ["day", "month", "billing"])
def test_a_quota_is_never_exceeded(
    hosts: list[Node], published: Published, upstream: Upstream, redis_server: RedisServer, period: str
) -> None:
    plan(hosts, LimitDocument(1, "quota", 600, period))  # type: ignore[arg-type]
    storm = Storm(hosts, published.key)
    with storm.blowing():
        until(lambda: len(upstream.calls) > 100)
        lose_memory(redis_server)
        until(lambda: len(upstream.calls) >= 600)
        spent = time.monotonic()
        until(lambda: storm.answers(spent)[429] > 1000)
    assert len(upstream.calls) == 600
    assert not storm.answers(spent)[200]


def test_a_rate_is_that_of_one_host(
    hosts: list[Node], published: Published, upstream: Upstream, redis_server: RedisServer
) -> None:
    # Two windows at once: the minute's bucket is too large to matter to how fast, the second's too small to how many.
    plan(hosts, LimitDocument(1, "rate", 20, "second"), LimitDocument(2, "rate", 100, "minute"))
    began = time.monotonic()
    with Storm(hosts, published.key).blowing():
        until(lambda: len(upstream.calls) > 60)
        lose_memory(redis_server)
        until(lambda: len(upstream.calls) >= 100)
        time.sleep(1)
    took = time.monotonic() - began
    assert len(upstream.calls) <= (100 + took * 100 / 60) * 1.01


def test_no_more_calls_are_under_way_than_may_be(
    hosts: list[Node], published: Published, upstream: Upstream, redis_server: RedisServer
) -> None:
    upstream.takes = 0.05
    plan(hosts, LimitDocument(1, "concurrency", 4, "none"))
    storm = Storm(hosts, published.key)
    with storm.blowing():
        until(lambda: len(upstream.calls) > 60)
        lose_memory(redis_server)
        before = len(upstream.calls)
        until(lambda: len(upstream.calls) > before + 100)
    assert upstream.most_at_once <= 4
    assert storm.answers()[429] > 100


@pytest.mark.parametrize("closed", [True, False])
def test_without_redis_the_plan_decides(
    hosts: list[Node], published: Published, upstream: Upstream, redis_server: RedisServer, closed: bool
) -> None:
    plan(hosts, LimitDocument(1, "rate", 1000, "day"), closed=closed)
    until(lambda: hosts[0].call("/echo/things/1", published.key)[0] == 200)
    redis_server.freeze()
    try:
        until(lambda: not hosts[0].metric("limits_shared"))
        answers = [hosts[0].call("/echo/things/1", published.key) for _ in range(30)]
    finally:
        redis_server.thaw()
    if closed:
        status, body, request_id = answers[-1]
        assert status == 503
        assert '"code":"limits_unavailable"' in body.replace(": ", ":")
        assert request_id
    else:
        assert {status for status, _, _ in answers} == {200}
        assert hosts[0].metric("ungranted_total") >= 20
    until(lambda: hosts[0].metric("limits_shared") == 1)
    until(lambda: hosts[0].call("/echo/things/1", published.key)[0] == 200)


def test_workers_are_not_told_of_redis(hosts: list[Node]) -> None:
    for role, told in (("agent", True), ("worker", False)):
        [process, *_] = hosts[0].children(role)
        environ = process.environ()
        assert ("APIMGR_GATEWAY_LIMITS_URL" in environ) is told, role
        assert ("REDIS_URL" in environ and not told) is False, role
