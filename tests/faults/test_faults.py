"""The short schedule: each fault once, with a seed that is told when it fails."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.catalogue import FAULTS
from tests.faults.faults import SHORT
from tests.faults.host import NotHere
from tests.faults.stage import Database, Stage
from tests.here import not_here

pytestmark = [pytest.mark.faults, pytest.mark.processes]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database(tmp_path_factory.mktemp("postgres"))
    yield database
    database.remove()


@pytest.mark.parametrize("name", FAULTS)
def test_the_promise_holds(name: str, database: Database, tmp_path: Path) -> None:
    seed = random.randrange(10_000)
    stage = Stage(tmp_path, database)
    try:
        verdict = FAULTS[name](stage, SHORT, random.Random(seed))
    except NotHere as reason:
        pytest.skip(not_here(str(reason)))
    except Exception as error:
        error.add_note(f"seed {seed}\n{stage.node.log.read_text()[-3000:]}")
        raise
    finally:
        stage.close()
    assert verdict.is_clean, f"seed {seed}: {verdict}\n{stage.node.log.read_text()[-3000:]}"
    assert verdict.calls > 50, "there was load"
