"""Quota counts in a file, so that a restart does not hand out a month again.

A memory-mapped table of ``(subscription, limit, period start, used)``. A store is one 8-byte write to the page cache:
it survives ``kill -9`` and costs no system call. Each worker has a file of its own; the new process of a reload maps
the same pages and goes on counting where the old one is.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from typing import Final

MAGIC: Final = int.from_bytes(b"APIMGRQ1", "little")
_WORDS: Final = 4  # per slot; slot 0 is the header
_FIRST_SLOTS: Final = 1024
_STALE_SECONDS: Final = 32 * 86_400


class QuotaStore:
    """The table at ``path``. A file that is not one is set aside as ``*.corrupt`` and a new one begun."""

    def __init__(self, path: Path, now: float) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        size = os.fstat(self._fd).st_size
        if size and not self._is_table(size):
            os.close(self._fd)
            path.replace(path.with_suffix(".corrupt"))
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            size = 0
        self._map(max(size // 8 // _WORDS, _FIRST_SLOTS))
        self._slots: dict[tuple[int, int], int] = {}
        self._free: list[int] = []
        self._next = 1
        self._load(now)

    def _is_table(self, size: int) -> bool:
        return size % (8 * _WORDS) == 0 and os.pread(self._fd, 8, 0) == MAGIC.to_bytes(8, "little")

    def _map(self, slots: int) -> None:
        os.ftruncate(self._fd, slots * _WORDS * 8)
        self._capacity = slots
        self.cells = memoryview(mmap.mmap(self._fd, slots * _WORDS * 8)).cast("q")
        self.cells[0] = MAGIC

    def _load(self, now: float) -> None:
        rows = self.cells.tolist()
        for slot in range(1, self._capacity):
            subscription, limit, start, _ = rows[slot * _WORDS : slot * _WORDS + _WORDS]
            if not subscription:
                break
            self._next = slot + 1
            if start + _STALE_SECONDS < now:
                self._free.append(slot)
            else:
                self._slots[subscription, limit] = slot

    def read(self, subscription: int, limit: int) -> tuple[int, int]:
        """``(period start, used)`` as last written; zeroes if never."""
        slot = self._slots.get((subscription, limit))
        if slot is None:
            return 0, 0
        return self.cells[slot * _WORDS + 2], self.cells[slot * _WORDS + 3]

    def write(self, subscription: int, limit: int, start: int, used: int) -> None:
        slot = self._slots.get((subscription, limit))
        if slot is None:
            slot = self._take_slot(subscription, limit)
        if self.cells[slot * _WORDS + 2] != start:
            # Zero first: a reader of a half-written row then sees the new period unused, not the old count in it.
            self.cells[slot * _WORDS + 3] = 0
            self.cells[slot * _WORDS + 2] = start
        self.cells[slot * _WORDS + 3] = used

    def _take_slot(self, subscription: int, limit: int) -> int:
        if self._free:
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
        os.close(self._fd)
