"""The platform's processes on one host, as the demo and the journeys of the tests start them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from apimgr import env
from apimgr.management.demo.processes import ProcessGroup

MANAGE = (sys.executable, str(env.BASE_DIR / "manage.py"))
CELERY = (sys.executable, "-m", "celery", "-A", "apimgr", "--quiet")
ACCESS_LOG = "%(m)s %(U)s %(s)s %(M)s ms"


@dataclass(frozen=True, slots=True)
class Ports:
    web: int
    gateway: int
    admin: int
    upstream: int

    @classmethod
    def from_environment(cls) -> Ports:
        return cls(
            web=env.number("APIMGR_WEB_PORT", 8000, minimum=1, maximum=65535),
            gateway=env.number("APIMGR_GATEWAY_PORT", 8080, minimum=1, maximum=65535),
            admin=env.number("APIMGR_GATEWAY_ADMIN_PORT", 8081, minimum=1, maximum=65535),
            upstream=env.number("APIMGR_UPSTREAM_PORT", 8090, minimum=1, maximum=65535),
        )

    def items(self) -> list[tuple[str, str, int]]:
        return [
            ("the web", "APIMGR_WEB_PORT", self.web),
            ("the gateway", "APIMGR_GATEWAY_PORT", self.gateway),
            ("the gateway's admin port", "APIMGR_GATEWAY_ADMIN_PORT", self.admin),
            ("the demo upstream", "APIMGR_UPSTREAM_PORT", self.upstream),
        ]

    def busy(self) -> list[str]:
        """A sentence for each port that cannot be had."""
        seen: dict[int, str] = {}
        problems = []
        for what, variable, port in self.items():
            if port in seen:
                problems.append(f"{variable} and {seen[port]} are both {port}.")
            elif not is_free(port):
                problems.append(f"Port {port} for {what} is busy{taken_by(port)}: set {variable} to another one.")
            seen[port] = variable
        return problems


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def taken_by(port: int) -> str:
    try:
        listeners = [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and c.laddr]
        pid = next((c.pid for c in listeners if c.laddr and c.laddr[1] == port), None)
        return f" (process {pid}, {psutil.Process(pid).name()})" if pid else ""
    except psutil.Error:  # Another user's process, or one that has just ended.
        return ""


@dataclass(frozen=True, slots=True)
class Stack:
    ports: Ports
    database_url: str = ""

    @property
    def web_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.web}"

    @property
    def gateway_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.gateway}"

    @property
    def admin_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.admin}"

    @property
    def upstream_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.upstream}"

    def environment(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url,
            "APIMGR_WEB_URL": self.web_url,
            "APIMGR_GATEWAY_URL": self.gateway_url,
            "APIMGR_GATEWAY_LISTEN": f"127.0.0.1:{self.ports.gateway}",
            "APIMGR_GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{self.ports.admin}",
            "APIMGR_GATEWAY_ADMIN_URL": self.admin_url,
            "APIMGR_UPSTREAM_URL": self.upstream_url,
            "APIMGR_MAILBOX": "1",
            # Who runs the demo as root knows it.
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges",
            # The demo's upstream is on loopback, which imports and connection tests may otherwise not reach.
            "APIMGR_EGRESS_ALLOW": ",".join([*env.words("APIMGR_EGRESS_ALLOW"), "127.0.0.1", "localhost"]),
        }

    # --- Commands -----------------------------------------------------------------------------------------------
    def web(self) -> tuple[str, ...]:
        bind = f"127.0.0.1:{self.ports.web}"
        log = ("--access-logfile", "-", "--access-logformat", ACCESS_LOG, "--log-level", "warning")
        return (*gunicorn(sys.executable), "-b", bind, "-w", "2", "--threads", "4", *log, "apimgr.wsgi")

    def upstream(self) -> tuple[str, ...]:
        bind, log = f"127.0.0.1:{self.ports.upstream}", ("--log-level", "warning")
        return (*gunicorn(str(upstream_python())), "-b", bind, "-k", "gthread", "--threads", "16", *log, "httpbin:app")

    def gateway(self) -> tuple[str, ...]:
        return (*MANAGE, "rungateway")

    def worker(self) -> tuple[str, ...]:
        quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "warning")
        return (*CELERY, "worker", "--pool", "threads", "--concurrency", "4", *quiet)

    def beat(self) -> tuple[str, ...]:
        # Not `worker --beat`: that beat outlives a killed worker and goes on scheduling beside the next one.
        return (*CELERY, "beat", "--loglevel", "warning", "--pidfile", "")

    # --- Life -----------------------------------------------------------------------------------------------------
    def start(self, group: ProcessGroup) -> None:
        """Start what serves, and wait until each answers."""
        group.start("upstream", *self.upstream())
        group.start("web", *self.web())
        group.start("gateway", *self.gateway())
        group.start("worker", *self.worker())
        group.start("beat", *self.beat())
        group.wait_until("The demo upstream", answers(f"{self.upstream_url}/status/200"))
        group.wait_until("The web", answers(f"{self.web_url}/healthz"))
        group.wait_until("The gateway", answers(f"{self.admin_url}/ready"))


def gunicorn(python: str) -> tuple[str, ...]:
    # Its heartbeat files on disk stall when the disk does; its control socket would be shared by all we start.
    heartbeat = ("--worker-tmp-dir", "/dev/shm") if Path("/dev/shm").is_dir() else ()  # noqa: S108
    return (python, "-m", "gunicorn", "--no-control-socket", *heartbeat)


def upstream_python() -> Path:
    """The interpreter of the demo upstream's own environment."""
    return Path(env.text("APIMGR_UPSTREAM_PYTHON") or env.BASE_DIR / ".venv-upstream" / "bin" / "python")


def answers(url: str) -> Callable[[], bool]:
    def condition() -> bool:
        try:
            return httpx.get(url, timeout=2, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    return condition


def embedded_postgres(group: ProcessGroup) -> str:
    """Hold the embedded server for as long as we live, and return its URL."""
    # A pipe closes however we end, so no signal is needed to tell the holder.
    holder = group.start(
        "postgres", sys.executable, "-m", "apimgr.postgres", "hold", cwd=env.BASE_DIR, stdin=subprocess.PIPE
    )
    group.wait_until("PostgreSQL", lambda: bool(holder.last_words), 120)
    return env.database_url()


def ensure_upstream() -> str | None:
    """Why there is no demo upstream, if there is none."""
    python = upstream_python()
    return None if shutil.which(python) else f"{python} is missing: `make demo` installs the demo upstream."
