"""A process of a node that stands still for good, and what becomes of it; a supervisor that does, and spares all."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import Node, Upstream, has_ended, running, wait_for
from tests.proxy.processes.test_node import rows_per_request

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

STALL = 3
# Python runs this first in every process of a node: a worker that starts while there is the file stops itself.
STOP_WHO_STARTS = """
import os, pathlib, signal, sys
if "worker" in sys.orig_argv and pathlib.Path(os.environ["STOP_WHO_STARTS"]).exists():
    os.kill(os.getpid(), signal.SIGSTOP)
"""


@contextmanager
def stoppable(var: Path, stall: int = STALL, **more: str) -> Iterator[Node]:
    """A node of two workers of which processes may be stopped; none is at the end."""
    with running(var, workers=2, APIMGR_GATEWAY_STALL_SECONDS=str(stall), **more) as node:
        try:
            yield node.wait_ready()
        finally:
            for process in [psutil.Process(node.pid), *node.children()]:
                process.send_signal(signal.SIGCONT)


def family(node: Node) -> set[int]:
    return {child.pid for child in node.children()}


def stalls(node: Node, role: str) -> int:
    return node.metric(rf'restarts_total\{{role="{role}",cause="stall"\}}')


@contextmanager
def callers(node: Node, key: str, count: int = 4) -> Iterator[list[str]]:
    """Each keeps its connection over many calls, until that breaks. Yields the ids of what was answered."""
    answered: list[str] = []
    over = threading.Event()

    def keep_calling() -> None:
        connection = node.connection()
        while not over.is_set():
            status, _, request_id = node.call("/echo/things/1", key, connection)
            if status == 200:
                answered.append(request_id)
        connection.close()

    threads = [threading.Thread(target=keep_calling) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield answered
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_a_worker_that_stands_still_is_killed_and_another_one_serves(
    published: Published, upstream: Upstream, tmp_path: Path
) -> None:
    with stoppable(tmp_path / "node") as node:
        with callers(node, published.key) as answered:
            wait_for(lambda: len(answered) > 50)
            stopped = node.children("worker")[0]
            others = family(node) - {stopped.pid}
            stopped.suspend()
            wait_for(lambda: has_ended(stopped))
            wait_for(lambda: len(node.children("worker")) == 2)
            goal = len(answered) + 50
            wait_for(lambda: len(answered) > goal)
        assert (
            f"The worker 0, process {stopped.pid}, has stood still for {STALL} s and is killed" in node.log.read_text()
        )
        assert others < family(node), "nobody else was touched"
        wait_for(lambda: stalls(node, "worker") == 1)
        wait_for(lambda: set(answered) <= rows_per_request().keys())
    assert set(rows_per_request().values()) == {1}


def test_a_node_whose_every_worker_stands_still_serves_again(published: Published, tmp_path: Path) -> None:
    """Whoever connects meanwhile waits in the queue, and is answered."""
    with stoppable(tmp_path / "node") as node:
        stopped = node.children("worker")
        for worker in stopped:
            worker.suspend()
        status, _, request_id = node.call("/echo/things/1", published.key)
        assert status == 200
        assert all(map(has_ended, stopped))
        wait_for(lambda: request_id in rows_per_request())


def test_an_agent_that_stands_still_is_killed_and_calls_notice_nothing(published: Published, tmp_path: Path) -> None:
    with stoppable(tmp_path / "node") as node:
        (stopped,) = node.children("agent")
        workers = {worker.pid for worker in node.children("worker")}
        stopped.suspend()
        answered = []
        while not has_ended(stopped):
            status, _, request_id = node.call("/echo/things/1", published.key)
            assert status == 200
            answered.append(request_id)
            time.sleep(0.02)
        wait_for(lambda: node.get("/ready")[0] == 200)
        wait_for(lambda: set(answered) <= rows_per_request().keys())
        assert stalls(node, "agent") == 1
        assert {worker.pid for worker in node.children("worker")} == workers
    assert set(rows_per_request().values()) == {1}


def test_a_worker_that_stands_still_while_it_starts_is_killed_too(published: Published, tmp_path: Path) -> None:
    stop = tmp_path / "stop"
    (tmp_path / "sitecustomize.py").write_text(STOP_WHO_STARTS)
    with stoppable(tmp_path / "node", PYTHONPATH=str(tmp_path), STOP_WHO_STARTS=str(stop)) as node:
        known = family(node)
        stop.touch()
        node.children("worker")[0].kill()

        def new() -> list[psutil.Process]:
            return [worker for worker in node.children("worker") if worker.pid not in known]

        wait_for(lambda: [worker for worker in new() if worker.status() == psutil.STATUS_STOPPED])
        stop.unlink()
        (started,) = new()
        wait_for(lambda: has_ended(started))
        wait_for(lambda: len(node.children("worker")) == 2)
        assert f"process {started.pid}, has stood still for 20 s and is killed" in node.log.read_text()
        assert node.call("/echo/things/1", published.key)[0] == 200


def test_a_supervisor_that_stood_still_itself_kills_nobody(published: Published, tmp_path: Path) -> None:
    with stoppable(tmp_path / "node") as node:
        with callers(node, published.key) as answered:
            before = family(node)
            supervisor = psutil.Process(node.pid)
            supervisor.suspend()
            time.sleep(STALL + 1)
            supervisor.resume()
            time.sleep(STALL)
            goal = len(answered) + 50
            wait_for(lambda: len(answered) > goal)
        assert family(node) == before
        assert "stood still" not in node.log.read_text()


def test_a_whole_node_that_stood_still_goes_on_as_it_was(published: Published, tmp_path: Path) -> None:
    """As on a machine that was suspended."""
    with stoppable(tmp_path / "node") as node:
        before = family(node)
        everybody = [psutil.Process(node.pid), *node.children()]
        for process in everybody:
            process.suspend()
        time.sleep(STALL + 1)
        for process in everybody:
            process.resume()
        time.sleep(STALL)
        assert family(node) == before
        assert node.call("/echo/things/1", published.key)[0] == 200


def test_what_was_stopped_for_less_goes_on(published: Published, tmp_path: Path) -> None:
    with stoppable(tmp_path / "node", stall=10) as node:
        before = family(node)
        for _ in range(2):
            for child in node.children():
                child.suspend()
            time.sleep(2.5)
            for child in node.children():
                child.resume()
            wait_for(lambda: node.get("/ready")[0] == 200 and node.call("/echo/things/1", published.key)[0] == 200)
        assert family(node) == before


def test_by_the_wish_of_who_runs_it_a_node_kills_nobody(published: Published, tmp_path: Path) -> None:
    with stoppable(tmp_path / "node", stall=0) as node:
        stopped = node.children("worker")[0]
        supervisor = psutil.Process(node.pid)
        stopped.suspend()
        woken = -1

        def has_seen_to_it() -> bool:
            """It is told of that, and of what came before, as of a start."""
            nonlocal woken
            before, woken = woken, supervisor.num_ctx_switches().voluntary
            return woken == before

        wait_for(has_seen_to_it, every=1)
        time.sleep(2.5)
        assert not has_ended(stopped)
        assert supervisor.num_ctx_switches().voluntary == woken, "it does not even look"
