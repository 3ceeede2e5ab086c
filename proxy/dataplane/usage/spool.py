"""A worker's usage records on disk: append-only segments that survive ``kill -9``.

A segment is ``<worker>-<segment>.spool``: frames, then zeroes up to its full size, which is taken from the disk before
the first frame, so that a full disk is met there and not in the middle of a call. Frames are stored through mapped
memory, which costs no system call; a frame's length is stored last, so that a reader who sees it sees the frame.

The writer holds a lock on a segment for as long as it may grow, so that the shipper knows a finished segment from one
that only pauses. Calls that are under way stand in a table beside the segments (``inflight``). The agent, not the
worker, makes segments durable (``Durability``): an ``fsync`` in an event loop would stall every call on it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from typing import Final

from apimgr.contracts.usage import MAX_FRAME_BYTES
from proxy.dataplane.usage.inflight import CallTable
from proxy.dataplane.usage.mapped import MappedFile, clear_away

SEGMENT_BYTES: Final = 8 * 1024 * 1024
SUFFIX: Final = ".spool"
_SEGMENTS_DESCRIPTORS: Final = 2  # mapped memory holds one of its own
# What is asked for again and again while the spool is full.
_LOOK_AGAIN_SECONDS: Final = 1.0


class SpoolFull(Exception):
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


class _Reserve:
    """Descriptors kept back for the next segment, which must not be wanting because callers have all of them."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self.take()

    def take(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._held) < _SEGMENTS_DESCRIPTORS:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def give(self) -> None:
        while self._held:
            os.close(self._held.pop())


class Spool:
    """Where worker ``number`` records. ``directory`` is its boot's; the budget is shared with the boots beside it.

    A call that is passed on is held with ``calls.hold`` before its upstream hears of it, and recorded with ``append``.

    The next segment is made ready before the present one is full, so that calls can be refused while there is still
    room for those in flight. The budget is looked at then, and is kept to within one segment per worker.
    """

    def __init__(
        self, directory: Path, number: int, *, budget_bytes: int = 10 * 1024**3, is_strict: bool = False
    ) -> None:
        self._directory = directory
        self._number = number
        self._budget_bytes = budget_bytes
        self._segment: MappedFile | None = None
        self._next: MappedFile | None = None
        self.calls: CallTable | None = None  # there, and with a slot to spare, when ``has_room`` says so
        self._capacity = 0  # calls that the table can hold
        self._segment_number = 0
        self._is_strict = is_strict
        self._left_unsynced: list[int] = []  # closed, and not synced yet
        self._name_is_new = False
        self._offset = SEGMENT_BYTES
        self._look_again_at = 0.0
        self._reserve = _Reserve()
        with contextlib.suppress(OSError):  # as on a disk that can only be read: see below
            clear_away(directory.parent)
        # A worker starts on a full spool too: routes that need no record still work, the others are refused.
        with contextlib.suppress(SpoolFull):
            self._make_table(1)
            self._begin_segment()

    def has_room(self, frames: int) -> bool:
        """Whether ``frames`` calls can be held, and recorded however much there is to say of each."""
        if frames <= self._capacity and (
            self._offset + frames * MAX_FRAME_BYTES <= SEGMENT_BYTES or self._next is not None
        ):
            return True
        try:
            if frames > self._capacity:
                self._make_table(frames)
            if self._next is None and self._offset + frames * MAX_FRAME_BYTES > SEGMENT_BYTES:
                self._make_next()
        except SpoolFull:
            return False
        return True

    def append(self, frame: bytes, slot: int = 0) -> None:
        """Keep one frame whole and let go of its call, or raise ``SpoolFull`` and keep its call held."""
        start, end = self._offset, self._offset + len(frame)
        if end > SEGMENT_BYTES or self._segment is None:
            try:
                self._begin_segment()
            except SpoolFull:
                if slot and self.calls is not None:
                    self.calls.give_up()
                    self._capacity = self.calls.capacity
                raise
            start, end = 0, len(frame)
        assert self._segment is not None, "it was begun"
        memory = self._segment.memory
        memory[start + 2 : end] = frame[2:]
        memory[start : start + 2] = frame[:2]
        self._offset = end
        if slot:
            self.calls.clear(slot)  # type: ignore[union-attr]  # it gave the slot

    def unsynced(self) -> list[int]:
        """Descriptors of what may not be on the disk: each segment since the last time, a new one's name too."""
        fds, self._left_unsynced = self._left_unsynced, []
        try:
            if self._segment is not None:
                fds.append(os.dup(self._segment.fd))
                if self._name_is_new:  # the folder's own may be, too
                    for folder in (self._directory, self._directory.parent):
                        fds.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
                    self._name_is_new = False
        except OSError:
            for fd in fds:
                os.close(fd)
            raise
        return fds

    def sync_failed(self) -> None:
        """The disk has refused what was written here, and may not say so again: go on in another segment."""
        self._close_segment()
        while self._left_unsynced:
            os.close(self._left_unsynced.pop())

    def _begin_segment(self) -> None:
        if self._next is None:
            self._make_next()
        assert self._next is not None, "it was made"
        number = new_segment_number()
        try:
            # Before anything is written: what no shipper sees would be lost.
            self._next.show(self._directory / f"{self._number}-{number}{SUFFIX}")
        except OSError as error:
            raise SpoolFull(f"the usage spool cannot be written: {error}") from error
        self._close_segment()
        self._segment, self._next, self._offset = self._next, None, 0
        self._segment_number, self._name_is_new = number, True
        if self.calls is not None:
            self.calls.names_segment(number)
        self._reserve.take()

    def _make_table(self, calls: int) -> None:
        """A table for as many calls; an OSError of the disk is a full spool."""
        try:
            if self.calls is None:
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                self.calls = CallTable(self._directory, self._number, new_segment_number())
                self.calls.names_segment(self._segment_number)
            self.calls.grow_to(calls)
        except OSError as error:
            raise SpoolFull(f"the table of calls cannot be written: {error}") from error
        self._capacity = self.calls.capacity

    def _make_next(self) -> None:
        now = time.monotonic()
        if now < self._look_again_at:
            raise SpoolFull("the usage spool is full")
        self._look_again_at = now + _LOOK_AGAIN_SECONDS
        self._reserve.give()
        try:
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if bytes_held(self._directory.parent) + SEGMENT_BYTES > self._budget_bytes:
                raise SpoolFull(f"the usage spool has reached its {self._budget_bytes} bytes")
            self._next = MappedFile(self._directory, str(self._number), SEGMENT_BYTES)
        except SpoolFull:
            raise
        except OSError as error:
            raise SpoolFull(f"the usage spool cannot be written: {error}") from error
        finally:
            self._reserve.take()
        self._look_again_at = 0.0

    def _close_segment(self) -> None:
        if self._segment is not None:
            fd = self._segment.finish(self._offset)
            if self._is_strict:
                self._left_unsynced.append(fd)
            else:
                os.close(fd)
            self._segment, self._offset = None, SEGMENT_BYTES

    def close(self) -> None:
        """Let go of everything: the shipper may finish it."""
        self._reserve.give()
        self._close_segment()
        if self.calls is not None:
            self.calls.close()
            self.calls = None
        if self._next is not None:
            self._next.discard()
            self._next = None
