"""What each worker counted, in a file that the agent maps: one writer per block, no locks, no messages.

A block is 256 little-endian 64-bit words: the named counters, then one count per outcome number. Counts grow as long
as the node runs; the supervisor calls ``reset`` when it starts. Behind the workers' blocks is its own, of which it
writes a word now and then: how many processes ended without having been told to.
"""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_WORKERS: Final = 128  # twice what a node may run: in a reload the old ones still count
NAMES: Final = (
    "requests", "generated", "spooled", "unrecorded", "connections", "connections_refused", "ungranted",
    "spooled_bytes",
)  # fmt: skip
_WORDS: Final = 256
_OUTCOMES_AT: Final = 64
REQUESTS, GENERATED, SPOOLED, UNRECORDED, CONNECTIONS, CONNECTIONS_REFUSED, UNGRANTED, SPOOLED_BYTES = range(len(NAMES))
_WORKERS_WORDS: Final = MAX_WORKERS * _WORDS
_SIZE: Final = (MAX_WORKERS + 1) * _WORDS * 8
# Who, and whether it ended by itself or was killed because it stood still.
ENDS: Final = (("worker", "exit"), ("worker", "stall"), ("agent", "exit"), ("agent", "stall"))


def reset(path: Path) -> None:
    """An empty stats file at ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(_SIZE))


def open_block(path: Path, number: int) -> memoryview:
    """The words of worker ``number``, to be written: ``block[stats.REQUESTS] += 1``."""
    block = _map(path)[number * _WORDS : (number + 1) * _WORDS]
    block[CONNECTIONS] = 0  # those of a worker that died died with it
    return block


def count_end(path: Path, role: str, cause: str) -> None:
    """Count an end of ``ENDS``. So rare that the supervisor maps nothing for it. Raises ``OSError``."""
    at = (_WORKERS_WORDS + ENDS.index((role, cause))) * 8
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        before = int.from_bytes(os.pread(fd, 8, at), "little")
        os.pwrite(fd, (before + 1).to_bytes(8, "little"), at)
    finally:
        os.close(fd)


def outcome_word(number: int) -> int:
    """Where the count of outcome ``number`` stands in a block."""
    return _OUTCOMES_AT + number


def _map(path: Path) -> memoryview:
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(fd).st_size < _SIZE:
            os.ftruncate(fd, _SIZE)
        return memoryview(mmap.mmap(fd, _SIZE)).cast("Q")
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts of one worker; ``outcomes`` maps outcome numbers that occurred to how often."""

    worker: int
    counts: dict[str, int]
    outcomes: dict[int, int]


class StatsReader:
    """The agent's side: read as often as it likes."""

    def __init__(self, path: Path) -> None:
        self._words = _map(path)

    def read(self) -> list[Snapshot]:
        """One snapshot per worker that has counted anything."""
        blocks = [self._words[at : at + _WORDS].tolist() for at in range(0, _WORKERS_WORDS, _WORDS)]
        return [_snapshot(number, words) for number, words in enumerate(blocks) if any(words)]

    def total(self, word: int) -> int:
        """One count of all workers, at a fraction of what ``read`` costs."""
        return sum(self._words[word:_WORKERS_WORDS:_WORDS])

    def ends(self) -> dict[tuple[str, str], int]:
        """How many processes ended untold, by ``ENDS``."""
        return dict(zip(ENDS, self._words[_WORKERS_WORDS:].tolist(), strict=False))


def _snapshot(number: int, words: list[int]) -> Snapshot:
    outcomes = {at - _OUTCOMES_AT: count for at, count in enumerate(words) if at >= _OUTCOMES_AT and count}
    return Snapshot(number, dict(zip(NAMES, words, strict=False)), outcomes)
