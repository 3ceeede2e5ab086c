"""An agent runs for months: of what it shipped and told it keeps nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from apimgr.env import BASE_DIR
from tests.proxy.processes.node import database_url

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS: Final = 500  # of two batches each; half as many before it counts
MOST_OBJECTS_A_ROUND: Final = 0.5  # what is kept of a round, or of one of its batches, is an object at least


def test_an_agent_keeps_nothing_of_a_thousand_batches(tmp_path: Path, transactional_db: None) -> None:
    command = [sys.executable, "-m", "tests.proxy.usage.long_life", str(tmp_path), database_url(), str(ROUNDS)]
    lived = subprocess.run(command, cwd=BASE_DIR, stdout=subprocess.PIPE, text=True, check=True)
    before, after, stored = map(int, lived.stdout.split())
    assert stored == 3 * ROUNDS
    assert after - before < ROUNDS * MOST_OBJECTS_A_ROUND
