"""A real gateway node for tests: started as an operator starts it, on ports of its own, against the test database."""

from __future__ import annotations

import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import psutil
from django.conf import settings
from django.db import connection

from tests.stack import ServiceManager, has_ended, kept_ports

TOKEN = "admin-token-of-this-test-node-000000"
PATIENCE = 60.0  # seconds to await what must come: a bound on hanging, not on speed


def wait_for(
    condition: Callable[[], object], seconds: float = PATIENCE, *, every: float = 0.02, what: str = "what was awaited"
) -> float:
    """For how long ``condition`` did not hold: the seconds to the beginning of the last look that found it so, but for
    those in which a busy machine did not let us look. Fails if it does not hold in time."""
    began, kept, lasted = time.monotonic(), 0.0, 0.0
    while True:
        looked_at = time.monotonic()
        if condition():
            return lasted
        lasted = looked_at - began - kept
        before = time.monotonic()
        assert before - began < seconds, f"{what}: not within {seconds} s"
        time.sleep(every)
        kept += max(0.0, time.monotonic() - before - 2 * every)


def database_url() -> str:
    """The test database's address, as another process must be told."""
    found = connection.settings_dict
    login = quote(found["USER"]) + (":" + quote(found["PASSWORD"]) if found["PASSWORD"] else "")
    return f"postgres://{login}@{found['HOST']}:{found['PORT']}/{found['NAME']}"


class Upstream(ThreadingHTTPServer):
    """Answers every call with its path, after ``takes`` seconds; ``calls`` is the ledger of what reached it."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.takes = 0.0
        self.at_once = self.most_at_once = 0
        self._counting = threading.Lock()
        self.may_answer = threading.Event()
        self.may_answer.set()
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take calls and answer none before the end."""
        self.may_answer.clear()
        try:
            yield
        finally:
            self.may_answer.set()

    @contextmanager
    def under_way(self) -> Iterator[None]:
        with self._counting:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            yield
        finally:
            with self._counting:
                self.at_once -= 1

    def handle_error(self, *args: object) -> None:
        """A gateway that is killed resets its connections; that is no news here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Upstream

    def do_GET(self) -> None:
        self.server.calls.append(self.path)
        with self.server.under_way():
            self.server.may_answer.wait(PATIENCE)
            time.sleep(self.server.takes)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


class Node:
    """``call`` answers ``(status, body, request id)``; 0 is a connection that broke."""

    def __init__(self, var: Path, *, workers: int = 1, url: str | None = None, port: int = 0, **more: str) -> None:
        self._ports = ExitStack()
        self.port, self.admin_port = self._ports.enter_context(kept_ports(2))
        self.port = port or self.port
        self.var = var
        self._manager = ServiceManager()
        self._has_another_manager = "NOTIFY_SOCKET" in more  # then that one is told
        environ = {
            **os.environ,
            "APIMGR_VAR": str(var),
            "APIMGR_KEY_PEPPER": settings.KEY_PEPPER.decode(),
            "APIMGR_GATEWAY_ADMIN_TOKEN": TOKEN,
            "APIMGR_GATEWAY_LISTEN": f"127.0.0.1:{self.port}",
            "APIMGR_GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{self.admin_port}",
            "APIMGR_GATEWAY_WORKERS": str(workers),
            "APIMGR_NODE_NAME": "test-node",
            "APIMGR_EGRESS_ALLOW": "127.0.0.1",
            "DATABASE_URL": database_url() if url is None else url,
            "NOTIFY_SOCKET": self._manager.address,
            **more,
        }
        self.log = var.with_suffix(".log")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "rungateway"], cwd=settings.BASE_DIR, env=environ, stderr=log, stdout=log
            )

    @property
    def pid(self) -> int:
        """Of the supervisor, which is another one after an upgrade; 0 if the pid file names none of this node."""
        with suppress(FileNotFoundError, psutil.NoSuchProcess):
            process = psutil.Process(int((self.var / "gateway" / "pid").read_text()))
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("APIMGR_VAR") == str(self.var):
                return process.pid
        return 0

    def upgrade(self) -> None:
        """Have the supervisor replaced, and wait until the old one has ended."""
        old = psutil.Process(self.pid)
        old.send_signal(signal.SIGUSR2)
        wait_for(lambda: self.pid not in (0, old.pid))
        wait_for(lambda: has_ended(old), 60)

    def children(self, role: str = "") -> list[psutil.Process]:
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid or self.process.pid).children():
                with suppress(psutil.NoSuchProcess):  # one that ends while we look hides none of the others
                    if role in " ".join(child.cmdline()[3:4]):
                        found.append(child)
        return found

    def kill(self, role: str) -> None:
        for child in self.children(role):
            with suppress(psutil.NoSuchProcess):
                child.kill()

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        status, body, _ = self._request(self.admin_port, path, headers)
        return status, body

    def call(
        self, path: str, key: str = "", connection: http.client.HTTPConnection | None = None
    ) -> tuple[int, str, str]:
        return self._request(self.port, path, {"X-Api-Key": key} if key else {}, connection)

    def connection(self) -> http.client.HTTPConnection:
        """To be kept over several calls; it connects anew after an answer that closes it."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def _request(
        self, port: int, path: str, headers: dict[str, str], kept: http.client.HTTPConnection | None = None
    ) -> tuple[int, str, str]:
        client = kept or http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        try:
            client.request("GET", path, headers=headers)
            answer = client.getresponse()
            return answer.status, answer.read().decode(), answer.getheader("X-Request-Id", "")
        except (OSError, http.client.HTTPException):
            client.close()
            return 0, "", ""
        finally:
            if kept is None:
                client.close()

    def wait_ready(self) -> Node:
        """Until there is a configuration, and every worker accepts: one that answers says nothing of the others."""
        wait_for(lambda: self._has_another_manager or self._manager.was_told_that_all_accept())
        wait_for(lambda: self.get("/ready")[0] == 200 and self.call("/")[0])
        return self

    def metric(self, name: str) -> int:
        _, text = self.get("/metrics", Authorization=f"Bearer {TOKEN}")
        found = re.search(rf"^apimgr_gateway_{name} (\d+)$", text, re.MULTILINE)
        assert found, text
        return int(found[1])

    def stop(self) -> int:
        """Returns the exit status; nobody is told that of a successor."""
        successor = self.pid
        if successor not in (0, self.process.pid):
            process = psutil.Process(successor)
            process.terminate()
            wait_for(lambda: has_ended(process), 60)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self._ports.close()
        self._manager.close()
        return self.process.wait(60)


@contextmanager
def running(var: Path, **options: object) -> Iterator[Node]:
    node = Node(var, **options)  # type: ignore[arg-type]
    try:
        yield node
    finally:
        node.stop()
