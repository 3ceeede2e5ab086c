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
START_SECONDS: Final = 20  # a worker that does not accept by then will not
_MOST_DOUBLED: Final = 5
_MANY_WORDS: Final = 65_536  # all that wait in a pipe


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
    ready_fd: int = -1  # readable once it accepts, now and then from there on, and when it has ended
    accepts: bool = False
    spoke: bool = False  # since the last look
    silent_looks: int = 0  # in a row
    stood_still: bool = False  # so it was killed
    stalled_starts: int = 0  # in a row

    @property
    def has_ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def begin(self, process: subprocess.Popen[bytes]) -> None:
        """``process`` holds the place from now on."""
        self.process = process
        self.spoke, self.silent_looks, self.stood_still = False, 0, False

    def hear(self) -> None:
        """Take note of what it said: first that it accepts, then that it goes on."""
        if self.ready_fd >= 0 and _can_be_read(self.ready_fd):
            if os.read(self.ready_fd, _MANY_WORDS):
                self.accepts = self.spoke = True
                self.stalled_starts = 0
            else:  # it ended
                self.stop_hearing()

    def stands_still(self, patience: int) -> bool:
        """Look at it, once a second; whether it had nothing to say at ``patience`` looks in a row.

        Looks are counted rather than time, for a supervisor that stood still itself, or a machine that was suspended,
        has not seen anybody stand still meanwhile. Who has not said a word yet may be starting, and slowly: it is
        given twice as long each time that was too short. Who was told to stop has its time for that, and is killed
        then; who cannot be heard is not judged.
        """
        if not self.accepts:
            patience = max(patience, START_SECONDS) << min(self.stalled_starts, _MOST_DOUBLED)
        is_heard = self.process is not None and self.ready_fd >= 0 and not self.stop_by
        self.silent_looks = self.silent_looks + 1 if is_heard and not self.spoke else 0
        self.spoke = False
        return self.silent_looks >= patience

    def kill_as_stalled(self) -> None:
        """One that hangs in the kernel does not end at once, and is killed again after as long."""
        assert self.process is not None
        self.process.kill()
        self.stood_still, self.silent_looks = True, 0
        self.stalled_starts += not self.accepts

    def put_off(self, now: float) -> None:
        """It ended ``now``: when to start it again. At once, unless it did not get as far as to serve for a while."""
        has_served = now - self.started_at >= LONG_ENOUGH and self.accepts
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
