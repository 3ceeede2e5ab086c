"""A worker's usage records on disk: append-only segments that survive ``kill -9``.

A segment is ``<worker>-<segment>.spool``: frames, then zeroes up to its full size, which is taken from the disk before
the first frame, so that a full disk is met there and not in the middle of a call. Frames are stored through mapped
memory, which costs no system call; a frame's length is stored last, so that a reader who sees it sees the frame.

The writer holds a lock on a segment for as long as it may grow; the kernel lets go when the writer dies, so that the
shipper knows a finished segment from one that only pauses. The agent, not the worker, makes segments durable
(``Durability``): an ``fsync`` in an event loop would stall every call on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
import time
from pathlib import Path
from typing import Final

from apimgr.contracts.usage import MAX_FRAME_BYTES

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


class _Segment:
    """A file of ``SEGMENT_BYTES``, locked and mapped. Hidden from the shipper until ``show``."""

    def __init__(self, hidden: Path) -> None:
        self._hidden = hidden
        hidden.unlink(missing_ok=True)
        self.fd = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Locked before it has its name: the shipper must never see it unlocked while it can grow.
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            os.posix_fallocate(self.fd, 0, SEGMENT_BYTES)
            self.memory = mmap.mmap(self.fd, SEGMENT_BYTES)
        except OSError:
            os.close(self.fd)
            hidden.unlink()
            raise

    def show(self, path: Path) -> None:
        self._hidden.rename(path)

    def close(self, used: int) -> None:
        """Let go: what was not used goes back to the disk."""
        self.memory.close()
        os.ftruncate(self.fd, used)
        os.close(self.fd)

    def discard(self) -> None:
        self._hidden.unlink(missing_ok=True)
        self.close(0)


class Spool:
    """Where worker ``number`` appends. ``directory`` is its boot's; the budget is shared with the boots beside it.

    The next segment is made ready before the present one is full, so that calls can be refused while there is still
    room for those in flight. The budget is looked at then, and is kept to within one segment per worker.
    """

    def __init__(self, directory: Path, number: int, *, budget_bytes: int = 10 * 1024**3) -> None:
        self._directory = directory
        self._number = number
        self._budget_bytes = budget_bytes
        self._segment: _Segment | None = None
        self._next: _Segment | None = None
        self._offset = SEGMENT_BYTES
        self._look_again_at = 0.0
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _clear_away(directory.parent)
        # A worker starts on a full spool too: routes that need no record still work, the others are refused.
        with contextlib.suppress(SpoolFull):
            self._begin_segment()

    def has_room(self, frames: int) -> bool:
        """Whether ``frames`` more calls can be recorded, however much there is to say of each."""
        if self._offset + frames * MAX_FRAME_BYTES <= SEGMENT_BYTES or self._next is not None:
            return True
        try:
            self._make_next()
        except SpoolFull:
            return False
        return True

    def append(self, frame: bytes) -> None:
        """Keep one frame whole, or raise ``SpoolFull`` and keep nothing of it."""
        start, end = self._offset, self._offset + len(frame)
        if end > SEGMENT_BYTES or self._segment is None:
            self._begin_segment()
            start, end = 0, len(frame)
        assert self._segment is not None, "it was begun"
        memory = self._segment.memory
        memory[start + 2 : end] = frame[2:]
        memory[start : start + 2] = frame[:2]
        self._offset = end

    def _begin_segment(self) -> None:
        if self._next is None:
            self._make_next()
        assert self._next is not None, "it was made"
        self._close_segment()
        self._segment, self._next, self._offset = self._next, None, 0
        self._segment.show(self._directory / f"{self._number}-{new_segment_number()}{SUFFIX}")

    def _make_next(self) -> None:
        now = time.monotonic()
        if now < self._look_again_at:
            raise SpoolFull("the usage spool is full")
        self._look_again_at = now + _LOOK_AGAIN_SECONDS
        if bytes_held(self._directory.parent) + SEGMENT_BYTES > self._budget_bytes:
            raise SpoolFull(f"the usage spool has reached its {self._budget_bytes} bytes")
        try:
            self._next = _Segment(self._directory / f".{self._number}-{os.getpid()}.new")
        except OSError as error:
            raise SpoolFull(f"the usage spool cannot be written: {error}") from error
        self._look_again_at = 0.0

    def _close_segment(self) -> None:
        if self._segment is not None:
            self._segment.close(self._offset)
            self._segment, self._offset = None, SEGMENT_BYTES

    def close(self) -> None:
        """Let go of the segment: the shipper may finish it."""
        self._close_segment()
        if self._next is not None:
            self._next.discard()
            self._next = None


def _clear_away(root: Path) -> None:
    """Remove what killed workers had made ready."""
    for path in root.glob("*/.*.new"):
        try:
            os.kill(int(path.stem.rpartition("-")[2]), 0)
        except (ProcessLookupError, ValueError):
            path.unlink(missing_ok=True)
        except PermissionError:  # it lives, as somebody else
            continue
