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
from proxy.dataplane.config import (
    BOOT_VARIABLE,
    OWN_PORTS_VARIABLE,
    READY_VARIABLE,
    STATS_VARIABLE,
    Address,
    GatewayConfig,
)

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
LONG_ENOUGH: Final = 5.0  # a child that lived this long did not die of its start
START_SECONDS: Final = 20.0  # a worker that does not accept by then will not
WORKER_GRACE_SECONDS: Final = 35.0  # a worker drains for 30
AGENT_GRACE_SECONDS: Final = 10.0
# What a worker, which faces the world, has no business to know.
AGENTS_SECRETS: Final = frozenset({"DATABASE_URL", "APIMGR_GATEWAY_ADMIN_TOKEN", "APIMGR_SECRET_KEY"})


class CannotStart(RuntimeError):
    """The node cannot start; the message says why and what to do."""


@dataclass(slots=True, eq=False)
class Child:
    """A place in the node and the process that holds it now."""

    role: str  # "worker 0" or "agent"
    fd: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = 0.0
    stats_offset: int = 0
    told_to_stop: bool = False
    ready_fd: int = -1  # readable once it accepts

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
        self._joining: list[Child] = []  # started to replace the workers
        self._joining_until = 0.0
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
                self._tend()  # first: who has left by now may be what a reload waits for
                # One at a time: the next one's stats blocks are those of the workers that still drain.
                if self._reload_wanted and not self._leaving and not self._joining:
                    self._reload_wanted = False
                    self._begin_reload()
                if self._joining:
                    self._go_on_with_reload()
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
        waited_for = [child.ready_fd for child in self._joining if child.ready_fd >= 0]
        due += [self._joining_until] if self._joining else []
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        if self._signals - {signal.SIGCHLD}:
            return
        select.select([wake, *waited_for], [], [], timeout)
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
        says = -1
        if child in self._joining:
            child.ready_fd, says = os.pipe()
            environ[READY_VARIABLE] = str(says)
        passed = [child.fd, says] if says >= 0 else [child.fd]
        child.process = subprocess.Popen(command, env=environ, pass_fds=passed, start_new_session=True)
        if says >= 0:
            os.close(says)

    # --- Reload -------------------------------------------------------------------------------------------------

    def _begin_reload(self) -> None:
        """Start new workers beside the old ones."""
        log.info("Reloading: new workers are started")
        self._joining = self._new_workers(0 if self._children[1].stats_offset else self._config.workers)
        self._joining_until = time.monotonic() + START_SECONDS
        for child in self._joining:
            self._start(child)

    def _go_on_with_reload(self) -> None:
        """Once all new workers accept, the old ones drain. If one cannot start, the old ones stay."""
        failed = any(_has_ended(child) for child in self._joining) or time.monotonic() >= self._joining_until
        for child in self._joining:
            if not failed and child.ready_fd >= 0 and _can_be_read(child.ready_fd):
                failed = not os.read(child.ready_fd, 1)  # closed without a word: it died
                os.close(child.ready_fd)
                child.ready_fd = -1
        if failed:
            self._give_up_reload()
        elif all(child.ready_fd < 0 for child in self._joining):
            self._hand_over()

    def _give_up_reload(self) -> None:
        log.error("A new worker did not start; the old ones stay")
        for child in self._joining:
            if child.ready_fd >= 0:
                os.close(child.ready_fd)
        _end(self._joining, 0.0)
        self._joining = []

    def _hand_over(self) -> None:
        agent, *old = self._children
        until = time.monotonic() + WORKER_GRACE_SECONDS
        agent.told_to_stop = True  # and started again, with the code that is installed now
        _terminate([agent])
        _terminate(old, signal.SIGUSR1)
        self._leaving += [(child, until) for child in old]
        self._children, self._joining = [agent, *self._joining], []
        log.info("Reloaded: the new workers accept, the old ones finish what they have begun")

    def _stop(self) -> None:
        """Workers first, so that the agent can ship what they recorded last."""
        agent, *workers = self._children
        workers += [*self._joining, *(child for child, _ in self._leaving)]
        self._public.close()
        _end(workers, WORKER_GRACE_SECONDS)
        _end([agent], AGENT_GRACE_SECONDS)
        self._admin.close()
        self._lock.close()


def _has_ended(child: Child) -> bool:
    return child.process is None or child.process.poll() is not None


def _can_be_read(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def _terminate(children: list[Child], number: int = signal.SIGTERM) -> None:
    for child in children:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(number)


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
