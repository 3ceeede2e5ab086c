"""What becomes of a boot's calls, in numbers: counted by its workers, then by whoever ships, then by the database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from proxy.dataplane.config import STATS_NAME
from proxy.dataplane.stats import Snapshot, StatsReader
from proxy.dataplane.usage.inflight import SUFFIX as TABLE
from proxy.dataplane.usage.spool import SUFFIX as SEGMENT


@dataclass(slots=True)
class Shipped:
    """What was made of a boot's spool. ``stored`` are calls in the database, those that were ``cut_off`` included."""

    stored: int = 0
    cut_off: int = 0
    quarantined: int = 0
    set_aside_bytes: int = 0

    def __add__(self, other: Shipped) -> Shipped:
        return Shipped(
            self.stored + other.stored,
            self.cut_off + other.cut_off,
            self.quarantined + other.quarantined,
            self.set_aside_bytes + other.set_aside_bytes,
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """What a boot's workers counted: calls that must have a row, records they wrote, and calls without one."""

    generated: int = 0
    spooled: int = 0
    unrecorded: int = 0

    def in_flight(self, cut_off: int) -> int:
        """Calls under way; counts are read one after the other, so never below zero."""
        return max(0, self.generated - self.spooled - self.unrecorded - cut_off)

    def missing(self, shipped: Shipped) -> int:
        """Of what had been spooled, what a whole pass over the spool did not find."""
        return max(0, self.spooled - (shipped.stored - shipped.cut_off) - shipped.quarantined)


def counted(workers: list[Snapshot]) -> Counted:
    return Counted(
        *(sum(worker.counts[name] for worker in workers) for name in ("generated", "spooled", "unrecorded")),
    )


@dataclass(frozen=True, slots=True)
class EarlierBoot:
    """A boot before this one whose folder is still there. ``is_shipped``: nothing of it waits any more."""

    boot: int
    folder: Path
    counted: Counted
    is_shipped: bool

    def forget(self) -> None:
        """Its counts are told: the folder may go."""
        (self.folder / STATS_NAME).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what a killed worker had made ready goes when another one starts
            self.folder.rmdir()


def earlier_boots(root: Path, boot: int) -> Iterator[EarlierBoot]:
    for folder in sorted(root.iterdir()):
        if folder.name.isdecimal() and int(folder.name) < boot:
            waits = any(folder.glob(f"*{SEGMENT}")) or any(folder.glob(f"*{TABLE}"))
            stats = folder / STATS_NAME
            known = counted(StatsReader(stats).read()) if stats.exists() else Counted()
            yield EarlierBoot(int(folder.name), folder, known, is_shipped=not waits)
