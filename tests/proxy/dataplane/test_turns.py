"""Those that have more to do than one turn allows take turns, and the event loop goes round meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.dataplane.turns import Turns
from tests.asynchronous import run


async def rounds_until(is_over: Callable[[], bool]) -> int:
    rounds = 0
    while not is_over():
        await asyncio.sleep(0)  # once around
        rounds += 1
    return rounds


def test_however_many_wait_a_round_is_short() -> None:
    async def scenario() -> None:
        turns, had = Turns(), list[int]()
        for number in range(1000):
            turns.wait(lambda number=number: had.append(number))  # type: ignore[misc]
        most, before = 0, 0
        while len(had) < 1000:
            await asyncio.sleep(0)
            most, before = max(most, len(had) - before), len(had)
        assert most <= 8
        assert had == list(range(1000)), "in their order"

    run(scenario)


def test_whoever_waits_again_waits_behind_the_others() -> None:
    async def scenario() -> None:
        turns, had = Turns(), list[str]()

        def insist() -> None:
            had.append("insists")
            if len(had) < 20:
                turns.wait(insist)

        turns.wait(insist)
        turns.wait(lambda: had.append("other"))
        assert await rounds_until(lambda: len(had) >= 20) >= 19, "a turn of its own in each round"
        assert had[:3] == ["insists", "other", "insists"]

    run(scenario)


def test_a_turn_that_fails_is_the_only_one() -> None:
    async def scenario() -> None:
        turns, had, failures = Turns(), list[int](), list[object]()
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context["exception"]))

        def fail() -> None:
            raise ValueError("broken")

        for number in range(100):
            turns.wait(fail if number % 10 == 5 else lambda number=number: had.append(number))  # type: ignore[misc]
        await rounds_until(lambda: len(had) == 90)
        assert len(failures) == 10
        await asyncio.sleep(0)
        turns.wait(lambda: had.append(100))
        await rounds_until(lambda: had[-1] == 100)

    run(scenario)
