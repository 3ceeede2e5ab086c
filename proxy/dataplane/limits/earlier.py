"""What a quota's slot remembers of the periods it does not count now: a clock may leap away and come back.

Seven periods are remembered each by itself. Of one that is forgotten it stays known when it began and that it had no
more calls than so many: that much is then taken to have been spent in it, and in every period before it. So however
often the clock leaps and wherever to, no period has more than its quota; and while time goes forward each new one
begins with nothing spent.

All of it under the owner's lock. Whoever dies in between leaves every count as it was, or where it is only bounded,
a higher bound.
"""

from __future__ import annotations

from typing import Final

from proxy.dataplane.limits.table import COUNT, EARLIER, FORGOTTEN, START

_NONE: Final = 0


def count_of(cells: memoryview[int], at: int, start: int) -> int:
    """The calls in the period that began at ``start``."""
    start = start or 1  # 0 is no period, and none of ours began as 1970 did
    if cells[at + START] == start:
        return cells[at + COUNT]
    for pair in range(at + EARLIER, at + FORGOTTEN, 2):
        if cells[pair] == start:
            return cells[pair + 1]
    return cells[at + FORGOTTEN + 1] if start <= cells[at + FORGOTTEN] else 0


def turn_to(cells: memoryview[int], at: int, start: int) -> None:
    """Have the slot count the period that began at ``start``, from where it stood."""
    start = start or 1
    if cells[at + START] == start:
        return
    if cells[at + START] != _NONE:
        _put_aside(cells, at)
        cells[at + START] = _NONE  # while the count is that of neither
    cells[at + COUNT] = count_of(cells, at, start)
    cells[at + START] = start


def _put_aside(cells: memoryview[int], at: int) -> None:
    start, count = cells[at + START], cells[at + COUNT]
    earliest = at + EARLIER
    for pair in range(at + EARLIER, at + FORGOTTEN, 2):
        if cells[pair] == start:
            cells[pair + 1] = count
            return
        if cells[pair] < cells[earliest]:  # as is one that is free
            earliest = pair
    if not count:
        return
    if start < cells[earliest]:
        _forget(cells, at, start, count)
        return
    _forget(cells, at, cells[earliest], cells[earliest + 1])
    cells[earliest] = _NONE
    cells[earliest + 1] = count
    cells[earliest] = start


def _forget(cells: memoryview[int], at: int, start: int, count: int) -> None:
    if start != _NONE:
        cells[at + FORGOTTEN + 1] = max(cells[at + FORGOTTEN + 1], count)
        cells[at + FORGOTTEN] = max(cells[at + FORGOTTEN], start)
