from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from apimgr.catalog.lifecycle import TRANSITIONS, Move, diagram, moves_from, next_state
from apimgr.catalog.models import VersionState
from apimgr.core.errors import Conflict

PAGE = Path(__file__).resolve().parents[3] / "docs" / "reference" / "lifecycle.md"

LEGAL = {
    ("draft", "publish"): "published",
    ("published", "publish"): "published",
    ("published", "deprecate"): "deprecated",
    ("deprecated", "publish"): "deprecated",
    ("deprecated", "deprecate"): "deprecated",
    ("deprecated", "restore"): "published",
    ("deprecated", "retire"): "retired",
}


@pytest.mark.parametrize(("state", "move"), list(product(VersionState, Move)))
def test_every_state_and_move(state: VersionState, move: Move) -> None:
    if (state.value, move.value) in LEGAL:
        assert next_state(state, move) == LEGAL[state.value, move.value]
        assert move in moves_from(state)
    else:
        with pytest.raises(Conflict):
            next_state(state, move)
        assert move not in moves_from(state)


def test_every_state_is_reached() -> None:
    assert {VersionState.DRAFT, *TRANSITIONS.values()} == set(VersionState)


def test_page_shows_the_table() -> None:
    """After a change of the table, put what ``lifecycle.diagram()`` gives into the page."""
    shown = re.search(r"```mermaid\n(.*?)\n```", PAGE.read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == diagram()
