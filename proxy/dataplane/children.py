"""The processes a supervisor starts: how one is known to accept, when it is started again, how it is told to end."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import time
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 5.0
LONG_ENOUGH: Final = 1.0  # a child that served this long did not die of its start: so there is one a second at most


@dataclass(slots=True, eq=False)
class Child:
    """A place in the node and the process that holds it now."""

    role: str  # "worker 0", "agent" or "successor"
    fd: int
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    pause: float = 0.0  # before it is started again; it grows while one after the other dies of its start
    due_at: float = 0.0
    stats_offset: int = 0
    stop_by: float = 0.0  # it was told to stop, and is killed then
    ready_fd: int = -1  # readable once it accepts, or has ended
    accepts: bool = False

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def hear(self) -> None:
        """Take note if it said that it accepts."""
        if self.ready_fd >= 0 and _can_be_read(self.ready_fd):
            self.accepts = bool(os.read(self.ready_fd, 1))  # closed without a word: it ended
            self.stop_hearing()

    def put_off(self, now: float) -> None:
        """It ended ``now``: when to start it again. At once, unless it did not get as far as to serve for a while."""
        has_served = now - self.started_at >= LONG_ENOUGH and (self.accepts or self.role == "agent")
        self.pause = 0.0 if has_served else min(max(self.pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self.due_at = now + self.pause

    def tell_to_stop(self, grace: float, number: int = signal.SIGTERM) -> None:
        terminate([self], number)
        self.stop_hearing()
        self.stop_by = time.monotonic() + grace

    def stop_hearing(self) -> None:
        if self.ready_fd >= 0:
            os.close(self.ready_fd)
            self.ready_fd = -1


def terminate(children: list[Child], number: int = signal.SIGTERM) -> None:
    for child in children:
        if child.process is not None and child.process.poll() is None:
            child.process.send_signal(number)


def end(children: list[Child], grace: float) -> None:
    terminate(children)
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


def _can_be_read(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])
