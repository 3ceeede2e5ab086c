"""Quota counts in a file, so that a restart does not hand out a month again.

A memory-mapped table of ``(subscription, limit, period start, used)``. A store is one 8-byte write to the page cache:
it survives ``kill -9`` and costs no system call. Each worker has a file of its own. In a reload its successor maps the
same pages while it drains: then, and only then, both count under a lock of the file, so that no count is lost.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

MAGIC: Final = int.from_bytes(b"APIMGRQ1", "little")
_WORDS: Final = 4  # per slot; slot 0 is the header: magic, the process that came last
_OWNER: Final = 1
_FIRST_SLOTS: Final = 1024
_STALE_SECONDS: Final = 32 * 86_400


class QuotaStore:
    """The table at ``path``. A file that is not one is set aside as ``*.corrupt`` and a new one begun.

    A process is alone when it holds the file's ``flock`` (its predecessor is gone) and is still named in the header
    (no successor has come). ``lockf`` is the lock that those who are not alone count under.
    """

    def __init__(self, path: Path, now: float) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = _open(path)
        if not _is_table(self._fd):
            os.close(self._fd)
            path.replace(path.with_suffix(".corrupt"))
            self._fd = _open(path)
        self._now = now
        self._token = secrets.randbits(62)
        self._has_file = False
        self._capacity = 0
        self._slots: dict[tuple[int, int], int] = {}
        self._free: list[int] = []
        self._next = 1
        with self._locked():
            self.cells[_OWNER] = self._token

    @property
    def is_alone(self) -> bool:
        """Whether no other process counts in this file."""
        return self._has_file and self.cells[_OWNER] == self._token

    def read(self, subscription: int, limit: int) -> tuple[int, int]:
        """``(period start, used)`` as last written, by whomever; zeroes if never."""
        slot = self._slots.get((subscription, limit))
        if slot is None:
            if self.is_alone:
                return 0, 0
            with self._locked():
                slot = self._slots.get((subscription, limit), 0)
        at = slot * _WORDS
        return (self.cells[at + 2], self.cells[at + 3]) if slot else (0, 0)

    def spend(self, subscription: int, limit: int, start: int) -> int:
        """Count one call in the period that began at ``start``. Returns how many that makes."""
        slot = self._slots.get((subscription, limit))
        if slot is not None and self.is_alone:
            return self._add(slot, start)
        with self._locked():
            slot = self._slots.get((subscription, limit)) or self._take_slot(subscription, limit)
            return self._add(slot, start)

    def _add(self, slot: int, start: int) -> int:
        cells, at = self.cells, slot * _WORDS
        if cells[at + 2] != start:
            # Zero first: a reader of a half-written row then sees the new period unused, not the old count in it.
            cells[at + 3] = 0
            cells[at + 2] = start
        cells[at + 3] = used = cells[at + 3] + 1
        return used

    # --- the table ----------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """With the table to ourselves, and knowing what others have put into it."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            self._catch_up()
            yield
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _catch_up(self) -> None:
        size = os.fstat(self._fd).st_size // 8 // _WORDS
        if size > self._capacity or not size:
            self._map(max(size, _FIRST_SLOTS))
        # Rows that are stale are given away by who is alone: two processes could give one away to different callers.
        was_alone, self._has_file = self._has_file, self._has_file or _takes(self._fd)
        if self._has_file and not was_alone:
            self._slots, self._free, self._next = {}, [], 1
        while self._next < self._capacity and self.cells[self._next * _WORDS]:
            self._learn(self._next)
            self._next += 1

    def _map(self, slots: int) -> None:
        os.ftruncate(self._fd, slots * _WORDS * 8)
        self._capacity = slots
        self.cells = memoryview(mmap.mmap(self._fd, slots * _WORDS * 8)).cast("q")
        self.cells[0] = MAGIC

    def _learn(self, slot: int) -> None:
        subscription, limit, start, _ = self.cells[slot * _WORDS : slot * _WORDS + _WORDS].tolist()
        if self._has_file and start + _STALE_SECONDS < self._now:
            self._free.append(slot)
        else:
            self._slots[subscription, limit] = slot

    def _take_slot(self, subscription: int, limit: int) -> int:
        if self._free and self.is_alone:
            slot = self._free.pop()
        else:
            slot = self._next
            self._next += 1
            if slot >= self._capacity:
                self._map(self._capacity * 2)
        at = slot * _WORDS
        self.cells[at + 2] = self.cells[at + 3] = 0
        self.cells[at + 1] = limit
        self.cells[at] = subscription
        self._slots[subscription, limit] = slot
        return slot

    def close(self) -> None:
        self.cells.release()
        os.close(self._fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _is_table(fd: int) -> bool:
    size = os.fstat(fd).st_size
    return not size or (size % (8 * _WORDS) == 0 and os.pread(fd, 8, 0) in (MAGIC.to_bytes(8, "little"), bytes(8)))


def _takes(fd: int) -> bool:
    """Take the file's lock for as long as we live, unless somebody has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
