"""How long a change takes to be enforced on an open connection, and a call to be stored, on a node that has work to do.

A real node against PostgreSQL, in a database of its own beside that of ``DATABASE_URL``: ``python -m
tests.bench.enforcement [trials]``. A trial commits the revocation of a key, calls over a connection that was open long
before until it is refused, then lets the key in again. Time counts from the commit.
"""

from __future__ import annotations

import http.client
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.database import own_database  # isort: skip  (first: it sets Django up)

from django.conf import settings
from django.db import connection, transaction

from apimgr.contracts.credentials import digest_key, generate_key
from apimgr.contracts.snapshot import CredentialDocument
from proxy.services import append_changes
from tests.bench import peers
from tests.bench.figures import Figure
from tests.bench.measure import load_script, process, require, split_cores
from tests.proxy.processes.conftest import publish
from tests.proxy.processes.node import running

TRIALS = 1_000
STORED = 50
LOAD = 1_000  # calls a second, of another key
PATIENCE = 10.0  # seconds; a trial that takes longer fails
_PATH = "/echo/things/1"


def run(trials: int = TRIALS) -> list[Figure]:
    """Measure and print."""
    require("nginx", "wrk", "taskset")
    with own_database():
        enforced, let_in, stored = _measure(trials)
    print(f"\non a node that answers {LOAD:,} calls a second besides, over one connection, ms:\n")
    print(f"{'':36}{'p50':>9}{'p95':>9}{'max':>9}{'trials':>9}")
    for name, times in (
        ("revoked → refused", enforced),
        ("active again → let in", let_in),
        ("called → stored", stored),
    ):
        print(f"{name:36}" + "".join(f"{_at(times, share):9.0f}" for share in (0.5, 0.95, 1)) + f"{len(times):9,}")
    return [
        Figure(f"revoked to refused, p50 of {trials:,}", statistics.median(enforced), "ms", 100),
        Figure("the same, at most", max(enforced), "ms", 1000),
    ]


def _at(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(len(times) * share))]


def _measure(trials: int) -> tuple[list[float], list[float], list[float]]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        _, others = split_cores()
        upstream = stack.enter_context(peers.nginx(home / "upstream", peers.upstream_config, others)).port
        published = publish(f"http://127.0.0.1:{upstream}")
        other = generate_key("ak").secret
        _append(CredentialDocument(10, 8, digest_key(other.encode(), settings.KEY_PEPPER).hex()))
        node = stack.enter_context(running(home / "node"))
        node.wait_ready()
        caller = _Caller(node.port, published.key)
        stack.callback(caller.client.close)
        assert caller.until(200)
        stack.enter_context(_load(home, node.port, other))
        known = published.credential
        enforced, let_in = [], []
        for _ in range(trials):
            for state, status, times in (("revoked", 401, enforced), ("active", 200, let_in)):
                _append(CredentialDocument(known.id, known.application_id, known.digest, state))  # type: ignore[arg-type]
                times.append(caller.until(status))
        assert caller.connections == 1, "every trial went over the connection that was opened first"
        stored = [caller.until_stored() for _ in range(STORED)]
    return enforced, let_in, stored


def _append(document: CredentialDocument) -> None:
    with transaction.atomic():
        append_changes([document])


class _Caller:
    """One kept connection. Times in milliseconds."""

    def __init__(self, port: int, key: str) -> None:
        self.client = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.connections = 0
        self._key = key

    def call(self) -> tuple[int, str]:
        if self.client.sock is None:
            self.connections += 1
        self.client.request("GET", _PATH, headers={"X-Api-Key": self._key})
        answer = self.client.getresponse()
        answer.read()
        return answer.status, answer.getheader("X-Request-Id", "")

    def until(self, status: int) -> float:
        began = time.perf_counter()
        while self.call()[0] != status:
            assert time.perf_counter() - began < PATIENCE, f"no {status} within {PATIENCE} s"
            time.sleep(0.001)
        return (time.perf_counter() - began) * 1000

    def until_stored(self) -> float:
        _, request_id = self.call()
        began = time.perf_counter()
        while not _is_stored(request_id):
            assert time.perf_counter() - began < PATIENCE, f"not stored within {PATIENCE} s"
            time.sleep(0.005)
        return (time.perf_counter() - began) * 1000


def _is_stored(request_id: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM usage_event WHERE request_id = %s)", [request_id])
        return bool(cursor.fetchone()[0])


@contextmanager
def _load(home: Path, port: int, key: str) -> Iterator[None]:
    """``LOAD`` calls a second for as long as it takes."""
    connections = 8
    script = load_script(home / "load.lua", [(_PATH, key)])
    with script.open("a") as more:
        more.write(f"function delay() return {1000 * connections // LOAD} end\n")
    command = ["wrk", "-t1", f"-c{connections}", "-d3600s", "-s", str(script), f"http://127.0.0.1:{port}"]
    with process(command, stdout=subprocess.DEVNULL) as started:
        yield
        assert started.poll() is None, "the load went on to the end"


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
