"""A call's road in numbers, boot by boot: generated, spooled, stored, rolled up; and what each difference is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Literal

State = Literal["running", "open", "closed", "given_up"]


@dataclass(frozen=True, slots=True)
class Counted:
    """What a node said of one boot. Final if it was ``closed``: nothing of that boot waits any more."""

    generated: int
    spooled: int
    unrecorded: int
    acknowledged: int
    missing: int = 0  # the node's own check: spooled, and not found by a whole pass over the spool


@dataclass(frozen=True, slots=True)
class Stored:
    """What the database holds of one boot, as the ledger has it and as the counts were fed."""

    stored: int = 0
    cut_off: int = 0
    quarantined: int = 0
    set_aside_bytes: int = 0
    rolled_up: int = 0


@dataclass(frozen=True, slots=True)
class BootBooks:
    """One boot of one node. ``counted`` is ``None`` for calls that came another way than from a gateway.

    ``running`` counts go on; ``open`` ones are those of a boot that ended and may have left records in its spool. Of a
    ``closed`` one nothing waits, says the node; of one that was ``given_up`` nothing is expected, says the platform.
    """

    node: str
    boot: int
    started_at: datetime
    state: State
    counted: Counted | None
    in_database: Stored
    is_silent: bool = False  # it is not over, and nobody speaks of it: its node is away, or has lost its spool

    @property
    def in_flight(self) -> int:
        """Calls under way. A boot that ended has none."""
        if self.counted is None or self.state != "running":
            return 0
        done = self.counted.spooled + self.counted.unrecorded + self.in_database.cut_off
        return max(0, self.counted.generated - done)

    @property
    def waiting(self) -> int:
        """Records in the spool, on their way to the database."""
        if self.counted is None or self.is_over:
            return 0
        arrived = self.in_database.stored - self.in_database.cut_off + self.in_database.quarantined
        return max(0, self.counted.spooled - arrived)

    @property
    def to_roll_up(self) -> int:
        return max(0, self.in_database.stored - self.in_database.rolled_up)

    @property
    def is_over(self) -> bool:
        return self.state in {"closed", "given_up"}

    @property
    def outstanding(self) -> int:
        """Calls that must have a row and have none yet: what is lost if nothing more comes of this boot."""
        return max(0, -self._beyond)

    @property
    def is_even(self) -> bool:
        """Whether nothing of it has yet to come, as far as the node told."""
        return not self.outstanding and not self.waiting

    @property
    def lost(self) -> int:
        """Calls that must have a row and have none, and do not wait anywhere."""
        if self.counted is None:
            return 0
        return self.outstanding if self.is_over else self.counted.missing

    @property
    def given_up(self) -> int:
        """Of the lost ones, those that were written off."""
        return self.lost if self.state == "given_up" else 0

    @property
    def uncounted(self) -> int:
        """Rows beyond what an ended boot counted: its process was killed between writing a record and counting it."""
        return max(0, self._beyond) if self.is_over else 0

    @property
    def _beyond(self) -> int:
        """Calls that are explained beyond those that were generated; below zero, how many are not."""
        if self.counted is None:
            return 0
        explained = self.in_database.stored + self.in_database.quarantined + self.counted.unrecorded
        return explained - self.counted.generated


@dataclass(slots=True)
class Totals:
    """The same over many boots."""

    generated: int = 0
    unrecorded: int = 0
    in_flight: int = 0
    spooled: int = 0
    cut_off: int = 0
    waiting: int = 0
    quarantined: int = 0
    set_aside_bytes: int = 0
    acknowledged: int = 0
    stored: int = 0
    rolled_up: int = 0
    to_roll_up: int = 0
    lost: int = 0
    given_up: int = 0
    uncounted: int = 0


def totals(boots: list[BootBooks]) -> Totals:
    total = Totals()
    for books in boots:
        for name in (field.name for field in fields(Totals)):
            setattr(total, name, getattr(total, name) + figure(books, name))
    return total


def figure(books: BootBooks, name: str) -> int:
    """One of the figures of ``Totals``, whoever counted it."""
    for counter in (books, books.in_database, books.counted):
        if hasattr(counter, name):
            return int(getattr(counter, name))
    return 0
