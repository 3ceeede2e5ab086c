"""Limits that several hosts share: what may be spent here is what the grantor granted to this node (``grantor``).

``wait`` answers as that of a window of one host does, or ``ASK``: the lease is spent, and only the grantor knows
whether there is more. Where it cannot be asked, ``without`` answers by the rule of the plan: ``CLOSED``, or by what
this node alone knows; ``granted`` then says that the call rests on no grant. It is told to the grantor later, as a debt
of the quota.

Of a quota a node *holds* what it spent in the period and what it was granted besides. That number alone is what the
grantor is told, so it can be told again and again, and a memory that was lost can be made anew of what the nodes hold.
"""

from __future__ import annotations

from math import ceil
from typing import Final

from apimgr.contracts.periods import period_bounds
from apimgr.contracts.snapshot import LimitDocument
from proxy.dataplane.limits.earlier import count_of, turn_to
from proxy.dataplane.limits.table import (
    COUNT,
    FULL_AT,
    GRANTED_UNTIL,
    LEASE,
    LEASE_UNTIL,
    LEFT,
    OTHERS,
    REFUSED_UNTIL,
    SPENT,
    START,
    Table,
)
from proxy.dataplane.limits.windows import ConcurrencyWindow, QuotaWindow, RateWindow

ASK: Final = -1
CLOSED: Final = -2

_NS: Final = 1_000_000_000
NEAR_SECONDS: Final = 300  # as far ahead as the grantor, too, believes in the next period
_LONGEST_NS: Final = 10 * _NS  # no word of the grantor is good for longer: after a step of the clock it is void


def is_ahead(until_ns: int, now: float) -> bool:
    """Whether a moment is yet to come, and near enough to have been set by a clock that ran like this one."""
    return 0 < until_ns - int(now * _NS) < _LONGEST_NS


def begin_period(cells: memoryview[int], at: int, start: int, end: int, now: float) -> int:
    """Have a quota's slot count the period from ``start`` to ``end``. Under the owner's lock.

    Gives the start of the period it counts, which is the next one after a small step back of the clock: the grantor
    goes on to the next one with the first node that is there, and never back.
    """
    counted = cells[at + START]
    if counted == start or (counted == end and end - now < NEAR_SECONDS):
        return counted
    # First: who dies in between has not given the old period's grants to the new one.
    cells[at + LEASE] = cells[at + OTHERS] = cells[at + REFUSED_UNTIL] = 0
    turn_to(cells, at, start)
    return start


class LeasedRate(RateWindow):
    """A rate of all hosts together; without the grantor each host has the whole of it."""

    __slots__ = ("granted", "opens")

    opens: bool

    def wait(self, now: float) -> int:
        cells, at = self.table.cells, self.at
        self.granted = True
        if cells[at + LEASE] > 0 and 0 < cells[at + LEASE_UNTIL] - int(now * _NS) < _LONGEST_NS:
            return 0
        if is_ahead(cells[at + REFUSED_UNTIL], now):
            # When there is one more on all hosts: not when this one asks again, which is sooner.
            next_at = cells[at + FULL_AT] + self.interval_ns - self.period_ns
            return max(1, min(ceil(next_at / _NS - now), self.period_ns // _NS))
        return ASK if is_ahead(cells[GRANTED_UNTIL], now) else self.without(now)

    def without(self, now: float) -> int:
        """The answer where the grantor cannot be asked, or does not answer in time."""
        self.granted = False
        return super().wait(now) if self.opens else CLOSED

    def spend(self) -> None:
        cells, at = self.table.cells, self.at
        cells[at + SPENT] += 1
        if self.granted:
            cells[at + LEASE] -= 1
        else:
            super().spend()

    def state(self, now: float) -> tuple[int, ...]:
        if not self.granted:
            return super().state(now)
        cells, at = self.table.cells, self.at
        full_in = cells[at + FULL_AT] - int(now * _NS)
        if full_in <= 0:
            return self.amount, 0
        return min(max(cells[at + LEASE] + cells[at + LEFT], 0), self.amount), -(-min(full_in, self.period_ns) // _NS)


class LeasedQuota(QuotaWindow):
    """A quota of all hosts together."""

    __slots__ = ("granted", "opens")

    opens: bool

    def wait(self, now: float) -> int:
        if not self.start <= now < self.end:
            self.start, self.end = period_bounds(self.limit.period, now, self.anchor)
        cells, at = self.table.cells, self.at
        self.granted = True
        if cells[at + START] == self.end and self.end - now >= NEAR_SECONDS:
            begin_period(cells, at, self.start, self.end, now)  # the clock was ahead, and is right again
        if cells[at + START] in (self.start, self.end):
            if cells[at + LEASE] > 0 and self._used() < self.amount:  # it may be smaller than when it was granted
                return 0
            if is_ahead(cells[at + REFUSED_UNTIL], now):
                return max(1, ceil(self.end - now))
        return ASK if is_ahead(cells[GRANTED_UNTIL], now) else self.without(now)

    def without(self, now: float) -> int:
        """The answer where the grantor cannot be asked: nobody but this node is taken to spend meanwhile."""
        self.granted = False
        if not self.opens:
            return CLOSED
        return 0 if self._used() < self.amount else max(1, ceil(self.end - now))

    def _used(self) -> int:
        cells, at = self.table.cells, self.at
        if cells[at + START] in (self.start, self.end):
            return cells[at + COUNT] + cells[at + OTHERS]
        return count_of(cells, at, self.start)

    def spend(self) -> None:
        cells, at = self.table.cells, self.at
        if cells[at + START] not in (self.start, self.end):
            begin_period(cells, at, self.start, self.end, self.start)
        cells[at + SPENT] += 1
        if self.granted:
            # The lease first: a call that dies in between is not made, and the grantor gets it back.
            cells[at + LEASE] -= 1
        cells[at + COUNT] += 1

    def give_back(self, began: float) -> None:
        cells, at = self.table.cells, self.at
        if cells[at + START] == self.start and self.start <= began < self.end and cells[at + COUNT] > 0:
            cells[at + COUNT] -= 1
            cells[at + LEASE] += 1


class LeasedConcurrency(ConcurrencyWindow):
    """Calls under way on all hosts. The lease is how many may be under way here, for as long as it is renewed."""

    __slots__ = ("granted", "opens")

    opens: bool

    def wait(self, now: float) -> int:
        cells, at = self.table.cells, self.at
        self.granted = True
        if is_ahead(cells[at + LEASE_UNTIL], now) and self._has_room(cells[at + LEASE]):
            return 0
        if is_ahead(cells[at + REFUSED_UNTIL], now):
            return 1
        return ASK if is_ahead(cells[GRANTED_UNTIL], now) else self.without(now)

    def without(self, now: float) -> int:
        """The answer where the grantor cannot be asked: each host may have the whole under way."""
        self.granted = False
        if not self.opens:
            return CLOSED
        return 0 if self._has_room(self.amount) else 1

    def spend(self) -> None:
        self.table.cells[self.at + SPENT] += 1
        super().spend()

    def state(self, now: float) -> tuple[int, ...]:
        return (max(self.amount - self.table.cells[self.at + OTHERS] - self._under_way(), 0),)


Leased = LeasedRate | LeasedQuota | LeasedConcurrency


def leased_window(table: Table, owner: int, limit: LimitDocument, name: str, anchor: int, *, opens: bool) -> Leased:
    """The window of a limit that hosts share. ``opens``: without the grantor, calls pass."""
    window: Leased
    if limit.kind == "rate":
        window = LeasedRate(table, owner, limit, name)
    elif limit.kind == "quota":
        window = LeasedQuota(table, owner, limit, name, anchor)
    else:
        window = LeasedConcurrency(table, owner, limit, name)
    window.opens, window.granted = opens, True
    return window
