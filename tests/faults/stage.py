"""A database, a gateway node and an upstream of their own, and what is to be found in their ledgers afterwards."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psutil
import psycopg

from apimgr import postgres
from apimgr.contracts import snapshot
from apimgr.contracts.credentials import digest_key, generate_key
from apimgr.contracts.snapshot import (
    ApplicationDocument,
    CredentialDocument,
    LimitDocument,
    OperationDocument,
    PlanDocument,
    RouteDocument,
    SubscriptionDocument,
    UpstreamDocument,
    VersionDocument,
)
from apimgr.contracts.usage import BOOK_COLUMNS, BOOKS_OF_ALL
from apimgr.env import BASE_DIR
from tests.faults.checker import Call, Row, Span, Verdict, check
from tests.faults.load import Crowd, Load, Loop, Upstream, upload
from tests.stack import DIRECTLY, ServiceManager, has_ended, kept_ports, port_kept_for

PEPPER = "pepper-of-the-fault-stage-000000"
TOKEN = "admin-token-of-the-fault-stage-0"
SUBSCRIPTION = 7
_APPEND = """
    WITH counter AS (
        INSERT INTO proxy_changecounter AS counter (id, last) VALUES (1, 1)
        ON CONFLICT (id) DO UPDATE SET last = counter.last + 1 RETURNING last
    )
    INSERT INTO proxy_gatewaychange (sequence, kind, key, document, created_at)
    SELECT last, %s, %s, %s, now() FROM counter RETURNING sequence
"""


def wait_until(condition: Callable[[], object], seconds: float, what: str) -> None:
    give_up_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up_at:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.05)


class Database:
    """A PostgreSQL of our own, to be stopped, killed and frozen."""

    def __init__(self, folder: Path) -> None:
        self._server = postgres.embedded(folder, throwaway=True)
        self._port = ExitStack()
        self._port.enter_context(port_kept_for(self._server))
        self.url = self._server.start()
        environment = {**os.environ, "DATABASE_URL": self.url, "APIMGR_VAR": str(folder / "var")}
        command = [sys.executable, "manage.py", "migrate", "-v", "0"]
        subprocess.run(command, cwd=BASE_DIR, env=environment, check=True)

    def start(self) -> None:
        """On the port it had: whoever waits for it must find it again."""
        assert self._server.start() == self.url

    def stop(self) -> None:
        self._server.stop()

    def kill(self) -> None:
        process = self._server.process()
        assert process is not None
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        psutil.wait_procs(family, 10)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        process = self._server.process()
        assert process is not None
        family = [process, *process.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.suspend()
        try:
            yield
        finally:
            for member in family:
                with suppress(psutil.NoSuchProcess):
                    member.resume()

    def append(self, *documents: snapshot.Document) -> int:
        """Say ``documents`` in the change log, as the control plane does. Gives the number of the last change."""
        sequence = 0
        with psycopg.connect(self.url) as connection:
            for document in documents:
                body = snapshot.dump(document).decode()
                said = connection.execute(_APPEND, (snapshot.KIND_OF[type(document)], document.key, body)).fetchone()
                assert said is not None
                (sequence,) = said
            connection.execute("SELECT pg_notify('gateway_change', '')")
        return sequence

    def execute(self, *statements: str) -> None:
        """Each in a transaction of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def make_reachable(self, folder: Path) -> None:
        """Give ``folder`` to whom the server runs as, who may pass through all above it."""
        process = self._server.process()
        assert process is not None
        os.chown(folder, process.uids().real, process.gids().real)
        for above in folder.parents:
            if above.owner() == "root" and above != above.parent and not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o001)

    def rows(self) -> list[Row]:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT request_id, outcome, coalesce(path, '') FROM usage_event").fetchall()
        return [Row(request_id.hex, outcome, path) for request_id, outcome, path in found]

    def books(self) -> dict[str, int]:
        """What the database holds of all boots there were on the stage (``BOOK_COLUMNS``)."""
        with psycopg.connect(self.url) as connection:
            found = [row[2:] for row in connection.execute(BOOKS_OF_ALL)]
        return dict(zip(BOOK_COLUMNS, map(sum, zip(*found, strict=True)), strict=True))

    def clear(self) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute("TRUNCATE usage_event, usage_batch, usage_boot")

    def remove(self) -> None:
        self._server.remove()
        self._port.close()


class Node:
    """A gateway node that runs on ``home``; ``start`` again after it was killed."""

    def __init__(self, home: Path, database_url: str, *, workers: int = 2, **settings: str) -> None:
        self.home = home
        self._ports = ExitStack()
        self.port, self.admin_port = self._ports.enter_context(kept_ports(2))
        self.log = home.with_suffix(".log")
        self._environment = {
            **os.environ,
            "APIMGR_VAR": str(home),
            "APIMGR_KEY_PEPPER": PEPPER,
            "APIMGR_GATEWAY_ADMIN_TOKEN": TOKEN,
            "APIMGR_GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "APIMGR_GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "APIMGR_GATEWAY_WORKERS": str(workers),
            "APIMGR_NODE_NAME": "stage",
            "APIMGR_EGRESS_ALLOW": "127.0.0.0/8",
            "DATABASE_URL": database_url,
            **settings,
        }
        self.start()

    def start(self, shell: str = "", **settings: str) -> None:
        """``shell`` is what a shell does first; it and ``settings`` are for this one start."""
        command = [sys.executable, "-m", "proxy.dataplane"]
        if shell:
            command = ["sh", "-c", f'{shell} && exec "$0" "$@"', *command]
        self._manager = ServiceManager()
        environment = {**self._environment, "NOTIFY_SOCKET": self._manager.address, **settings}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=BASE_DIR, env=environment, stderr=log, stdout=log)

    def wait_ready(self) -> None:
        """Until every worker accepts, and there is a configuration: a worker that starts is not ready to be broken."""
        wait_until(self._manager.was_told_that_all_accept, 60, f"all accept; {self.log.read_text()[-2000:]}")
        wait_until(lambda: self.admin("/ready")[0] == 200, 60, f"the node is ready; {self.log.read_text()[-2000:]}")

    def admin(self, path: str) -> tuple[int, str]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.admin_port}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        try:
            with DIRECTLY.open(request, timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            error.close()
            return error.code, ""
        except OSError:
            return 0, ""

    def metric(self, name: str) -> int:
        found = re.search(rf"^apimgr_gateway_{name} (\d+)$", self.admin("/metrics")[1], re.MULTILINE)
        return int(found[1]) if found else -1

    def connections(self) -> int:
        """Callers' connections of all workers."""
        text = self.admin("/metrics")[1]
        return sum(map(int, re.findall(r"^apimgr_gateway_connections\{.*\} (\d+)$", text, re.MULTILINE)))

    @property
    def pid(self) -> int:
        """Of the supervisor: after an upgrade it is no longer the one that was started here."""
        with suppress(FileNotFoundError):
            return int((self.home / "gateway" / "pid").read_text())
        return self.process.pid

    def upgrade(self) -> None:
        """Have the supervisor replaced, and wait until all of the old node has ended."""
        old = psutil.Process(self.pid)
        family = [old, *old.children()]
        old.send_signal(signal.SIGUSR2)
        wait_until(lambda: self.pid != old.pid, 45, "a successor has taken over")
        wait_until(lambda: all(map(has_ended, family)), 60, "the old node has ended")

    def children(self, role: str) -> list[psutil.Process]:
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                with suppress(psutil.NoSuchProcess):  # one that ends while we look hides none of the others
                    if role in " ".join(child.cmdline()[3:4]):
                        found.append(child)
        return found

    def kill(self, role: str) -> None:
        """And wait until they, and with them their connections, are gone."""
        victims = self.children(role)
        for child in victims:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        wait_until(lambda: all(map(has_ended, victims)), 30, "who was killed is gone")

    def kill_all(self) -> None:
        """The supervisor alone: the rest must follow by itself."""
        orphans = self.children("")
        self.process.kill()
        self.process.wait()
        _, alive = psutil.wait_procs(orphans, 45)
        assert not alive, "no orphan outlives its supervisor"

    def stop(self) -> None:
        """Its ports stay its own, for the next start."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
        elif self.pid != self.process.pid:  # a successor, if it was not killed
            with suppress(psutil.NoSuchProcess):
                successor = psutil.Process(self.pid)
                if successor.environ().get("APIMGR_VAR") == str(self.home):
                    successor.terminate()
                    wait_until(lambda: has_ended(successor), 60, "the successor has ended")

    def close(self) -> None:
        """For good."""
        try:
            self.stop()
        finally:
            self._ports.close()
            self._manager.close()


@contextmanager
def stopping(node: Node) -> Iterator[None]:
    """Before what the node runs on is taken away, also if something fails."""
    try:
        yield
    finally:
        node.stop()


class Stage:
    """One scene: start the load, break something within ``fault``, and see what the ledgers say."""

    def __init__(self, home: Path, database: Database, *, workers: int = 2, **settings: str) -> None:
        self.database = database
        self.home = home
        self._loop = Loop()
        self.upstream = Upstream(self._loop)
        self.key = generate_key("ak").secret
        digest = digest_key(self.key.encode(), PEPPER.encode()).hex()
        self.credential = CredentialDocument(9, 8, digest)
        database.clear()
        self.publish()
        self.node = Node(home / "node", database.url, workers=workers, **settings)
        self.node.wait_ready()
        self._excused: list[Span] = []
        self._revoked_at: float | None = None
        self.leavers = 0
        self._crowds: list[Crowd] = []
        self._crowds_calls: list[Call] = []
        self._load: Load | None = None

    def publish(self, *, port: int = 0, limits: tuple[LimitDocument, ...] = (), **upstream: int) -> int:
        """Gives the number of the last change."""
        return self.database.append(
            VersionDocument(
                id=2,
                api_id=1,
                organisation_id=3,
                name="v1",
                state="published",
                base_path="/echo",
                upstream=UpstreamDocument(f"http://127.0.0.1:{port or self.upstream.port}", **upstream),
                product_ids=(4,),
                operations=(OperationDocument(5, "GET", "/things/{id}"), OperationDocument(6, "POST", "/things/{id}")),
            ),
            RouteDocument("", "/echo", 2),
            PlanDocument(6, "Generous", limits=limits),
            ApplicationDocument(8, 3, "App", subscriptions=(SubscriptionDocument(SUBSCRIPTION, 4, 6),)),
            self.credential,
        )

    def load(self, *, connections: int = 16, rate: float = 300) -> Load:
        self._load = load = Load(self._loop, self.node.port, self.key, connections=connections, rate=rate)
        wait_until(lambda: sum(call.status == 200 for call in load.calls) > 20, 60, "calls get through")
        return load

    def crowd(self, count: int, port: int = 0, *, hosts: int = 1) -> Crowd:
        crowd = Crowd(self._loop, port or self.node.port, self.key, count, self._crowds_calls, hosts=hosts)
        self._crowds.append(crowd)
        return crowd

    def upload(self, size: int) -> Call:
        return self.begin_upload(size).result(60)

    def begin_upload(self, size: int, pause: float = 0.01) -> Future[Call]:
        return self._loop.start(self._upload(size, pause))

    async def _upload(self, size: int, pause: float) -> Call:
        call = await upload(self.node.port, self.key, size, pause)
        self._crowds_calls.append(call)
        return call

    def restart(self, shell: str = "", **settings: str) -> None:
        """Before there is load: run the node under other conditions. ``shell`` is what a shell does first."""
        self.node.stop()
        self.node.start(shell, **settings)
        self.node.wait_ready()

    @contextmanager
    def excused(self, margin: float = 0.0) -> Iterator[None]:
        """Calls that overlap this span, and ``margin`` seconds after it, may fail."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._excused.append((began, time.monotonic() + margin))

    @contextmanager
    def excused_until_noticed(self) -> Iterator[None]:
        """Calls may fail until every steady caller has made one since: on a connection that broke, that is the last.

        An event, and no margin: how soon a caller notices is up to the machine.
        """
        load = self._load
        assert load is not None, "somebody calls"
        with self.excused():
            yield
            done = time.monotonic()
            wait_until(lambda: load.all_called_since(done), 60, "every caller has noticed")

    def wait_for_answers(self, status: int) -> None:
        """Until every steady caller has made a call from now on that was answered ``status``."""
        load, began = self._load, time.monotonic()
        assert load is not None, "somebody calls"
        wait_until(lambda: load.all_answered_since(began, status), 60, f"callers are answered {status}")

    def wait_applied(self, sequence: int) -> None:
        wait_until(lambda: self.node.metric("applied_sequence") >= sequence, 60, f"change {sequence} is in force")

    def revoke(self) -> None:
        gone = CredentialDocument(self.credential.id, self.credential.application_id, self.credential.digest, "revoked")
        self.database.append(gone)
        self._revoked_at = time.monotonic()

    def verdict(self, load: Load, *, patience: float = 60, set_aside: Collection[str] = ()) -> Verdict:
        """Stop the load, wait until usage has arrived, and compare. ``set_aside``: see ``check``."""
        calls = [*load.stop(), *self._crowds_calls]
        must = {call.request_id for call in calls if 200 <= call.status < 300} | set(self.upstream.reached)
        must -= set(set_aside)
        with suppress(AssertionError):  # the verdict says what is missing
            wait_until(lambda: must <= {row.request_id for row in self.database.rows()}, patience, "usage arrives")
            time.sleep(0.5)
        return check(
            calls,
            self.upstream.reached,
            self.database.rows(),
            excused=self._excused,
            refused_after=self._revoked_at,
            leavers=self.leavers,
            set_aside=set_aside,
        )

    def close(self) -> None:
        if self._load is not None:
            self._load.stop()
        for crowd in self._crowds:
            crowd.leave()
        self.node.close()
        self.upstream.close()
        self._loop.close()
