"""SIGUSR2: the supervisor itself is replaced, with the sockets it holds."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import Node, Upstream, has_ended, running, wait_for
from tests.proxy.processes.test_file_mode import FILE, new_key
from tests.proxy.processes.test_node import rows_per_request

pytestmark = pytest.mark.processes


class Callers:
    """Three callers who keep their connections, and one who makes a new one for each call."""

    def __init__(self, node: Node, key: str) -> None:
        self.answers: list[tuple[int, str]] = []
        self._node, self._key = node, key
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(kept,)) for kept in (True, True, True, False)]
        for thread in self._threads:
            thread.start()

    def _call(self, kept: bool) -> None:
        connection = self._node.connection() if kept else None
        while not self._over.is_set():
            status, _, request_id = self._node.call("/echo/things/1", self._key, connection)
            self.answers.append((status, request_id))
        if connection is not None:
            connection.close()

    def stop(self) -> Counter[int]:
        self._over.set()
        for thread in self._threads:
            thread.join()
        return Counter(status for status, _ in self.answers)


@contextmanager
def calling(node: Node, key: str) -> Iterator[Callers]:
    callers = Callers(node, key)
    try:
        yield callers
    finally:
        callers.stop()


def family(node: Node) -> list[psutil.Process]:
    return [psutil.Process(node.pid), *node.children()]


def begin_upgrade(node: Node) -> psutil.Process:
    """Until there is a successor, which may have taken over already when we look. Returns the predecessor."""
    old = psutil.Process(node.pid)
    old.send_signal(signal.SIGUSR2)
    wait_for(lambda: len(node.children()) == 3 or node.pid not in (0, old.pid))
    return old


def log_says(node: Node, words: str) -> bool:
    return words in node.log.read_text()


def test_upgrades_fail_no_call_and_lose_no_record(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node", workers=2) as node:
        node.wait_ready()
        with calling(node, published.key) as callers:
            for _ in range(3):
                before = family(node)
                assert len(before) == 4
                node.upgrade()
                assert not [process for process in before if not has_ended(process)]
                wait_for(lambda: len(node.children()) == 3)
            assert set(callers.stop()) == {200}
        ids = {request_id for _, request_id in callers.answers}
        wait_for(lambda: ids <= rows_per_request().keys())
        rows = rows_per_request()
        assert len(ids) == len(callers.answers) > 100
        assert set(rows.values()) == {1}
        # The books go on over upgrades: no count is lost, and none begins anew.
        wait_for(lambda: node.metric("acknowledged_total") == node.metric("generated_total") >= len(rows))
        sequence = published.revoke()
        assert wait_for(lambda: node.call("/echo/things/1", published.key)[0] == 401) < 1
        assert sequence
    assert node.pid == 0
    assert not (node.var / "gateway" / "pid").exists()


def test_a_program_that_does_not_start_changes_nothing(upstream: Upstream, tmp_path: Path) -> None:
    """What is started finds its settings wrong, and says which."""
    key, digest = new_key()
    text = FILE.format(url=upstream.url, quota=1000, digest=digest, state="active")
    declaration = tmp_path / "gateway.yaml"
    declaration.write_text(text)
    with running(tmp_path / "node", url="", APIMGR_GATEWAY_CONFIG=str(declaration)) as node:
        node.wait_ready()
        declaration.unlink()
        before = family(node)
        os.kill(node.pid, signal.SIGUSR2)
        wait_for(lambda: log_says(node, f"ended with status 2; process {node.pid} carries on"))
        assert log_says(node, "is not a file")
        assert family(node) == before
        assert node.call("/echo/a", key)[0] == 200

        declaration.write_text(text)
        node.upgrade()
        assert node.call("/echo/a", key)[0] == 200


def test_a_successor_whose_worker_does_not_start_gives_up(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        before = family(node)
        spool = next((node.var / "gateway" / "spool").iterdir())
        table = node.var / "gateway" / "limits"
        kept = table.rename(table.with_name("kept"))
        table.write_text("in the way")
        with calling(node, published.key) as callers:
            os.kill(node.pid, signal.SIGUSR2)
            wait_for(lambda: log_says(node, f"ended with status 1; process {node.pid} carries on"))
            assert set(callers.stop()) == {200}
        assert family(node) == before
        assert spool.exists()
        table.unlink()
        kept.rename(table)
        node.upgrade()
        assert node.call("/echo/things/1", published.key)[0] == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_successor_that_lays_out_what_was_spent_otherwise_gives_up(
    published: Published, tmp_path: Path, workers: int
) -> None:
    with running(tmp_path / "node", workers=workers) as node:
        node.wait_ready()
        before = family(node)
        table = node.var / "gateway" / "limits" / "table"
        with table.open("r+b") as file:
            ours = file.read(8)
            file.seek(0)
            file.write(b"APIMGRL0")
        with calling(node, published.key) as callers:
            os.kill(node.pid, signal.SIGUSR2)
            wait_for(lambda: log_says(node, f"ended with status 1; process {node.pid} carries on"))
            assert set(callers.stop()) == {200}
        assert log_says(node, "is in use by processes of another version")
        assert family(node) == before
        assert [path.name for path in table.parent.iterdir() if path.name.startswith("table")] == ["table"]
        with table.open("r+b") as file:
            file.write(ours)
        node.upgrade()
        assert node.call("/echo/things/1", published.key)[0] == 200


def test_signals_during_an_upgrade(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        old = psutil.Process(node.pid)
        with calling(node, published.key) as callers:
            for number in (signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR2, signal.SIGHUP):
                old.send_signal(number)
                time.sleep(0.05)
            wait_for(lambda: node.pid not in (0, old.pid))
            wait_for(lambda: has_ended(old), 60)
            assert set(callers.stop()) == {200}
        assert node.log.read_text().count("Upgrading:") == 1, "one at a time, and none is kept for later"
        os.kill(node.pid, signal.SIGHUP)
        wait_for(lambda: log_says(node, "Reloaded:"))


def test_a_reload_after_an_upgrade_waits_for_the_former_workers(
    published: Published, upstream: Upstream, tmp_path: Path
) -> None:
    """Else the newest workers count in the blocks of the oldest, and the books are wrong."""
    with running(tmp_path / "node") as node:
        node.wait_ready()
        old = psutil.Process(node.pid)
        answers: list[int] = []
        with upstream.held():
            caller = threading.Thread(target=lambda: answers.append(node.call("/echo/things/1", published.key)[0]))
            caller.start()
            wait_for(lambda: upstream.at_once == 1)
            old.send_signal(signal.SIGUSR2)
            wait_for(lambda: node.pid not in (0, old.pid) and log_says(node, "Upgraded:"))
            os.kill(node.pid, signal.SIGHUP)
            time.sleep(1)
            assert not log_says(node, "Reloading:")
        caller.join()
        assert answers == [200]
        wait_for(lambda: log_says(node, "Reloaded:"))
        assert has_ended(old)


def test_sigterm_during_an_upgrade_ends_both(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        begin_upgrade(node)
        everybody = psutil.Process(node.process.pid).children(recursive=True)
        assert node.stop() == 0
        wait_for(lambda: all(map(has_ended, everybody)))
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", node.port)) != 0, "nobody listens any more"


def test_a_killed_predecessor_leaves_the_node_to_its_successor(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        old = begin_upgrade(node)
        with suppress(psutil.NoSuchProcess):
            old.kill()
        wait_for(lambda: node.pid not in (0, old.pid))
        node.wait_ready()
        assert node.call("/echo/things/1", published.key)[0] == 200


def test_the_service_manager_is_told(published: Published, tmp_path: Path) -> None:
    told: list[str] = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)

        def hear(words: str) -> None:
            while not any(words in line for line in told):
                told.append(manager.recv(4096).decode())

        watched = {"WATCHDOG_USEC": "30000000", "APIMGR_GATEWAY_STALL_SECONDS": "0"}
        with running(tmp_path / "node", NOTIFY_SOCKET=str(tmp_path / "notify"), **watched) as node:
            hear("READY=1")
            hear("WATCHDOG=1")
            node.wait_ready()
            os.kill(node.pid, signal.SIGHUP)
            hear("RELOADING=1")
            told.clear()
            hear("READY=1")
            told.clear()
            node.upgrade()
            hear(f"MAINPID={node.pid}\nREADY=1")
            told.clear()
            hear("WATCHDOG=1")
        hear("STOPPING=1")
