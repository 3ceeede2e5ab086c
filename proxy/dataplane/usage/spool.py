"""A worker's usage records on disk: append-only segments that survive ``kill -9``.

A segment is ``<worker>-<segment>.spool``. Its writer holds a lock on it for as long as it may grow; the kernel lets go
when the writer dies, so that the shipper knows a finished segment from one that only pauses. The agent, not the worker,
makes segments durable (``Shipper.sync``): an ``fsync`` in an event loop would stall every call on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import Final

SEGMENT_BYTES: Final = 8 * 1024 * 1024
SUFFIX: Final = ".spool"
# What is asked for again and again while the spool is full.
_LOOK_AGAIN_SECONDS: Final = 1.0


class SpoolFull(OSError):
    """The spool has no room; nothing of the frame was kept."""


def new_segment_number() -> int:
    """Unique for ever on this node, also after its predecessors were shipped and deleted: microseconds, then chance."""
    return time.time_ns() // 1000 << 11 | secrets.randbits(11)


def bytes_held(root: Path) -> int:
    """The size of every segment under ``root``."""
    total = 0
    for path in root.glob(f"*/*{SUFFIX}"):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # Shipped in between.
            continue
    return total


class Spool:
    """Where worker ``number`` appends. ``directory`` is its boot's; the budget is shared with the boots beside it.

    The budget is looked at when a segment is full, so it is kept to within one segment per worker.
    """

    def __init__(self, directory: Path, number: int, *, budget_bytes: int = 10 * 1024**3) -> None:
        self._directory = directory
        self._number = number
        self._budget_bytes = budget_bytes
        self._fd = -1
        self._offset = 0
        self._look_again_at = 0.0
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        # A worker starts on a full spool too: routes that need no record still work, the others are refused.
        with contextlib.suppress(SpoolFull):
            self._begin_segment()

    def append(self, frame: bytes) -> None:
        """Keep one frame whole, or raise ``SpoolFull`` and keep nothing of it."""
        if self._offset >= SEGMENT_BYTES or self._fd < 0:
            self._begin_segment()
        try:
            written = os.write(self._fd, frame)
        except OSError as error:
            raise SpoolFull(f"the usage spool cannot be written: {error}") from error
        if written != len(frame):
            # A full disk takes part of it: what follows a torn frame could not be read.
            os.ftruncate(self._fd, self._offset)
            raise SpoolFull("the usage spool's disk is full")
        self._offset += written

    def _begin_segment(self) -> None:
        now = time.monotonic()
        if now < self._look_again_at:
            raise SpoolFull("the usage spool is full")
        self.close()
        if bytes_held(self._directory.parent) + SEGMENT_BYTES > self._budget_bytes:
            self._look_again_at = now + _LOOK_AGAIN_SECONDS
            raise SpoolFull(f"the usage spool has reached its {self._budget_bytes} bytes")
        # Locked before it has its name: the shipper must never see it unlocked while it can grow.
        hidden = self._directory / f".{self._number}-{os.getpid()}.new"
        hidden.unlink(missing_ok=True)
        self._fd = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        hidden.rename(self._directory / f"{self._number}-{new_segment_number()}{SUFFIX}")
        self._offset = 0

    def close(self) -> None:
        """Let go of the segment: the shipper may finish it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
