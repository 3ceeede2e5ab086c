"""A node from outside: the processes an operator runs, a real database, a real upstream."""

from __future__ import annotations

import signal
import socket
import threading
import time
from datetime import timedelta
from pathlib import Path

import psutil
import psycopg
import pytest
from django.db import connection
from django.db.models import F
from django.utils import timezone

from apimgr.contracts.outcomes import BY_CODE
from proxy import selectors
from proxy.models import AppliedChanges, GatewayBoot, GatewayNode
from proxy.services import remove_node
from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import PATIENCE, TOKEN, Upstream, database_url, has_ended, running, wait_for

pytestmark = pytest.mark.processes


def stored(request_id: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_event WHERE request_id = %s", [request_id])
        return int(cursor.fetchone()[0])


def rows_per_request() -> dict[str, int]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT request_id, count(*) FROM usage_event GROUP BY 1")
        return {request_id.hex: rows for request_id, rows in cursor.fetchall()}


def rows_of(published: Published) -> list[tuple[int, int]]:
    """Outcome and status of each call with the published key."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT outcome, status FROM usage_event WHERE credential_id = %s", [published.credential.id])
        return cursor.fetchall()


def test_a_call_goes_through_and_is_in_the_log_within_two_seconds(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        status, body, request_id = node.call("/echo/things/1", published.key)
        assert (status, body) == (200, "/things/1")
        assert wait_for(lambda: stored(request_id) == 1) < 2


@pytest.mark.requirement("K8.1")
def test_a_revoked_key_fails_within_a_second(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        assert node.call("/echo/things/1", published.key)[0] == 200
        sequence = published.revoke()
        assert wait_for(lambda: node.call("/echo/things/1", published.key)[0] == 401) < 1
        wait_for(lambda: AppliedChanges.objects.filter(node="test-node", sequence=sequence).exists())


def test_the_admin_port_says_how_the_node_is(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        assert node.get("/health")[0] == 200
        assert node.get("/metrics")[0] == 401
        assert node.get("/metrics", Authorization="Bearer wrong")[0] == 401
        assert node.get("/elsewhere")[0] == 404
        node.call("/echo/things/1", published.key)
        wait_for(lambda: node.metric("acknowledged_total") == node.metric("generated_total") > 0)
        wait_for(lambda: GatewayNode.objects.filter(counters__generated__gt=0).exists())


def test_a_node_that_never_met_its_database_is_not_ready(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node", url="postgres://nobody@127.0.0.1:1/none") as node:
        wait_for(lambda: node.get("/health")[0] == 200)
        assert node.get("/ready")[0] == 503
        wait_for(lambda: node.call("/echo/things/1", published.key)[0] == 503)


def test_a_node_runs_on_its_replica_without_a_database(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
    with running(tmp_path / "node", url="postgres://nobody@127.0.0.1:1/none") as node:
        node.wait_ready()
        status, _, request_id = node.call("/echo/things/1", published.key)
        assert status == 200
    with running(tmp_path / "node") as node:
        wait_for(lambda: stored(request_id) == 1)


def test_a_damaged_replica_is_rebuilt(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
    for file in (tmp_path / "node").glob("gateway/replica/data-*/data.mdb"):
        file.write_bytes(b"\xa5" * 8192)
    with running(tmp_path / "node") as node:
        node.wait_ready()
        assert node.call("/echo/things/1", published.key)[0] == 200


def test_killed_processes_lose_no_call(published: Published, upstream: Upstream, tmp_path: Path) -> None:
    answered: list[str] = []
    over = threading.Event()

    def keep_calling() -> None:
        while not over.is_set():
            status, _, request_id = node.call("/echo/things/1", published.key)
            if status == 200:
                answered.append(request_id)

    with running(tmp_path / "node", workers=2) as node:
        node.wait_ready()
        callers = [threading.Thread(target=keep_calling) for _ in range(4)]
        for caller in callers:
            caller.start()
        for role in ("worker", "agent") * 3:
            served = len(answered)
            time.sleep(0.7)
            wait_for(lambda served=served: len(answered) >= served + 20)
            node.kill(role)
        time.sleep(0.7)
        over.set()
        for caller in callers:
            caller.join()
        wait_for(lambda: set(answered) <= rows_per_request().keys())
    assert len(answered) > 100
    assert set(rows_per_request().values()) == {1}


def test_a_call_that_is_with_the_upstream_when_its_worker_is_killed_has_a_row(
    published: Published, upstream: Upstream, tmp_path: Path
) -> None:
    with running(tmp_path / "node", workers=1) as node:
        node.wait_ready()
        with upstream.held():
            caller = threading.Thread(target=node.call, args=("/echo/things/1", published.key))
            caller.start()
            wait_for(lambda: upstream.calls)
            node.kill("worker")
        caller.join()
        wait_for(lambda: len(rows_of(published)) == 1)
        assert rows_of(published) == [(BY_CODE["gateway_aborted"].number, 500)]
        assert not list((tmp_path / "node").glob("gateway/spool/*/*.calls"))[1:], "only the new worker has a table"


@pytest.mark.parametrize("is_removed", [False, True], ids=["known", "removed meanwhile"])
def test_the_books_of_a_node_that_was_killed_are_closed_without_a_loss(
    published: Published, upstream: Upstream, tmp_path: Path, is_removed: bool
) -> None:
    with running(tmp_path / "node", workers=2) as node:
        node.wait_ready()
        for _ in range(5):
            assert node.call("/echo/things/1", published.key)[0] == 200
        with upstream.held():
            caller = threading.Thread(target=node.call, args=("/echo/things/1", published.key))
            caller.start()
            wait_for(lambda: len(upstream.calls) == 6)
            if is_removed:  # what it had not told of, nobody could give up
                wait_for(GatewayBoot.objects.filter(generated__gte=6).exists)
            family = [psutil.Process(node.process.pid), *node.children()]
            for process in family:
                process.kill()
        caller.join()
        wait_for(lambda: all(has_ended(process) for process in family))
        (killed,) = (int(path.name) for path in (tmp_path / "node" / "gateway" / "spool").glob("*"))
    if is_removed:
        GatewayNode.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
        (owes,) = selectors.boots(None)
        lost = remove_node(actor=None, name="test-node").lost
        assert lost == owes.outstanding >= 1
        assert [(books.state, books.lost) for books in selectors.boots(None)] == [("given_up", lost)]
    with running(tmp_path / "node") as node:
        wait_for(lambda: GatewayBoot.objects.filter(boot=killed, closed_at=F("seen_at")).exists())
        assert node.call("/echo/things/1", published.key)[0] == 200
        wait_for(lambda: node.metric("stored_total") == node.metric("generated_total") > 0, 40)
    books = {boot.boot: boot for boot in selectors.boots(None)}
    before = books.pop(killed)
    assert before.state == "closed"
    assert before.counted is not None
    assert before.counted.generated - before.counted.spooled == before.in_database.cut_off == 1
    assert before.in_database.stored == before.counted.generated >= 6
    assert (before.lost, before.uncounted) == (0, 0)
    assert not (tmp_path / "node" / "gateway" / "spool" / str(killed)).exists(), "nothing of it is left on the node"
    (now,) = books.values()
    assert (now.state, now.lost, now.in_flight, now.waiting) == ("running", 0, 0, 0)


def test_a_strict_node_answers_and_stops_in_order(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node", workers=2, APIMGR_GATEWAY_DURABILITY="strict") as node:
        node.wait_ready()
        answers = [node.call("/echo/things/1", published.key) for _ in range(20)]
        assert {status for status, _, _ in answers} == {200}
        assert node.stop() == 0
        wait_for(lambda: {request_id for _, _, request_id in answers} <= rows_per_request().keys())


def test_sigterm_stops_every_process_and_leaves_no_usage_behind(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node", workers=2) as node:
        node.wait_ready()
        children = node.children()
        assert len(children) == 3
        _, _, request_id = node.call("/echo/things/1", published.key)
        assert node.stop() == 0
        assert stored(request_id) == 1
        assert not psutil.wait_procs(children, timeout=PATIENCE)[1]


def test_no_orphan_outlives_a_killed_supervisor(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node", workers=2) as node:
        node.wait_ready()
        children = node.children()
        node.process.kill()
        node.process.wait()
        assert not psutil.wait_procs(children, timeout=PATIENCE)[1]


def test_a_reload_fails_no_call(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        (old,) = node.children("worker")
        node.process.send_signal(signal.SIGHUP)
        statuses = set()
        enough = time.monotonic() + 4

        def is_over() -> bool:
            statuses.add(node.call("/echo/things/1", published.key)[0])
            return time.monotonic() > enough and not old.is_running()

        wait_for(is_over, every=0)
        assert statuses == {200}
        assert [child.pid for child in node.children("worker")] != [old.pid]


def test_a_key_is_revoked_while_an_agent_is_leaving(published: Published, tmp_path: Path) -> None:
    """The database takes no usage, so that the leaving agent's last words take their time."""
    with running(tmp_path / "node") as node, psycopg.connect(database_url()) as blocking:
        node.wait_ready()
        blocking.execute("LOCK TABLE usage_batch IN ACCESS EXCLUSIVE MODE")
        assert node.call("/echo/things/1", published.key)[0] == 200
        [agent] = node.children("agent")
        node.process.send_signal(signal.SIGHUP)
        wait_for(lambda: "Reloaded" in node.log.read_text())
        published.revoke()
        wait_for(lambda: node.call("/echo/things/1", published.key)[0] == 401)
        assert not has_ended(agent), "nobody else could have told the workers"
        blocking.rollback()


def test_a_busy_port_is_said_in_a_sentence(published: Published, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with running(tmp_path / "node", port=taken.getsockname()[1]) as node:
            assert node.process.wait(PATIENCE) == 2
            assert "cannot listen at 127.0.0.1:" in node.log.read_text()
            assert "APIMGR_GATEWAY_LISTEN" in node.log.read_text()


def test_a_second_gateway_on_the_same_folder_is_refused(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        with running(tmp_path / "node") as second:
            assert second.process.wait(PATIENCE) == 2


def test_workers_are_not_told_the_agents_secrets(published: Published, tmp_path: Path) -> None:
    with running(tmp_path / "node") as node:
        node.wait_ready()
        (worker,) = node.children("worker")
        assert not {"DATABASE_URL", "APIMGR_GATEWAY_ADMIN_TOKEN"} & worker.environ().keys()
        assert database_url() in node.children("agent")[0].environ().values()
        assert TOKEN not in worker.environ().values()
