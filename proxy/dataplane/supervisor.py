"""The node's first process: opens the sockets, starts workers and agent, restarts what dies, stops everything.

Children are programs of their own (not forks), so that a worker holds no more than it needs, and a reload runs the code
that is installed by then. Sockets stay open here for as long as the node runs: while a worker is replaced, callers wait
in the queue and none is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

from proxy.dataplane import stats
from proxy.dataplane.config import BOOT_VARIABLE, OWN_PORTS_VARIABLE, STATS_VARIABLE, Address, GatewayConfig

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
LONG_ENOUGH: Final = 5.0  # a child that lived this long did not die of its start
HANDOVER_SECONDS: Final = 1.0
WORKER_GRACE_SECONDS: Final = 35.0  # a worker drains for 30
AGENT_GRACE_SECONDS: Final = 10.0
# What a worker, which faces the world, has no business to know.
AGENTS_SECRETS: Final = frozenset({"DATABASE_URL", "APIMGR_GATEWAY_ADMIN_TOKEN", "APIMGR_SECRET_KEY"})


class CannotStart(RuntimeError):
    """The node cannot start; the message says why and what to do."""


@dataclass(slots=True)
class Child:
    """A place in the node and the process that holds it now."""

    role: str  # "worker 0" or "agent"
    fd: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = 0.0
    stats_offset: int = 0
    told_to_stop: bool = False

    @property
    def due_at(self) -> float:
        return self.started_at + self.pause


def open_listener(address: Address, purpose: str, variable: str) -> socket.socket:
    """A listening socket. Raises ``CannotStart`` with a sentence a newcomer understands."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise CannotStart(
            f"The gateway cannot listen at {address} for its {purpose}: {error.strerror or error}."
            f" Free the port or set {variable} to another."
        ) from error
    listener.setblocking(False)  # noqa: FBT003
    return listener


def claim(home: Path) -> TextIO:
    """Make this node's folder ours alone: two gateways on one spool would fight."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = (home / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise CannotStart(
            f"Another gateway runs on {home}. Stop it, or give this one an APIMGR_VAR of its own."
        ) from None
    return lock


class Supervisor:
    def __init__(self, config: GatewayConfig, environ: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._environ = {**environ, BOOT_VARIABLE: str(config.boot)}
        self._lock = claim(config.home)
        self._public = open_listener(config.listen, "callers", "APIMGR_GATEWAY_LISTEN")
        self._admin = open_listener(config.admin_listen, "admin port", "APIMGR_GATEWAY_ADMIN_LISTEN")
        own_ports = {*map(str, config.own_ports), _bound(self._public), _bound(self._admin)}
        self._environ[OWN_PORTS_VARIABLE] = ",".join(sorted(own_ports))
        stats.reset(config.stats_path)
        self._children = [Child("agent", self._admin.fileno()), *self._new_workers(0)]
        self._leaving: list[tuple[Child, float]] = []  # replaced, draining until then
        self._signals: set[int] = set()
        self._reload_wanted = False

    def _new_workers(self, stats_offset: int) -> list[Child]:
        fd = self._public.fileno()
        return [Child(f"worker {n}", fd, stats_offset=stats_offset) for n in range(self._config.workers)]

    def run(self) -> None:
        """Until SIGTERM or SIGINT."""
        wake = self._catch_signals()
        log.info("The gateway listens at %s, its admin port at %s", _bound(self._public), _bound(self._admin))
        try:
            while not self._signals & {signal.SIGTERM, signal.SIGINT}:
                if signal.SIGHUP in self._signals:
                    self._signals.discard(signal.SIGHUP)
                    self._reload_wanted = True
                # One at a time: the next one's stats blocks are those of the workers that still drain.
                if self._reload_wanted and not self._leaving:
                    self._reload_wanted = False
                    self._reload()
                self._tend()
                self._wait(wake)
        finally:
            self._stop()

    # --- Signals ------------------------------------------------------------------------------------------------

    def _catch_signals(self) -> int:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, lambda caught, _frame: self._signals.add(caught))
        return reading

    def _wait(self, wake: int) -> None:
        """Until a signal, or until a child is due to be started again."""
        due = [child.due_at for child in self._children if child.process is None]
        due += [until for _, until in self._leaving]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        if self._signals - {signal.SIGCHLD}:
            return
        select.select([wake], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        self._signals.discard(signal.SIGCHLD)

    # --- Children -----------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Start what is due, note what died, end what drains too long."""
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, now)
            if child.process is None and now >= child.due_at:
                self._start(child)
        for child, until in list(self._leaving):
            if child.process is None or child.process.poll() is not None:
                self._leaving.remove((child, until))
            elif now >= until:
                child.process.kill()

    def _bury(self, child: Child, now: float) -> None:
        assert child.process is not None
        if child.told_to_stop:
            child.told_to_stop, child.process, child.pause = False, None, 0.0
            return
        log.error("The %s ended with status %s and is started again", child.role, child.process.returncode)
        lived = now - child.started_at
        child.pause = lived if lived > LONG_ENOUGH else lived + min(max(child.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        child.process = None

    def _start(self, child: Child) -> None:
        command = [sys.executable, "-m", "proxy.dataplane", *child.role.split(), str(child.fd), str(os.getpid())]
        child.started_at = time.monotonic()
        # A session of its own: Ctrl-C in a terminal reaches us alone, and we stop the others in order.
        environ = {**self._environ, STATS_VARIABLE: str(child.stats_offset)}
        if child.role != "agent":
            environ = {name: value for name, value in environ.items() if name not in AGENTS_SECRETS}
        child.process = subprocess.Popen(command, env=environ, pass_fds=[child.fd], start_new_session=True)

    def _reload(self) -> None:
        """New workers accept, then the old ones drain. If a new one cannot start, the old ones stay."""
        log.info("Reloading: new workers are started")
        agent, *old = self._children
        fresh = self._new_workers(0 if old[0].stats_offset else self._config.workers)
        for child in fresh:
            self._start(child)
        time.sleep(HANDOVER_SECONDS)
        if any(child.process is None or child.process.poll() is not None for child in fresh):
            log.error("A new worker did not start; the old ones stay")
            _terminate(fresh)
            return
        until = time.monotonic() + WORKER_GRACE_SECONDS
        agent.told_to_stop = True  # and started again, with the code that is installed now
        _terminate([agent, *old])
        self._leaving += [(child, until) for child in old]
        self._children = [agent, *fresh]

    def _stop(self) -> None:
        """Workers first, so that the agent can ship what they recorded last."""
        agent, *workers = self._children
        workers += [child for child, _ in self._leaving]
        self._public.close()
        _end(workers, WORKER_GRACE_SECONDS)
        _end([agent], AGENT_GRACE_SECONDS)
        self._admin.close()
        self._lock.close()


def _terminate(children: list[Child]) -> None:
    for child in children:
        if child.process is not None and child.process.poll() is None:
            child.process.terminate()


def _end(children: list[Child], grace: float) -> None:
    _terminate(children)
    give_up_at = time.monotonic() + grace
    for child in children:
        if child.process is None:
            continue
        try:
            child.process.wait(max(0.0, give_up_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            log.error("The %s did not stop in time and was killed", child.role)
            child.process.kill()
            child.process.wait()


def _bound(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return str(Address(host, port))
