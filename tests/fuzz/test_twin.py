"""The compiled gateway makes of any bytes exactly what its sources make of them."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator

import pytest

from tests.fuzz.__main__ import CORPUS, mutate
from tests.fuzz.readings import READINGS
from tests.fuzz.twin import Differs, Twin
from tests.here import has_build

MUTANTS = {"gateway": 3000}  # each a whole life of connections

pytestmark = has_build


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    with Twin() as twin:
        yield twin


@pytest.mark.parametrize("name", sorted(READINGS))
def test_the_same_reading_of_everything_near_the_corpus(twin: Twin, name: str) -> None:
    seeds = [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]
    chance = random.Random(name)
    for seed in seeds:
        twin.compare(name, seed)
    for _ in range(MUTANTS.get(name, 5000)):
        twin.compare(name, mutate(chance.choice(seeds), chance.choice(seeds), chance))


def test_a_difference_is_found(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.readings.without_parameters", lambda path: path + b"?")
    with pytest.raises(Differs, match="compiled: b\"b'/a/b'\""):
        twin.compare("path", b"/a/b;c")


def test_a_death_is_found() -> None:
    with Twin() as dead:
        dead.compare("path", b"/")
        os.kill(dead.pid, signal.SIGSEGV)
        with pytest.raises(Differs, match=r"died \(-11\) of b'/a'"):
            dead.compare("path", b"/a")
