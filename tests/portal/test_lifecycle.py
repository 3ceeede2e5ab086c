from __future__ import annotations

import itertools

import pytest
from django.conf import settings

from apimgr.core.errors import Conflict
from portal import lifecycle
from portal.lifecycle import TRANSITIONS, Move, Side, moves_from, next_step
from portal.models import SubscriptionState


def test_what_the_table_lacks_is_refused() -> None:
    for state, move in itertools.product(SubscriptionState, Move):
        if (state, move) in TRANSITIONS:
            assert next_step(state, move) is TRANSITIONS[state, move]
        else:
            with pytest.raises(Conflict):
                next_step(state, move)


def test_the_end_is_the_end() -> None:
    for state in (SubscriptionState.REJECTED, SubscriptionState.CANCELLED):
        assert not moves_from(state, Side.PUBLISHER) + moves_from(state, Side.DEVELOPER)


def test_a_developer_can_only_leave() -> None:
    moves = {state: moves_from(state, Side.DEVELOPER) for state in SubscriptionState}
    assert moves["requested"] == moves["active"] == [Move.CANCEL]
    assert moves["suspended"] == []


def test_the_docs_show_this_table() -> None:
    page = (settings.BASE_DIR / "docs" / "reference" / "subscription-states.md").read_text()
    assert lifecycle.diagram() in page
    assert lifecycle.table() in page
