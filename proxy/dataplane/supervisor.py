"""The node's first process: opens the sockets, starts workers and agent, restarts what dies or stands still, stops all.

Children are programs of their own (not forks), so that a worker holds no more than it needs, and a reload runs the code
that is installed by then. Sockets stay open here for as long as the node runs: while a worker is replaced, callers wait
in the queue and none is refused.

An upgrade replaces this process as well: it starts its *successor*, which is given the sockets and the claim to the
node's folder, starts workers of its own and says so; then ours drain, and we end. To the books it is no new boot: spool
and counts go on.
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
from pathlib import Path
from typing import Final, TextIO

from proxy.dataplane import descriptors, presence, stats
from proxy.dataplane.children import START_SECONDS, Child, end, terminate
from proxy.dataplane.config import (
    BOOT_VARIABLE,
    OWN_PORTS_VARIABLE,
    READY_VARIABLE,
    SHARES_LIMITS_VARIABLE,
    STATS_VARIABLE,
    Address,
    GatewayConfig,
    software_version,
)
from proxy.dataplane.handover import VARIABLE as HANDOVER_VARIABLE
from proxy.dataplane.handover import Handover

log = logging.getLogger(__name__)

BACKLOG: Final = 4096
SUCCESSOR_SECONDS: Final = 30.0  # a successor that does not accept by then will not, all of it
WORKER_GRACE_SECONDS: Final = 35.0  # a worker drains for 30
AGENT_GRACE_SECONDS: Final = 10.0
STOP_SECONDS: Final = WORKER_GRACE_SECONDS + AGENT_GRACE_SECONDS  # what a supervisor takes to stop
KILL_AGAIN_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 0.2
WATCH_SECONDS: Final = 1.0  # between two looks at whether children go on
# What a worker, which faces the world, has no business to know.
AGENTS_SECRETS: Final = frozenset(
    {"DATABASE_URL", "REDIS_URL", "APIMGR_GATEWAY_LIMITS_URL", "APIMGR_GATEWAY_ADMIN_TOKEN", "APIMGR_SECRET_KEY"}
)


class CannotStart(RuntimeError):
    """The node cannot start; the message says why and what to do."""


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
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (home / "lock").open("w")
    except OSError as error:
        raise CannotStart(
            f"The gateway cannot keep its state in {home}: {error.strerror}. Give it an APIMGR_VAR it may write in."
        ) from None
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
        before, now = descriptors.raise_limit()
        raised = f", raised from {before}" if now != before else ""
        log.info("Each process may have %d open files%s", now, raised)
        _say_if_callers_do_not_fit(now, config.max_connections, asked_for="APIMGR_GATEWAY_MAX_CONNECTIONS" in environ)
        self._given = {name: value for name, value in environ.items() if name != HANDOVER_VARIABLE}
        self._handover = _handover(environ)
        if self._handover is None:
            self._lock = claim(config.home)
            self._public = open_listener(config.listen, "callers", "APIMGR_GATEWAY_LISTEN")
            self._admin = open_listener(config.admin_listen, "admin port", "APIMGR_GATEWAY_ADMIN_LISTEN")
            _reset_stats(config)
        else:
            self._public, self._admin, self._lock = self._handover.adopt()
        own_ports = {*map(str, config.own_ports), _bound(self._public), _bound(self._admin)}
        self._environ = {
            **self._given,
            BOOT_VARIABLE: str(config.boot),
            OWN_PORTS_VARIABLE: ",".join(sorted(own_ports)),
            SHARES_LIMITS_VARIABLE: str(int(config.shares_limits)),
        }
        workers = self._new_workers(self._handover.stats_offset if self._handover else 0)
        self._children = [Child("agent", self._admin.fileno()), *workers]
        self._joining: list[Child] = []  # started to replace the workers
        self._joining_until = 0.0
        self._leaving: list[Child] = []  # replaced, finishing what they have begun
        self._watch_at = time.monotonic() + WATCH_SECONDS
        self._successor: Child | None = None  # started to replace us
        self._announced = False
        self._over = False  # a successor has taken over, or we failed as one
        self._signals: set[int] = set()
        self._wanted: set[int] = set()  # SIGHUP, SIGUSR2: what is to be done as soon as nothing else is under way

    def _new_workers(self, stats_offset: int) -> list[Child]:
        fd = self._public.fileno()
        return [Child(f"worker {n}", fd, stats_offset=stats_offset) for n in range(self._config.workers)]

    @property
    def _free_stats_offset(self) -> int:
        """Where the next workers count while the present ones drain."""
        return 0 if self._children[1].stats_offset else self._config.workers

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or until a successor has taken over. Returns the exit status."""
        wake = self._catch_signals()
        if self._handover is None:
            presence.write_pid(self._config.home / "pid")
        log.info(
            "The gateway (%s) listens at %s, its admin port at %s",
            software_version(), _bound(self._public), _bound(self._admin),
        )  # fmt: skip
        try:
            while not self._signals & {signal.SIGTERM, signal.SIGINT} and not (self._over and not self._leaving):
                self._tend()  # first: who has left by now may be what a reload waits for
                self._watch()
                self._proceed()
                self._wait(wake)
        finally:
            self._stop()
        return 1 if self._handover is not None and not self._announced else 0

    def _proceed(self) -> None:
        """One thing at a time: the next one's stats blocks are those of the workers that still drain."""
        if not self._announced:
            self._see_whether_all_accept()
        self._wanted |= self._signals & {signal.SIGHUP, signal.SIGUSR2}
        self._signals -= self._wanted
        if self._joining:
            self._go_on_with_reload()
        elif self._successor is not None:
            self._go_on_with_upgrade(self._successor)
        elif self._over:
            self._wanted.clear()
        elif self._announced and self._wanted and not self._others_drain:
            # An upgrade starts new workers anyway.
            self._begin_upgrade() if signal.SIGUSR2 in self._wanted else self._begin_reload()

    @property
    def _others_drain(self) -> bool:
        return bool(self._leaving) or (self._handover is not None and self._handover.predecessor_lives)

    def _see_whether_all_accept(self) -> None:
        workers = self._children[1:]
        if all(worker.accepts for worker in workers):
            self._announced = True
            if self._handover is not None:
                log.info("This gateway, process %d, takes over from process %d", os.getpid(), os.getppid())
                presence.write_pid(self._config.home / "pid")
                self._handover.say_ready()
            else:
                presence.notify("READY=1")
        elif self._handover is not None and any(worker.pause for worker in workers):
            log.error("A worker of this successor did not start, so it gives up")
            self._over = True

    # --- Signals ------------------------------------------------------------------------------------------------

    def _catch_signals(self) -> int:
        reading, writing = os.pipe()
        os.set_blocking(reading, False)
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD):
            signal.signal(number, lambda caught, _frame: self._signals.add(caught))
        return reading

    def _wait(self, wake: int) -> None:
        """Until a signal, until a child says that it accepts, or until one is due to be started again."""
        expected = [*self._children, *self._joining, *([self._successor] if self._successor else [])]
        due = [child.due_at for child in self._children if child.process is None]
        due += [child.stop_by for child in [*self._children, *self._leaving] if child.stop_by]
        due += [self._joining_until] if self._joining or self._successor else []
        due += [self._watch_at] if self._watches else []
        if self._wanted:  # for the end of a predecessor, of which nobody tells us
            due.append(time.monotonic() + LOOK_SECONDS)
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        if self._signals - {signal.SIGCHLD} or (self._over and not self._leaving):
            return
        # Who accepts goes on to speak, and is heard at the next look.
        silent = [child.ready_fd for child in expected if child.ready_fd >= 0 and not child.accepts]
        select.select([wake, *silent], [], [], timeout)
        with contextlib.suppress(BlockingIOError):
            os.read(wake, 4096)
        self._signals.discard(signal.SIGCHLD)

    # --- Children -----------------------------------------------------------------------------------------------

    def _tend(self) -> None:
        """Start what is due, note what died, end what takes too long to stop."""
        now = time.monotonic()
        for child in [*self._children, *self._leaving]:
            if child.process is not None and 0 < child.stop_by <= now:
                child.process.kill()
                child.stop_by = now + KILL_AGAIN_SECONDS  # one that hangs in the kernel does not end at once
        for child in self._children:
            child.hear()
            if child.process is not None and child.process.poll() is not None:
                self._bury(child, now)
            if child.process is None and now >= child.due_at:
                self._start(child)
        for child in [child for child in self._leaving if child.has_ended]:
            self._leaving.remove(child)
            if child.role == "successor":  # it may have taken over when we had given it up
                presence.write_pid(self._config.home / "pid")

    @property
    def _watches(self) -> bool:
        """Whether it is for us to look around once a second; not once a successor does."""
        return bool(self._children) and (self._config.stall_seconds > 0 or presence.is_watched())

    def _watch(self) -> None:
        """Kill who stands still; and say to the service manager, who may do as much for us, that we do not."""
        if not self._watches or time.monotonic() < self._watch_at:
            return
        self._watch_at = time.monotonic() + WATCH_SECONDS  # from now, however late this is: each look is one
        presence.notify("WATCHDOG=1")
        if self._config.stall_seconds:
            self._kill_who_stands_still()

    def _kill_who_stands_still(self) -> None:
        """It keeps the callers it has, and nobody else would ever end it.

        Not who joins or leaves: they have their time for that, and are killed then.
        """
        for child in self._children:
            child.hear()
            if child.stands_still(self._config.stall_seconds) and child.process is not None:
                seconds = child.silent_looks * WATCH_SECONDS
                log.error(
                    "The %s, process %d, has stood still for %.0f s and is killed",
                    child.role, child.process.pid, seconds,
                )  # fmt: skip
                child.kill_as_stalled()

    def _bury(self, child: Child, now: float) -> None:
        assert child.process is not None
        child.stop_hearing()
        if child.stop_by:
            child.stop_by, child.process, child.pause, child.due_at = 0.0, None, 0.0, now
            return
        log.error("The %s ended with status %s and is started again", child.role, child.process.returncode)
        self._count_end(child)
        child.put_off(now)
        child.process = None

    def _count_end(self, child: Child) -> None:
        with contextlib.suppress(OSError):  # a disk that fails is no reason to have no worker
            stats.count_end(self._config.stats_path, child.role.split()[0], "stall" if child.stood_still else "exit")

    def _start(self, child: Child) -> None:
        command = [sys.executable, "-m", "proxy.dataplane", *child.role.split(), str(child.fd), str(os.getpid())]
        child.started_at = time.monotonic()
        # A session of its own: Ctrl-C in a terminal reaches us alone, and we stop the others in order.
        environ = {**self._environ, STATS_VARIABLE: str(child.stats_offset)}
        if child.role != "agent":
            environ = {name: value for name, value in environ.items() if name not in AGENTS_SECRETS}
        passed = [child.fd]
        try:
            child.accepts = False
            child.ready_fd, says = os.pipe()
            environ[READY_VARIABLE] = str(says)
            passed.append(says)
            child.begin(subprocess.Popen(command, env=environ, pass_fds=passed, start_new_session=True))
        except OSError:  # no memory, no process number, no descriptor: that may pass
            log.exception("The %s cannot be started, and is tried again", child.role)
            child.stop_hearing()
            child.put_off(child.started_at)
        finally:
            for fd in passed[1:]:
                os.close(fd)

    # --- Reload -------------------------------------------------------------------------------------------------

    def _begin_reload(self) -> None:
        """Start new workers beside the old ones."""
        self._wanted.discard(signal.SIGHUP)
        log.info("Reloading: new workers are started")
        presence.notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        self._joining = self._new_workers(self._free_stats_offset)
        self._joining_until = time.monotonic() + START_SECONDS
        for child in self._joining:
            self._start(child)

    def _go_on_with_reload(self) -> None:
        """Once all new workers accept, the old ones drain. If one cannot start, the old ones stay."""
        for child in self._joining:
            child.hear()
        died = any(child.has_ended or (child.ready_fd < 0 and not child.accepts) for child in self._joining)
        if died or time.monotonic() >= self._joining_until:
            self._give_up_reload()
        elif all(child.accepts for child in self._joining):
            self._hand_over()

    def _give_up_reload(self) -> None:
        log.error("A new worker did not start; the old ones stay")
        for child in self._joining:
            child.stop_hearing()
        end(self._joining, 1.0)  # the one that died may still be on its way out
        self._joining = []
        presence.notify("READY=1")

    def _hand_over(self) -> None:
        agent, *old = self._children
        agent.tell_to_stop(AGENT_GRACE_SECONDS)  # and started again, with the code that is installed now
        self._drain(old)
        self._children, self._joining = [agent, *self._joining], []
        presence.notify("READY=1")
        log.info("Reloaded: the new workers accept, the old ones finish what they have begun")

    def _drain(self, workers: list[Child]) -> None:
        """Let workers that have successors finish what they have begun."""
        for worker in workers:
            worker.tell_to_stop(WORKER_GRACE_SECONDS, signal.SIGUSR1)
        self._leaving += workers

    # --- Upgrade ------------------------------------------------------------------------------------------------

    def _begin_upgrade(self) -> None:
        """Start the program that is installed now, with our sockets and our claim."""
        self._wanted.discard(signal.SIGUSR2)
        if os.getpid() == 1:
            log.error("No upgrade: where we are process 1, all others end with us. Start a new container instead")
            return
        log.info("Upgrading: the program that is installed now is started beside this one")
        try:
            reading, writing = os.pipe()
        except OSError:
            log.exception("The successor cannot be started")
            return
        handover = Handover(
            self._public.fileno(),
            self._admin.fileno(),
            self._lock.fileno(),
            writing,
            self._free_stats_offset,
            os.getpid(),
        )
        environ = {**self._given, BOOT_VARIABLE: str(self._config.boot), HANDOVER_VARIABLE: str(handover)}
        self._successor = Child("successor", -1, ready_fd=reading)
        self._joining_until = time.monotonic() + SUCCESSOR_SECONDS
        try:
            # In our session: Ctrl-C in a terminal is for whoever is the node, which it may be from now on.
            self._successor.process = subprocess.Popen(
                [sys.executable, "-m", "proxy.dataplane"], env=environ, pass_fds=handover.descriptors
            )
        except OSError:
            log.exception("The successor cannot be started")
        finally:
            os.close(writing)

    def _go_on_with_upgrade(self, successor: Child) -> None:
        """Once the successor accepts, make way for it. If it does not come up, everything stays as it is."""
        successor.hear()
        if successor.accepts:
            self._make_way(successor)
        elif successor.has_ended:
            status = successor.process.returncode if successor.process is not None else "none"
            self._give_up_upgrade(successor, f"the new program ended with status {status}")
        elif time.monotonic() >= self._joining_until:
            self._give_up_upgrade(successor, f"the new program does not accept after {SUCCESSOR_SECONDS:.0f} s")

    def _give_up_upgrade(self, successor: Child, reason: str) -> None:
        log.error("No upgrade: %s; process %d carries on", reason, os.getpid())
        successor.tell_to_stop(STOP_SECONDS)  # what it accepted it may finish, as in any stop
        self._leaving.append(successor)
        self._successor = None

    def _make_way(self, successor: Child) -> None:
        assert successor.process is not None
        # The service manager believes no other than the main process it knows.
        presence.notify(f"MAINPID={successor.process.pid}", "READY=1")
        agent, *workers = self._children
        agent.tell_to_stop(AGENT_GRACE_SECONDS)  # its successor waits for that before it touches anything
        self._leaving.append(agent)
        self._drain(workers)
        self._children, self._successor, self._over = [], None, True
        log.info("Upgraded: process %d is the gateway now, this one ends with its last call", successor.process.pid)

    # --- The end ------------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Workers first, so that the agent can ship what they recorded last."""
        if not self._over:
            presence.notify("STOPPING=1")
        agents, workers = self._children[:1], self._children[1:]
        workers += [*self._joining, *self._leaving]
        self._public.close()
        # A successor that is not the gateway yet has workers and an agent of its own to stop.
        successor = [self._successor] if self._successor else []
        terminate(successor)
        end(workers, WORKER_GRACE_SECONDS)
        end(agents, AGENT_GRACE_SECONDS)
        end(successor, STOP_SECONDS)
        self._admin.close()
        presence.remove_pid(self._config.home / "pid")
        self._lock.close()


def _say_if_callers_do_not_fit(files: int, callers: int, *, asked_for: bool) -> None:
    """Once for all workers. That the default does not fit is nobody's mistake: whoever comes late only waits."""
    if files < descriptors.needed(callers):
        log.log(
            logging.WARNING if asked_for else logging.INFO,
            "That is room for %d callers at once in each worker; further ones wait in the queue."
            " For APIMGR_GATEWAY_MAX_CONNECTIONS=%d have a limit of %d",
            descriptors.places(files, descriptors.OWN), callers, descriptors.needed(callers),
        )  # fmt: skip


def _reset_stats(config: GatewayConfig) -> None:
    """A disk that is full, or can only be read, is no reason not to start: what needs no record is served."""
    config.passing_stats_path.unlink(missing_ok=True)
    try:
        stats.reset(config.stats_path)
    except OSError as error:
        log.error("The spool cannot be written, so calls that need a record are refused: %s", error)
        with contextlib.suppress(OSError):
            config.stats_path.unlink()  # half of it
        stats.reset(config.passing_stats_path)


def _handover(environ: Mapping[str, str]) -> Handover | None:
    """What a predecessor left us. Raises ``CannotStart``."""
    try:
        return Handover.found_in(environ)
    except ValueError as error:
        raise CannotStart(f"This program cannot take over from the one that runs: {error}.") from error


def _bound(listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    return str(Address(host, port))
