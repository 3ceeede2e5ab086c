"""Making segments survive a power cut, away from event loops: an ``fsync`` there would stall every call.

How far a node goes is its ``APIMGR_GATEWAY_DURABILITY``. ``os``: nobody syncs; what processes do is safe, a power cut
costs what the system had not written yet. ``group``: the agent syncs every segment every 50 ms. ``strict``: besides,
each worker holds the end of an answer back until the call's record is on the disk; calls that wait share one sync.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Protocol

from proxy.dataplane.usage.mapped import is_finished
from proxy.dataplane.usage.segments import find_segments

log = logging.getLogger(__name__)

Done = Callable[[bool], None]  # told whether it is on the disk


class Unsynced(Protocol):
    """What a worker writes to; ``usage.spool.Spool``."""

    def unsynced(self) -> list[int]:
        """Descriptors of all that may hold what is not on the disk; whoever asks closes them."""
        ...

    def sync_failed(self) -> None: ...


class Syncer:
    """A worker's group commit: one sync at a time, in a thread, for all who came while the one before ran."""

    def __init__(self, spool: Unsynced, sync: Callable[[int], None] = os.fdatasync) -> None:
        self._spool = spool
        self._sync = sync
        self._waiting: list[Done] = []
        self._is_busy = False
        self._thread = ThreadPoolExecutor(1, "sync")

    def after(self, done: Done) -> None:
        """Call ``done`` once everything that is appended by now is on the disk, or cannot be brought there."""
        self._waiting.append(done)
        if not self._is_busy:
            self._start()

    def _start(self) -> None:
        self._is_busy = True
        batch, self._waiting = self._waiting, []
        work = asyncio.get_running_loop().run_in_executor(self._thread, self._sync_all, self._spool.unsynced())
        work.add_done_callback(partial(self._finished, batch))

    def _sync_all(self, fds: list[int]) -> None:
        try:
            for fd in fds:
                self._sync(fd)
        finally:
            for fd in fds:
                os.close(fd)

    def _finished(self, batch: list[Done], work: asyncio.Future[None]) -> None:
        trouble = None if work.cancelled() else work.exception()
        if trouble is not None:
            log.error("Usage records could not be brought to the disk: %s; their calls are broken off", trouble)
            self._spool.sync_failed()
        self._is_busy = False
        if self._waiting:
            self._start()
        for done in batch:
            done(trouble is None and not work.cancelled())

    def close(self) -> None:
        self._thread.shutdown()


class Durability:
    """Syncs what may have grown since it last looked. Call ``sync`` every 50 ms, from a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._settled: set[Path] = set()  # finished and synced

    def sync(self) -> None:
        settled: set[Path] = set()
        for segment in find_segments(self._root):
            try:
                if segment.path in self._settled or _sync_file(segment.path):
                    settled.add(segment.path)
            except FileNotFoundError:  # Shipped in between.
                continue
        self._settled = settled


def _sync_file(path: Path) -> bool:
    """Sync it. True if it cannot have grown since. Where nothing was written this costs next to nothing."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        finished = is_finished(fd)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    return finished
