"""A clock that leaps away and comes back: no period has more than its quota, and what is left of it can be spent."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apimgr.contracts.periods import period_bounds
from proxy.dataplane.limits.earlier import count_of, turn_to
from proxy.dataplane.limits.table import COUNT, FORGOTTEN, SLOT_WORDS, START, Table
from tests.proxy.dataplane.test_limits import NOW, meter, quota

DAY = 86_400
AMOUNT = 3
REMEMBERED = 8  # periods beside the one that is counted, the last one with all before it
TODAY = period_bounds("day", NOW)[0]


def cells() -> Any:
    return memoryview(bytearray(SLOT_WORDS * 8)).cast("q")


class Dying:
    """The cells of a process that is killed after so many stores."""

    def __init__(self, of: memoryview[int], stores: int) -> None:
        self._of, self._left = of, stores

    def __getitem__(self, at: int) -> int:
        return self._of[at]

    def __setitem__(self, at: int, value: int) -> None:
        if not self._left:
            raise KeyboardInterrupt
        self._left -= 1
        self._of[at] = value


def spend_at(of: Any, day: int, times: int) -> None:
    turn_to(of, 0, TODAY + day * DAY)
    of[COUNT] += times


@pytest.mark.parametrize(
    ("days", "passed"),
    [
        ([0, 0, 0, 0], "yyyn"),
        ([0, 0, 1, 0, 0], "yyyyn"),  # into the next period and back
        ([0, 0, 0, 1, 1, 1, 0, 1], "yyyyyynn"),
        ([0, 0, 0, 400, 0, 400], "yyyyny"),  # far ahead
        ([0, 0, 0, -400, 0, -400], "yyyyny"),  # far behind
        ([0, 0, 5, 9, 0, 5, 9, 0], "yyyyyyyn"),  # from one lie to another
        ([0, 0, 0, *range(50, 57), 0], "yyyyyyyyyyn"),  # as often as each is remembered by itself
        ([0, 0, 0, *range(50, 90), 0], "y" * 43 + "n"),  # and more often
        ([0, 0, 0, *range(1, 40)], "y" * 42),  # time that goes forward brings every period whole
        ([0, 0, 0, *range(1, 20), 1, 1, 1], "y" * 22 + "nnn"),  # of what is forgotten the most is taken to be spent
    ],
)
@pytest.mark.parametrize("restarts", [False, True])
def test_a_clock_that_leaps(tmp_path: Path, days: list[int], passed: str, *, restarts: bool) -> None:
    table = Table(tmp_path / "table", NOW, may_be_alone=True)
    answers = ""
    for day in days:
        if restarts:
            table.close()
            table = Table(tmp_path / "table", NOW, may_be_alone=True)
        answers += "y" if meter(table, quota(AMOUNT)).take(NOW + day * DAY) else "n"
    assert answers == passed


@pytest.mark.parametrize("restarts", [False, True])
def test_a_full_table_gives_nothing_away_by_a_clock_that_leapt(tmp_path: Path, *, restarts: bool) -> None:
    table = Table(tmp_path / "table", NOW, may_be_alone=True)
    assert meter(table, quota(1)).take(NOW)
    if restarts:
        table.close()
        table = Table(tmp_path / "table", NOW + 400 * DAY, may_be_alone=True)
    else:
        for subscription in range(100, 3100):
            assert meter(table, quota(1), subscription=subscription).take(NOW + 400 * DAY)
    assert not meter(table, quota(1)).take(NOW)


@given(st.lists(st.tuples(st.integers(-20, 20), st.integers(1, AMOUNT + 1)), max_size=60))
def test_no_period_ever_has_more_than_its_quota(deeds: list[tuple[int, int]]) -> None:
    passed: Counter[int] = Counter()
    with TemporaryDirectory() as folder:
        table = Table(Path(folder) / "table", NOW, may_be_alone=True)
        limited = meter(table, quota(AMOUNT))
        for day, times in deeds:
            now = NOW + day * DAY
            passed[day] += sum(map(bool, (limited.take(now) for _ in range(times))))
            if times > AMOUNT and passed[day]:
                limited.ended(counts=False, began=now)
                passed[day] -= 1
        table.close()
    assert all(0 <= count <= AMOUNT for count in passed.values())


@given(
    st.lists(st.integers(-400, 400), min_size=1, max_size=REMEMBERED + 1, unique=True).flatmap(
        lambda days: st.lists(st.tuples(st.sampled_from(days), st.integers(1, 9)), max_size=60)
    )
)
@example([(day, 1) for day in (*range(1, REMEMBERED + 1), 0)])
def test_as_many_periods_as_are_remembered_are_counted_exactly(deeds: list[tuple[int, int]]) -> None:
    of, spent = cells(), Counter[int]()
    for day, times in deeds:
        spend_at(of, day, times)
        spent[day] += times
    for day, times in spent.items():
        known = count_of(of, 0, TODAY + day * DAY)
        is_forgotten = TODAY + day * DAY <= of[FORGOTTEN]  # or began before one that is: they share the highest count
        assert known == times or (is_forgotten and known >= times)


@given(
    st.lists(st.tuples(st.integers(-20, 20), st.integers(1, 9)), min_size=1, max_size=30),
    st.integers(-20, 20),
    st.data(),
)
def test_who_is_killed_while_it_turns_loses_no_count(
    deeds: list[tuple[int, int]], to: int, data: st.DataObject
) -> None:
    of, days = cells(), range(-25, 25)
    for day, times in deeds:
        spend_at(of, day, times)
    before = [count_of(of, 0, TODAY + day * DAY) for day in days]
    stores = data.draw(st.integers(0, 9))
    try:
        turn_to(cast("Any", Dying(of, stores)), 0, TODAY + to * DAY)
    except KeyboardInterrupt:
        assert all(count_of(of, 0, TODAY + day * DAY) >= known for day, known in zip(days, before, strict=True))
    turn_to(of, 0, TODAY + to * DAY)
    assert of[START] == TODAY + to * DAY
    assert all(count_of(of, 0, TODAY + day * DAY) >= known for day, known in zip(days, before, strict=True))


def test_even_the_first_day_of_all_is_remembered() -> None:
    """A clock that was reset says 1970: there a period begins at 0, which elsewhere is none."""
    of = cells()
    for start in (0, DAY, 0):
        turn_to(of, 0, start)
        of[COUNT] += 1
    assert [count_of(of, 0, start) for start in (0, DAY, 2 * DAY)] == [2, 1, 0]
