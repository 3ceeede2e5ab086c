"""The calls a worker has passed on and not recorded yet, on disk: so that a worker that is killed loses none.

A table is ``<worker>-<number>.calls`` beside the worker's segments: a header, then slots of one size. Before the first
byte of a call goes to its upstream the worker fills a slot, whose last byte says that it holds; once the call's record
is in the spool it clears that byte. What still holds when the worker is dead becomes records of ``gateway_aborted``.

A worker can also be killed between the two, with the record in the spool and the slot not cleared. Nothing else is
appended in between, so the record is then in the segment that the header names: whoever settles the table looks for it
there, and nobody removes that segment before.

All this rests on the page cache, which outlives processes only. After a crash of the machine a table's pages may be
older than its segments', so a table written under another kernel's boot is not believed.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Final

from apimgr.contracts.outcomes import BY_CODE
from apimgr.contracts.usage import KNOWN, UsageRecord
from proxy.dataplane.usage.mapped import MappedFile, is_finished

SUFFIX: Final = ".calls"
HEADER_BYTES: Final = 128
SLOT_BYTES: Final = 128
UNRECORDED_SLOT: Final = -1  # of a call that may go without a record, while there is no room for one
CALLS_PER_STEP: Final = 1024  # the table grows by so many slots

_MAGIC: Final = b"apicalls-1\0\0\0\0\0\0"
_HEADER: Final = Struct("<16s36sQ")  # magic, the kernel's boot id, the number of the segment that is written
_SEGMENT: Final = Struct("<Q")
_SEGMENT_AT: Final = 52
# What is known when the call is passed on, method, flags, client; room for ``_PROGRESS``; last, whether it holds.
_SLOT: Final = Struct(f"<{KNOWN.size}sBB16s18xB")
_PROGRESS: Final = Struct("<QQH")  # bytes in, bytes out, status: as last noted
_PROGRESS_AT: Final = KNOWN.size + 18
_HOLDS_AT: Final = _SLOT.size - 1
assert _PROGRESS_AT + _PROGRESS.size == _HOLDS_AT, "the parts of a slot lie side by side"
assert _SLOT.size <= SLOT_BYTES, "a slot has room for its parts"

_NAME: Final = re.compile(rf"([0-9]+)-([0-9]+){re.escape(SUFFIX)}")
_ABORTED: Final = BY_CODE["gateway_aborted"]
_UNKNOWN_STATUS: Final = 500  # in records only: nobody saw an answer
_TRAIL: Final = json.dumps(
    [{"step": "ended", "code": _ABORTED.code, "detail": "The gateway's process ended while the call was under way."}],
    separators=(",", ":"),
).encode()


@cache
def kernel_boot() -> bytes:
    """What tells this run of the machine from others; empty where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_bytes().strip()[:36]
    except OSError:
        return b""


class CallTable:
    """The worker's side. Raises ``OSError`` where the disk has no room for it.

    ``capacity`` is how many calls it can hold at once, but for those that were given up.
    """

    def __init__(self, directory: Path, worker: int, number: int) -> None:
        self._file = MappedFile(directory, f"{worker}-calls", HEADER_BYTES)
        self._path = directory / f"{worker}-{number}{SUFFIX}"
        self._memory = self._file.memory
        self._memory[: _HEADER.size] = _HEADER.pack(_MAGIC, kernel_boot(), 0)
        self._free: list[int] = []
        self._size = HEADER_BYTES
        self.capacity = 0
        try:
            self._file.show(self._path)
        except OSError:
            self._file.discard()
            raise

    def grow_to(self, calls: int) -> None:
        """Have room for as many calls at once."""
        more = -(-(calls - self.capacity) // CALLS_PER_STEP) * CALLS_PER_STEP
        if more <= 0:
            return
        size = self._size + more * SLOT_BYTES
        self._file.grow(size)
        self._free[:0] = reversed(range(self._size, size, SLOT_BYTES))  # last, so that used pages are used again
        self._size = size
        self.capacity += more

    def names_segment(self, number: int) -> None:
        """Say where records go from here on."""
        _SEGMENT.pack_into(self._memory, _SEGMENT_AT, number)

    def hold(self, known: bytes, method: int, flags: int, client: bytes) -> int:
        """Keep a call that is about to be passed on. Returns its slot, which is never 0."""
        slot = self._free.pop()
        _SLOT.pack_into(self._memory, slot, known, method, flags, client, 1)
        return slot

    def progress(self, slot: int, bytes_in: int, bytes_out: int, status: int) -> None:
        """Note how far a call has come, for its record if nobody lives to write a better one."""
        _PROGRESS.pack_into(self._memory, slot + _PROGRESS_AT, bytes_in, bytes_out, status)

    def clear(self, slot: int) -> None:
        """The call is recorded."""
        self._memory[slot + _HOLDS_AT] = 0
        self._free.append(slot)

    def give_up(self) -> None:
        """A call could not be recorded: it is held for as long as this process lives."""
        self.capacity -= 1

    def close(self) -> None:
        """Let go. A table that still holds calls is left for whoever settles it."""
        if HEADER_BYTES + len(self._free) * SLOT_BYTES == self._size:
            self._path.unlink(missing_ok=True)
        self._file.close(self._size)


@dataclass(frozen=True, slots=True)
class LeftTable:
    """A table as the shipper sees it. ``calls`` are what it holds and the offset each ends at; known of a dead one."""

    boot: int
    worker: int
    number: int
    path: Path
    segment: int  # the number of the segment its worker writes, or wrote last
    is_dead: bool
    calls: list[tuple[int, UsageRecord]]


def find_tables(root: Path) -> list[LeftTable]:
    """Every table under ``root``, those of dead workers read."""
    found = []
    for path in sorted(root.glob(f"*/*{SUFFIX}")):
        match = _NAME.fullmatch(path.name)
        if match and path.parent.name.isdecimal():
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # its worker has left in order
                continue
            try:
                found.append(_read(fd, path, int(path.parent.name), int(match[1]), int(match[2])))
            finally:
                os.close(fd)
    return found


def _read(fd: int, path: Path, boot: int, worker: int, number: int) -> LeftTable:
    is_dead = is_finished(fd)  # before reading: after that nothing changes
    header = os.pread(fd, _HEADER.size, 0).ljust(_HEADER.size, b"\0")
    magic, kernel, segment = _HEADER.unpack(header)
    calls: list[tuple[int, UsageRecord]] = []
    if is_dead and magic == _MAGIC and kernel == kernel_boot().ljust(36, b"\0"):
        body = os.pread(fd, os.fstat(fd).st_size, 0)
        slots = range(HEADER_BYTES, len(body) - SLOT_BYTES + 1, SLOT_BYTES)
        calls = [(slot + SLOT_BYTES, _record(body, slot)) for slot in slots if body[slot + _HOLDS_AT]]
    return LeftTable(boot, worker, number, path, segment, is_dead, calls)


def _record(body: bytes, slot: int) -> UsageRecord:
    """The record of a call whose end nobody saw: no times, and of the rest what was noted last."""
    known, method, flags, client, _ = _SLOT.unpack_from(body, slot)
    bytes_in, bytes_out, status = _PROGRESS.unpack_from(body, slot + _PROGRESS_AT)
    whole = (bytes_in, bytes_out, 0, 0, status or _UNKNOWN_STATUS, status, _ABORTED.number, method, flags, client)
    return UsageRecord._make((*KNOWN.unpack(known), *whole, b"", _TRAIL))
