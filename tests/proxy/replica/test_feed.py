"""From the change log to the replica: pages, and what goes on beside them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import transaction
from psycopg import AsyncConnection

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import PlanDocument
from proxy.dataplane.replica import feed as module
from proxy.dataplane.replica.feed import Feed
from proxy.dataplane.replica.layout import AGENT, open_state
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.replica.writer import ReplicaWriter, Step
from proxy.services import append_changes
from tests.asynchronous import run
from tests.proxy.processes.node import database_url

pytestmark = pytest.mark.django_db(transaction=True)
FREE = PlanDocument(1, "Free")


def append(*documents: PlanDocument, removed: tuple[int, ...] = ()) -> None:
    with transaction.atomic():
        append_changes(documents, [("plan", str(pk)) for pk in removed])


def pull(feed: Feed, beside: Callable[[], None] = lambda: None) -> bool:
    """Pull once; ``beside`` is called by the same loop meanwhile."""

    async def scenario() -> bool:
        async with await AsyncConnection.connect(database_url(), autocommit=True) as connection:
            pulling = asyncio.ensure_future(feed.pull(connection))
            while not pulling.done():
                beside()
                await asyncio.wait([pulling], timeout=0.01)
            return await pulling

    return run(scenario)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The keys of each page that is taken."""
    taken: list[list[str]] = []
    read_page = module._read_page

    async def noted(*args: object, **after: object) -> list[Step]:
        steps = await read_page(*args, **after)  # type: ignore[arg-type]
        taken.append([step.change.key for step in steps])
        return steps

    monkeypatch.setattr(module, "_read_page", noted)
    return taken


@pytest.mark.parametrize("is_new", [False, True], ids=["following", "from scratch"])
def test_a_page_is_full_when_it_has_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: list[list[str]], is_new: bool
) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES", 1000)
    writer = ReplicaWriter(tmp_path)
    if not is_new:
        append(FREE)
        pull(Feed(writer))
        pages.clear()
    append(*(PlanDocument(pk, "x" * size) for pk, size in ((2, 600), (3, 600), (4, 5000), (5, 1), (6, 1), (7, 1))))
    append(removed=(7,))
    assert pull(Feed(writer))
    last = ["5", "6", "7"] if is_new else ["5", "6", "7", "7"]
    assert [page for page in pages if page] == [["2", "3"], ["4"], last]
    assert writer.mark is not None
    assert writer.mark.sequence == (7 if is_new else 8)
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert reader.get("plan", "4") == PlanDocument(4, "x" * 5000)
    assert reader.get("plan", "6") == PlanDocument(6, "x")
    assert reader.get("plan", "7") is None


@pytest.mark.parametrize("is_new", [False, True], ids=["following", "from scratch"])
def test_a_page_is_full_when_it_has_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: list[list[str]], is_new: bool
) -> None:
    monkeypatch.setattr(module, "PAGE", 2)
    writer = ReplicaWriter(tmp_path)
    if not is_new:
        append(PlanDocument(9, "Gold"))
        pull(Feed(writer))
        pages.clear()
    append(*(PlanDocument(pk, "x") for pk in range(1, 6)))
    append(PlanDocument(2, "y"), removed=(4,))
    assert pull(Feed(writer))
    of_all = [["1", "2"], ["3", "4"], ["5"]]  # the latest of each
    assert [page for page in pages if page] == (of_all if is_new else [["1", "2"], ["3", "4"], ["5", "4"], ["2"]])
    assert not pull(Feed(writer))
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert reader.get("plan", "2") == PlanDocument(2, "y")
    assert reader.get("plan", "4") is None


def test_documents_are_read_beside_the_agent_s_other_work_and_away_from_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the agent is silent for as long and is killed, each time in the midst of the data."""
    append(FREE)
    writer, load = ReplicaWriter(tmp_path), snapshot.load
    held, went_on = open_state(tmp_path), threading.Event()
    held_while_read: list[int] = []

    def load_long(raw: str) -> snapshot.Document:
        held_while_read.append(held[AGENT])
        assert went_on.wait(60)
        return load(raw)

    for pk in (2, 3):  # from scratch, then one change more
        held_while_read.clear()
        went_on.clear()
        with monkeypatch.context() as slow:
            slow.setattr(snapshot, "load", load_long)
            assert pull(Feed(writer), beside=lambda: went_on.set() if held_while_read else None)
        assert held_while_read == [0]
        append(PlanDocument(pk, "More"))
    writer.close()
