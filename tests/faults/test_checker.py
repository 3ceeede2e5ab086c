"""The checker catches what it is there to catch."""

from __future__ import annotations

import pytest

from tests.faults.checker import Call, Row, check
from tests.faults.soak import Curve, growth_mib, is_flat, table

CALLS = [Call(n, float(n), n + 0.1, 200, f"r{n}") for n in range(3)]
ROWS = [Row(f"r{n}", 0) for n in range(3)]
REACHED = {f"r{n}": n + 0.05 for n in range(3)}


def test_all_is_well() -> None:
    verdict = check(CALLS, REACHED, ROWS)
    assert verdict.is_clean
    assert (verdict.calls, verdict.rows) == (3, 3)


def test_an_answered_call_without_a_row_is_lost() -> None:
    assert check(CALLS, {}, ROWS[:2]).lost == ["r2"]


def test_a_call_that_only_the_upstream_saw_needs_a_row() -> None:
    broken = [*CALLS[:2], Call(2, 2.0, 2.1, 0)]
    assert check(broken, REACHED, ROWS[:2], excused=[(2, 3)]).lost == ["r2"]
    assert check(broken, REACHED, ROWS, excused=[(2, 3)]).is_clean


def test_a_call_that_was_with_the_upstream_when_its_worker_was_killed_has_a_row() -> None:
    broken = [*CALLS[:2], Call(2, 2.0, 2.1, 0)]
    assert check(broken, REACHED, ROWS[:2], excused=[(2, 3)]).lost == ["r2"]
    verdict = check(broken, REACHED, [*ROWS[:2], Row("r2", 75)], excused=[(2, 3)])
    assert verdict.is_clean
    assert verdict.cut_off == 1


def test_a_call_that_was_noted_when_its_worker_was_killed_and_went_no_further() -> None:
    noted = Row("r9", 75)
    broken = Call(3, 3.0, 3.1, 0)
    assert check([*CALLS, broken], REACHED, [*ROWS, noted], excused=[(3, 4)]).is_clean
    assert check(CALLS, REACHED, [*ROWS, noted]).invented == ["r9"], "no caller missed an answer"


def test_two_rows_of_one_call() -> None:
    assert check(CALLS, REACHED, [*ROWS, ROWS[1]]).doubled == ["r1"]


def test_a_row_of_no_call() -> None:
    assert check(CALLS, REACHED, [*ROWS, Row("r9", 0)]).invented == ["r9"]
    # A refusal whose answer was lost on the way: its path tells which call it was.
    assert check(
        [*CALLS, Call(7, 7, 7, 0)], REACHED, [*ROWS, Row("r9", 71, "/echo/things/7")], excused=[(7, 8)]
    ).is_clean
    assert check(CALLS, REACHED, [*ROWS, Row("r9", 71, "/echo/things/7")]).invented == ["r9"]


def test_rows_of_callers_who_left_before_they_knew() -> None:
    rows = [*ROWS, Row("r8", 60), Row("r9", 60)]
    assert check(CALLS, REACHED, rows, leavers=2).is_clean
    assert check(CALLS, REACHED, rows, leavers=1).invented == ["r9"]


def test_a_record_that_was_made_unreadable_has_no_row_and_no_other_lacks_one() -> None:
    assert check(CALLS, REACHED, ROWS[:2], set_aside=["r2"]).is_clean
    assert check(CALLS, REACHED, ROWS[:1], set_aside=["r2"]).lost == ["r1"]
    assert check(CALLS, REACHED, ROWS, set_aside=["r2"]).invented == ["r2"], "read from what is broken"


def test_failures_outside_the_faults_span() -> None:
    for status in (0, 401, 429, 502, 503):
        broken = Call(3, 3.0, 3.5, status)
        assert check([*CALLS, broken], REACHED, ROWS).failed == [broken]
        assert check([*CALLS, broken], REACHED, ROWS, excused=[(3.5, 4)]).is_clean
        assert check([*CALLS, broken], REACHED, ROWS, excused=[(3.6, 4), (1, 2.9)]).failed == [broken]


def test_a_revoked_key_that_passes_later() -> None:
    assert check(CALLS, REACHED, ROWS, refused_after=1.5).is_clean
    assert check(CALLS, REACHED, ROWS, refused_after=0.9).too_late == [CALLS[2]]
    refused = Call(3, 3.0, 3.1, 401, "r3")
    assert check([*CALLS, refused], REACHED, [*ROWS, Row("r3", 33)], refused_after=2.5).is_clean
    assert check([*CALLS, refused], REACHED, [*ROWS, Row("r3", 33)], refused_after=3.5).failed == [refused]


def test_a_call_from_before_the_revocation_that_the_upstream_hears_of_long_after() -> None:
    waited = Call(3, 3.0, 4.6, 200, "r3")
    calls, rows = [*CALLS, waited], [*ROWS, Row("r3", 0)]
    assert check(calls, REACHED | {"r3": 4.1}, rows, refused_after=3.2).is_clean
    assert check(calls, REACHED | {"r3": 4.3}, rows, refused_after=3.2).heard_late == ["r3"]
    # As well if its caller never had an answer, or left.
    assert check(CALLS, REACHED | {"r3": 4.3}, rows, refused_after=3.2).heard_late == ["r3"]


def test_the_slowest_of_the_calls_that_the_fault_did_not_touch_is_told() -> None:
    calls = [Call(number, number, number + (1.0 if number > 195 else 0.001), 200) for number in range(200)]
    assert 999 < check(calls, {}, []).p99_ms < 1001
    assert 0.9 < check(calls, {}, [], excused=[(195, 300)]).p99_ms < 1.1


def test_memory_that_grows_is_told_from_memory_that_goes_up_and_down() -> None:
    mib = 1024 * 1024
    waves = Curve("worker 0", [(second, (30 + second % 5) * mib) for second in range(400)])
    leak = Curve("worker 1", [(second, (30 + second % 5) * mib + second * mib // 50) for second in range(400)])
    warming = Curve("agent", [(second, min(30 + second, 90) * mib) for second in range(400)])
    assert is_flat([waves, warming], 400)
    assert not is_flat([waves, leak], 400)
    assert 5.5 < growth_mib(leak, 100) < 6.5
    assert "worker 1" in table([leak], 400)


@pytest.mark.parametrize(
    ("an_hour", "hours", "flat"), [(1.2, 1, True), (1.5, 1, False), (0.9, 24, True), (1.1, 24, False)]
)
def test_memory_may_grow_by_a_mebibyte_an_hour(an_hour: float, hours: int, flat: bool) -> None:
    """Of one hour a quarter is warm-up: in what is left it may as well."""
    points = [(minute * 60.0, round((30 + an_hour * minute / 60) * 1024 * 1024)) for minute in range(hours * 60)]
    assert is_flat([Curve("agent", points)], hours * 3600) == flat
