"""Making segments survive a power cut, away from event loops: an ``fsync`` there would stall every call.

How far a node goes is its ``APIMGR_GATEWAY_DURABILITY``. ``os``: nobody syncs; what processes do is safe, a power cut
costs what the system had not written yet. ``group``: the agent syncs every segment every 50 ms, or as soon as 256 KiB
were recorded. ``strict``: besides, each worker holds the end of an answer back until the call's record is on the disk;
calls that wait share one sync.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from proxy.dataplane.usage.mapped import is_finished
from proxy.dataplane.usage.segments import find_segments

log = logging.getLogger(__name__)

LONGEST_SYNC_SECONDS: Final = 10.0  # a disk that takes longer is as good as broken

Done = Callable[[bool], None]  # told whether it is on the disk


class Unsynced(Protocol):
    """What a worker writes to; ``usage.spool.Spool``."""

    def unsynced(self) -> list[int]:
        """Descriptors of all that may hold what is not on the disk; whoever asks closes them. Raises ``OSError``."""
        ...

    def sync_failed(self) -> None: ...


class Syncer:
    """A worker's group commit: one sync at a time, in a thread, for all who came while the one before ran."""

    def __init__(self, spool: Unsynced, sync: Callable[[int], None] = os.fdatasync) -> None:
        self._spool = spool
        self._sync = sync
        self._syncing: list[Done] = []
        self._waiting: list[Done] = []
        self._is_busy = False
        self._late_at = 0.0
        self._thread = ThreadPoolExecutor(1, "sync")

    def after(self, done: Done) -> None:
        """Call ``done`` once everything that is appended by now is on the disk, or cannot be brought there."""
        self._waiting.append(done)
        if not self._is_busy:
            self._start()

    def is_stuck(self) -> bool:
        """Whether the disk does not answer. Who waits for it is told that it failed: ask now and then."""
        is_late = self._is_busy and time.monotonic() >= self._late_at
        if is_late:
            self._tell_all_that_it_failed()
        return is_late

    def _start(self) -> None:
        try:
            fds = self._spool.unsynced()
        except OSError as trouble:
            self._failed(trouble)
            return
        self._is_busy = True
        self._late_at = time.monotonic() + LONGEST_SYNC_SECONDS
        self._syncing, self._waiting = self._waiting, []
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._sync_all, fds)
        work.add_done_callback(self._finished)

    def _sync_all(self, fds: list[int]) -> None:
        try:
            for fd in fds:
                self._sync(fd)
        finally:
            for fd in fds:
                os.close(fd)

    def _finished(self, work: asyncio.Future[None]) -> None:
        self._is_busy = False
        trouble = None if work.cancelled() else work.exception()
        if trouble is not None or work.cancelled():
            self._failed(trouble)
            return
        synced, self._syncing = self._syncing, []
        if self._waiting:
            self._start()
        self._tell(synced, is_on_disk=True)

    def _failed(self, trouble: BaseException | None) -> None:
        """Nobody's record can be vouched for: the system may have tried them all, and says so only once."""
        log.error("Usage records could not be brought to the disk: %s; their calls are broken off", trouble)
        self._spool.sync_failed()
        self._tell_all_that_it_failed()

    def _tell_all_that_it_failed(self) -> None:
        told, self._syncing, self._waiting = [*self._syncing, *self._waiting], [], []
        self._tell(told, is_on_disk=False)

    @staticmethod
    def _tell(told: list[Done], *, is_on_disk: bool) -> None:
        for done in told:
            done(is_on_disk)

    def close(self) -> None:
        self._thread.shutdown()


class Durability:
    """Syncs what may have grown since it last looked. Call ``sync`` from a thread, as often as ``group`` promises."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._named: set[Path] = set()  # segments whose names are on the disk
        self._settled: set[Path] = set()  # finished and synced

    def sync(self) -> None:
        found = {segment.path for segment in find_segments(self._root)}
        self._settled = {path for path in found if path in self._settled or _sync_file(path)}
        new_in = {path.parent for path in found - self._named}
        for folder in [*new_in, self._root] if new_in else []:
            _sync_folder(folder)
        self._named = found


def keep(path: Path, body: bytes) -> None:
    """Write a file that a power cut leaves whole and by its name, as it does the folder that it may be the first in."""
    path.parent.mkdir(exist_ok=True, mode=0o700)
    with path.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    for folder in (path.parent, path.parent.parent):
        _sync_folder(folder)


def _sync_file(path: Path) -> bool:
    """Sync it. True if it cannot have grown since. Where nothing was written this costs next to nothing."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:  # Shipped in between.
        return True
    try:
        finished = is_finished(fd)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    return finished


def _sync_folder(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:  # an earlier boot's, shipped in between
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
