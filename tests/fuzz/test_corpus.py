"""Every input that was ever kept, replayed; and each target for a moment at random."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from tests.asynchronous import run
from tests.fuzz.__main__ import CORPUS, NAMES, mutate
from tests.fuzz.scripted import play
from tests.fuzz.targets import TARGETS

INPUTS = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def test_each_target_has_a_corpus() -> None:
    assert sorted(TARGETS) == NAMES


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_replay(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_near_the_corpus(name: str) -> None:
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    chance = random.Random(name)
    for _ in range(500):
        data = mutate(chance.choice(seeds), chance.choice(seeds), chance)
        TARGETS[name](data)


def test_a_loop_that_runs_already_runs_on() -> None:
    async def around() -> None:
        loop = asyncio.get_running_loop()
        play(b"")
        assert asyncio.get_running_loop() is loop

    run(around)
