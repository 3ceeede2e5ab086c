"""The ledger forgets what can matter to nobody any more."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from analytics import partitions, tasks
from analytics.models import UsageBatch, UsageNode
from analytics.selectors.cubes import complete_to
from analytics.services import ingest, retention, rollups
from proxy import selectors
from tests.analytics.calls import NOW, call

pytestmark = pytest.mark.django_db
OLD = NOW - timedelta(days=40)


@pytest.fixture(autouse=True)
def _today(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.USAGE_RETENTION_DAYS = {"event": 30, "minute": 14, "hour": 760}
    monkeypatch.setattr(partitions, "today", NOW.date)


def ranges(segment: int, *times: datetime, shipped_at: datetime = OLD) -> list[int]:
    """Ranges of one segment, one after the other, each with two calls of one time. Returns their ids."""
    made = []
    for at in times:
        ingest.write_batch(node="node-1", boot=1, worker=0, segment=segment, records=[call(at)] * 2)
        latest = UsageBatch.objects.latest("pk")
        start = 100 * (len(made) + 1)
        found = UsageBatch.objects.filter(pk=latest.pk)
        found.update(from_offset=start, to_offset=start + 100, shipped_at=shipped_at)
        made.append(latest.pk)
    return made


def kept() -> set[int]:
    return set(UsageBatch.objects.values_list("pk", flat=True))


def test_of_old_ranges_each_segment_keeps_its_last() -> None:
    first, second = ranges(1, OLD, OLD, OLD), ranges(2, OLD)
    rollups.roll_up_all()
    assert retention.prune_ledger() == 2
    assert kept() == {first[-1], *second}
    assert retention.prune_ledger() == 0


def test_much_goes_in_steps() -> None:
    last = ranges(1, *[OLD] * 8)[-1]
    rollups.roll_up_all()
    assert retention.prune_ledger(at_once=3) == 7
    assert kept() == {last}


def test_what_may_still_matter_stays() -> None:
    young = ranges(1, NOW - timedelta(days=29), NOW)
    late = ranges(2, OLD, OLD, shipped_at=NOW - timedelta(days=1))  # its shipper may not have had the answer
    ahead = ranges(3, NOW + timedelta(days=1), OLD)  # of a node whose clock was wrong; its calls are still there
    rollups.roll_up_all()
    waiting = ranges(4, OLD, OLD)
    assert retention.prune_ledger() == 0
    assert kept() == {*young, *late, *ahead, *waiting}


def test_the_books_stay_as_they_are() -> None:
    ranges(1, OLD, OLD, NOW)
    ranges(2, OLD, OLD)
    rollups.roll_up_all()
    ranges(3, OLD, OLD)
    before, counted = selectors.boots(None), selectors.counted_calls(None)
    assert retention.prune_ledger() == 3
    assert selectors.boots(None) == before
    assert selectors.counted_calls(None) == counted == 10
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_event")
        assert cursor.fetchone() == (14,), "calls leave with their partition"
    rollups.roll_up_all()
    assert [books.in_database.rolled_up for books in selectors.boots(None)] == [14]


def test_how_far_a_node_has_shipped_goes_with_the_node(settings: Any) -> None:
    settings.GATEWAY_NODE_DAYS = 30
    now = timezone.now()
    for name, days in (("longest ago", 41), ("long ago", 40), ("young", 29)):
        at = now - timedelta(days=days)
        UsageNode.objects.create(node=name, shipped_until=at, seen_at=at)
    whole = complete_to()
    tasks.forget_nodes()
    assert list(UsageNode.objects.values_list("node", flat=True)) == ["young"]
    settings.GATEWAY_NODE_DAYS = 1
    assert retention.forget_nodes() == 0, "the last one says until when numbers are whole"
    assert complete_to() == whole == now - timedelta(days=29)
    UsageNode.objects.all().delete()
    assert retention.forget_nodes() == 0
