"""Spool segments as the shipper sees them: which there are, whether one may still grow, and what can be read of it."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from apimgr.contracts.usage import BODY_BYTES, FRAME_BYTES, MAX_FRAME_BYTES, CorruptRecord, UsageRecord, decode
from proxy.dataplane.usage.spool import SUFFIX

CHUNK_BYTES: Final = 1024 * 1024
LOOK_BYTES: Final = 64 * 1024
_NAME: Final = re.compile(rf"([0-9]+)-([0-9]+){re.escape(SUFFIX)}")


@dataclass(frozen=True, slots=True)
class Segment:
    boot: int
    worker: int
    number: int
    path: Path

    @property
    def name(self) -> str:
        return f"{self.boot}-{self.worker}-{self.number}"


class Cut(NamedTuple):
    """What one read gave: whole records with the offset each ends at, and where reading goes on.

    ``bad`` is a range that cannot be read as records and is followed by one that can, or by the end of a finished
    segment: ``None`` if there is none.
    """

    records: list[tuple[int, UsageRecord]]
    bad: tuple[int, int] | None = None


def find_segments(root: Path) -> list[Segment]:
    """Every segment under ``root``, oldest first: numbers are times."""
    found = []
    for path in root.glob(f"*/*{SUFFIX}"):
        match = _NAME.fullmatch(path.name)
        if match and path.parent.name.isdecimal():
            found.append(Segment(int(path.parent.name), int(match[1]), int(match[2]), path))
    return sorted(found, key=lambda segment: (segment.number, segment.worker))


def cut(fd: int, position: int, *, finished: bool) -> Cut:
    """Read a chunk at ``position``; offsets are those of the segment.

    A torn tail comes back as ``bad`` if the segment is finished, else not at all: it may only be on its way.
    """
    chunk = _read(fd, position, finished=finished)
    records: list[tuple[int, UsageRecord]] = []
    stop = 0
    broken = False
    try:
        for end, record in decode(chunk):
            records.append((position + end, record))
            stop = end
    except CorruptRecord:
        broken = True
    rest = _written(chunk) - stop
    # No frame is longer than that, so a longer one is a flipped length rather than one not written yet.
    if rest <= 0 or records or not (broken or finished or rest >= MAX_FRAME_BYTES):
        return Cut(records)
    if not finished and os.pread(fd, len(chunk), position) != chunk:
        return Cut([])  # read while it was written: later it will be whole
    return Cut([], _bad_range(chunk, position, finished=finished))


def _read(fd: int, position: int, *, finished: bool) -> bytes:
    """A chunk, or the beginning of one of which no more is written.

    Most looks find a few records in front of megabytes of zeroes: read each time, these cost time and tear the heap.
    """
    if not finished:
        begun = os.pread(fd, LOOK_BYTES, position)
        if not any(begun[-MAX_FRAME_BYTES:]):  # no frame is that long, so none goes on behind it
            return begun
    return os.pread(fd, CHUNK_BYTES, position)


def recorded_ids(path: Path) -> set[bytes]:
    """The request ids of every record that can be read in a finished segment; none of one that is not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return set()
    found: set[bytes] = set()
    position = 0
    try:
        while True:
            records, bad = cut(fd, position, finished=True)
            found.update(record.request_id for _, record in records)
            if not (records or bad):
                return found
            position = records[-1][0] if records else bad[1] if bad else position
    finally:
        os.close(fd)


def is_blank(fd: int, position: int) -> bool:
    """Whether nothing was written at ``position`` and after: a killed writer leaves zeroes behind its last frame."""
    while chunk := os.pread(fd, CHUNK_BYTES, position):
        if _written(chunk):
            return False
        position += len(chunk)
    return True


def _written(chunk: bytes) -> int:
    """Where the zeroes of what is not written yet begin, or a little before: a frame may end in zeroes too."""
    return len(chunk.rstrip(b"\0"))


def _bad_range(chunk: bytes, position: int, *, finished: bool) -> tuple[int, int] | None:
    """From ``position`` to the next record that holds."""
    written = _written(chunk)
    for offset in range(1, written):
        length = int.from_bytes(chunk[offset : offset + 2], "little")
        if BODY_BYTES <= length <= MAX_FRAME_BYTES - FRAME_BYTES and _holds(
            chunk[offset : offset + FRAME_BYTES + length]
        ):
            return position, position + offset
    if finished or written == CHUNK_BYTES:
        return position, position + written
    return None


def _holds(frame: bytes) -> bool:
    try:
        return next(decode(frame), None) is not None
    except CorruptRecord:
        return False
