"""One limit's arithmetic over its slot in the table: a smooth rate, a count per calendar period, or calls under way.

``now`` is Unix seconds, passed in. Whoever calls holds the owner's lock, or is alone with the table. ``granted`` and
``without`` have a meaning where hosts share limits (``leased``).
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil
from sys import intern
from typing import Final

from apimgr.contracts.periods import period_bounds
from apimgr.contracts.snapshot import PERIOD_SECONDS, LimitDocument
from proxy.dataplane.limits.earlier import count_of, turn_to
from proxy.dataplane.limits.table import CELLS, COUNT, MAX_CELL, START, Table

_NS: Final = 1_000_000_000
_SLACK_NS: Final = 1_000  # Unix seconds in a double are exact to about a quarter of a microsecond


@lru_cache(maxsize=1024)
def _one(start: int, end: int) -> tuple[int, int]:
    """The same objects for the same period: windows are many."""
    return start, end


class RateWindow:
    """A token bucket kept as one number (GCRA): when the bucket will be full again, in nanoseconds.

    ``amount`` calls may come at once; after that they are spread over the period.
    """

    __slots__ = ("amount", "at", "interval_ns", "limit", "name", "owner", "period_ns", "table")

    kind = "rate"
    granted = True

    def __init__(self, table: Table, owner: int, limit: LimitDocument, name: str) -> None:
        self.table, self.owner, self.limit, self.name = table, owner, limit, name
        self.at = 0
        self.amount = limit.amount
        self.period_ns = PERIOD_SECONDS[limit.period] * _NS
        self.interval_ns = self.period_ns // limit.amount or 1

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.amount};w={self.period_ns // _NS}'

    def wait(self, now: float) -> int:
        """0 if a call may pass now, else the whole seconds until one may."""
        cells, at, now_ns = self.table.cells, self.at + COUNT, int(now * _NS)
        full_at = cells[at]
        if full_at < now_ns:
            cells[at] = now_ns
            return 0
        # A clock that stepped back must not lock callers out for the length of the step.
        if full_at > now_ns + self.period_ns:
            cells[at] = full_at = now_ns + self.period_ns
        over = full_at + self.interval_ns - now_ns - self.period_ns
        return 0 if over <= _SLACK_NS else max(1, ceil(min(over, self.period_ns) / _NS))

    def spend(self) -> None:
        self.table.cells[self.at + COUNT] += self.interval_ns

    def state(self, now: float) -> tuple[int, ...]:
        """Calls left, and the seconds until there are as many as there can be."""
        filled_in = self.table.cells[self.at + COUNT] - int(now * _NS)
        if filled_in <= 0:
            return self.amount, 0
        left = (self.period_ns - filled_in + _SLACK_NS) // self.interval_ns
        return max(0, min(left, self.amount)), -(-filled_in // _NS)


class QuotaWindow:
    """A count that starts again with each calendar period (UTC).

    Every call counts in the period in which it was made by the clock, and none has more than its quota, however the
    clock leaps: what was spent of other periods is remembered (``earlier``).
    """

    __slots__ = ("amount", "anchor", "at", "end", "limit", "name", "owner", "start", "table")

    kind = "quota"
    granted = True

    def __init__(self, table: Table, owner: int, limit: LimitDocument, name: str, anchor: int) -> None:
        self.table, self.owner, self.limit, self.name = table, owner, limit, name
        self.at = 0
        self.amount = limit.amount
        self.anchor = anchor
        self.start = self.end = 0

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.amount};w={self.end - self.start}'

    def wait(self, now: float) -> int:
        if not self.start <= now < self.end:
            self.start, self.end = _one(*period_bounds(self.limit.period, now, self.anchor))
        return 0 if self._used() < self.amount else max(1, ceil(self.end - now))

    def _used(self) -> int:
        cells, at = self.table.cells, self.at
        return cells[at + COUNT] if cells[at + START] == self.start else count_of(cells, at, self.start)

    def spend(self) -> None:
        cells, at = self.table.cells, self.at
        if cells[at + START] != self.start:
            turn_to(cells, at, self.start)
        cells[at + COUNT] += 1

    def give_back(self, began: float) -> None:
        """A call does not count after all, unless the period in which it ``began`` is over."""
        cells, at = self.table.cells, self.at
        if cells[at + START] == self.start and self.start <= began < self.end and cells[at + COUNT] > 0:
            cells[at + COUNT] -= 1

    def state(self, now: float) -> tuple[int, ...]:
        """Calls left, and the seconds until there are as many as there can be."""
        return max(self.amount - self._used(), 0), ceil(self.end - now)


class ConcurrencyWindow:
    """Calls under way, of all workers of the node. Each worker counts its own in its column of the slot.

    So it needs no lock to say that one has ended: the slot stays the owner's while anything is counted in it.
    """

    __slots__ = ("amount", "at", "limit", "name", "owner", "table")

    kind = "concurrency"
    granted = True

    def __init__(self, table: Table, owner: int, limit: LimitDocument, name: str) -> None:
        self.table, self.owner, self.limit, self.name = table, owner, limit, name
        self.at = 0
        self.amount = limit.amount

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.amount};qu="concurrent-requests"'

    def _under_way(self) -> int:
        first = (self.at + CELLS) * 4
        return sum(self.table.calls[first : first + self.table.columns])

    def wait(self, now: float) -> int:
        return 0 if self._has_room(self.amount) else 1

    def _has_room(self, amount: int) -> bool:
        if self._under_way() < amount:
            return True
        self.table.give_back_of_dead(self.at)
        return self._under_way() < amount

    def spend(self) -> None:
        cell = (self.at + CELLS) * 4 + self.table.column
        self.table.calls[cell] = min(self.table.calls[cell] + 1, MAX_CELL)

    def release(self) -> None:
        cell = (self.at + CELLS) * 4 + self.table.column
        self.table.calls[cell] = max(self.table.calls[cell] - 1, 0)

    def state(self, now: float) -> tuple[int, ...]:
        """Calls that may still begin."""
        return (max(self.amount - self._under_way(), 0),)


def name_of(owner: int, limit: LimitDocument) -> str:
    """What ``RateLimit`` fields and trails call a limit. ``owner`` below zero is an API."""
    name = limit.kind if limit.kind == "concurrency" else f"{limit.kind}-{limit.period}"
    if owner < 0:
        name = f"api-{name}"
    if limit.operation_id:
        return intern(f"{name}-operation")
    return intern(f"{name}-of-api" if limit.api_id else name)
