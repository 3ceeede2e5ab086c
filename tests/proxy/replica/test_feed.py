"""From the change log to the replica: pages, and what goes on beside them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import lmdb
import pytest
from django.db import connection, transaction
from django.utils import timezone
from psycopg import AsyncConnection

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import PlanDocument
from proxy import selectors
from proxy.dataplane.agent import Agent
from proxy.dataplane.config import from_environment
from proxy.dataplane.replica import feed as module
from proxy.dataplane.replica.feed import Feed
from proxy.dataplane.replica.layout import AGENT, open_state
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.replica.writer import ReplicaWriter, Step
from proxy.models import AppliedChanges, ChangeCounter, GatewayChange, RejectedDocument
from proxy.services import append_changes, compact_changes, forget_removals
from proxy.services.changes import UNTOLD
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


def lose(after: int) -> None:
    """A standby that lacks what was committed after that takes over, or a backup is restored."""
    GatewayChange.objects.filter(sequence__gt=after).delete()
    ChangeCounter.objects.update(last=after)


@pytest.mark.parametrize("further", [1, 2, 3, 9])
def test_a_log_that_lost_its_last_changes_is_not_taken_for_the_one_that_was_followed(
    tmp_path: Path, further: int
) -> None:
    """Whether it has come less far by then, as far, or farther than the node."""
    append(FREE, PlanDocument(2, "More"))
    writer = ReplicaWriter(tmp_path)
    feed = Feed(writer)
    pull(feed)
    append(PlanDocument(3, "Lost"), PlanDocument(4, "Lost"))
    pull(feed)
    lose(after=2)
    append(PlanDocument(1, "Revoked"), *(PlanDocument(10 + number, "New") for number in range(1, further)))
    assert pull(feed)
    assert writer.mark is not None
    assert writer.mark.sequence == 2 + further
    assert not pull(feed)
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert reader.get("plan", "1") == PlanDocument(1, "Revoked")
    assert reader.get("plan", "2") == PlanDocument(2, "More")
    assert reader.get("plan", "4") is None


def test_a_node_that_was_away_meanwhile_finds_that_the_log_is_another(tmp_path: Path) -> None:
    append(FREE, PlanDocument(2, "Lost"))
    writer = ReplicaWriter(tmp_path)
    pull(Feed(writer))
    writer.close()
    lose(after=1)
    append(PlanDocument(1, "Revoked"), PlanDocument(3, "New"))
    writer = ReplicaWriter(tmp_path)
    assert pull(Feed(writer))
    writer.close()
    assert ReplicaReader(tmp_path).get("plan", "1") == PlanDocument(1, "Revoked")


def generation(path: Path) -> str:
    (found,) = path.glob("data-*")
    return found.name


def compact() -> None:
    """As if all that was said lay back long enough."""
    GatewayChange.objects.update(created_at=timezone.now() - UNTOLD)
    compact_changes()


def test_a_node_in_step_is_never_filled_anew_and_one_whose_change_was_compacted_is(tmp_path: Path) -> None:
    append(FREE)
    writer = ReplicaWriter(tmp_path)
    feed = Feed(writer)
    pull(feed)
    first = generation(tmp_path)
    for name in ("a", "b", "c"):
        append(PlanDocument(1, name), PlanDocument(2, name))
        pull(feed)
        compact()
        assert not pull(feed)
    append(removed=(2,))
    append(PlanDocument(3, "Other"))
    pull(feed)
    compact()
    assert generation(tmp_path) == first
    append(PlanDocument(3, "Renamed"))
    compact()
    assert pull(feed)
    assert generation(tmp_path) != first, "nobody can say any more that the log goes on from there"
    assert not pull(feed)
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert reader.get("plan", "1") == PlanDocument(1, "c")
    assert reader.get("plan", "2") is None
    assert reader.get("plan", "3") == PlanDocument(3, "Renamed")


def test_an_empty_log_is_followed(tmp_path: Path) -> None:
    writer = ReplicaWriter(tmp_path)
    feed = Feed(writer)
    assert pull(feed)
    assert not pull(feed)
    append(FREE)
    assert pull(feed)
    assert not pull(feed)
    writer.close()
    assert ReplicaReader(tmp_path).get("plan", "1") == FREE


ODD = '"zones":["eu"],"kind"'  # what a newer platform says of a document: a field that nobody here knows


def make_odd(sequence: int) -> None:
    change = GatewayChange.objects.get(sequence=sequence)
    assert change.document is not None
    GatewayChange.objects.filter(pk=sequence).update(document=change.document.replace('"kind"', ODD))


def upgraded(monkeypatch: pytest.MonkeyPatch) -> None:
    load = snapshot.load

    def load_newer(raw: bytes | str) -> snapshot.Document:
        return load((raw if isinstance(raw, str) else raw.decode()).replace(ODD, '"kind"'))

    monkeypatch.setattr(snapshot, "load", load_newer)


@pytest.mark.parametrize("is_new", [False, True], ids=["following", "from scratch"])
def test_what_a_node_rejects_is_read_again_by_the_next_software(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_new: bool
) -> None:
    append(FREE)
    writer = ReplicaWriter(tmp_path)
    pull(Feed(writer))
    append(PlanDocument(1, "Paid"), PlanDocument(2, "More"))
    make_odd(2)
    if is_new:
        GatewayChange.objects.filter(sequence=1).delete()
        ChangeCounter.objects.update(log_id=uuid4())
    feed = Feed(writer)
    assert pull(feed)
    rejected = list(writer.rejected.values())
    assert [(each.since, each.sequence, each.kind, each.key) for each in rejected] == [(2, 2, "plan", "1")]
    assert "zones" in rejected[0].reason
    assert not pull(feed), "once is enough for one and the same software"
    writer.close()

    writer = ReplicaWriter(tmp_path)
    assert list(writer.rejected.values()) == rejected
    assert not pull(Feed(writer)), "it was not upgraded"
    assert list(writer.rejected.values()) == rejected
    writer.close()
    assert ReplicaReader(tmp_path).get("plan", "1") == FREE

    upgraded(monkeypatch)
    writer = ReplicaWriter(tmp_path)
    feed = Feed(writer)
    assert pull(feed)
    assert not writer.rejected
    assert not pull(feed)
    writer.close()
    assert not ReplicaWriter(tmp_path).rejected
    reader = ReplicaReader(tmp_path)
    assert reader.get("plan", "1") == PlanDocument(1, "Paid")


@pytest.mark.parametrize("removed", [False, True])
def test_what_takes_the_place_of_a_rejected_document_ends_it(tmp_path: Path, *, removed: bool) -> None:
    append(FREE)
    writer = ReplicaWriter(tmp_path)
    feed = Feed(writer)
    pull(feed)
    for number, name in ((2, "Odd"), (3, "Odder")):
        append(PlanDocument(1, name))
        make_odd(number)
        pull(feed)
        assert [(each.since, each.sequence) for each in writer.rejected.values()] == [(2, number)]
    if removed:
        append(removed=(1,))
    else:
        append(PlanDocument(1, "Paid"))
    pull(feed)
    assert not writer.rejected
    writer.close()
    writer = ReplicaWriter(tmp_path)
    assert not writer.rejected
    writer.close()
    assert ReplicaReader(tmp_path).get("plan", "1") == (None if removed else PlanDocument(1, "Paid"))


def test_a_replica_of_software_that_remembered_nothing_is_filled_anew(tmp_path: Path) -> None:
    append(FREE)
    writer = ReplicaWriter(tmp_path)
    pull(Feed(writer))
    writer.close()
    with lmdb.open(str(next(tmp_path.glob("data-*")))) as data, data.begin(write=True) as entries:
        entries.delete(b"remembered")
    writer = ReplicaWriter(tmp_path)
    assert writer.ready, "it is served by meanwhile"
    feed = Feed(writer)
    assert pull(feed)
    assert not pull(feed)
    writer.close()


def test_receipts_are_not_given_for_what_was_rejected(tmp_path: Path) -> None:
    append(FREE, PlanDocument(2, "Paid"))
    make_odd(1)
    variables = {"APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": "p" * 32, "DATABASE_URL": database_url()}
    agent = Agent(from_environment({**variables, "APIMGR_GATEWAY_NODE_NAME": "odd"}))

    def keep(agent: Agent, until: Callable[[], bool]) -> None:
        async def scenario() -> None:
            async with await AsyncConnection.connect(database_url(), autocommit=True) as connection:
                keeping = asyncio.ensure_future(agent.keep_replica(connection))
                async with asyncio.timeout(60):
                    while not await asyncio.to_thread(until):
                        await asyncio.sleep(0.01)
                await agent.heart.beat(connection, agent.counters(), None)
                keeping.cancel()
                await asyncio.gather(keeping, return_exceptions=True)

        run(scenario)

    def has_receipt(sequence: int) -> bool:
        try:
            return AppliedChanges.objects.filter(sequence=sequence).exists()
        finally:
            connection.close()

    keep(agent, lambda: has_receipt(2))
    passed_over, taken = selectors.rollout(1), selectors.rollout(2)
    assert (passed_over.live, passed_over.total, passed_over.rejected, passed_over.is_complete) == (0, 1, 1, False)
    assert "zones" in passed_over.reason
    assert taken.is_complete
    assert not taken.reason
    append(PlanDocument(1, "Free again"))
    keep(agent, lambda: has_receipt(3))
    assert selectors.rollout(3).is_complete
    assert not RejectedDocument.objects.exists()


# --- Removals that are told no more ---------------------------------------------------------------------------------


def forget() -> int:
    """As if all of it had been said long ago."""
    GatewayChange.objects.update(created_at=timezone.now() - timedelta(days=31))
    compact_changes()
    return forget_removals()


def test_a_node_that_had_not_read_a_removal_never_keeps_what_was_removed(tmp_path: Path) -> None:
    """The row that it read last is there and the same: by that alone it would go on, and admit a key that had ended."""
    append(FREE, PlanDocument(2, "ended"), PlanDocument(3, "stays"))
    append(removed=(1,))
    writer = ReplicaWriter(tmp_path)
    pull(Feed(writer))
    append(PlanDocument(4, "last it read"))
    pull(Feed(writer))
    append(removed=(2,))
    append(PlanDocument(5, "news"))
    assert forget() == 2
    assert GatewayChange.objects.filter(sequence=5).exists()
    assert not GatewayChange.objects.filter(key="2").exists()
    assert pull(Feed(writer))
    assert not pull(Feed(writer)), "once"
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert [reader.get("plan", str(pk)) is not None for pk in range(1, 6)] == [False, False, True, True, True]


def test_a_node_that_reads_as_removals_are_forgotten_keeps_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(PlanDocument(1, "ended"))
    writer = ReplicaWriter(tmp_path)
    pull(Feed(writer))
    append(PlanDocument(2, "a"))
    append(removed=(1,))
    append(PlanDocument(3, "b"))
    monkeypatch.setattr(module, "PAGE", 1)
    read_page, forgotten = module._read_page, []

    async def between_pages(*args: object, **after: object) -> list[Step]:
        steps = await read_page(*args, **after)  # type: ignore[arg-type]
        if not forgotten:
            forgotten.append(await asyncio.to_thread(in_thread, forget))
        return steps

    monkeypatch.setattr(module, "_read_page", between_pages)
    feed = Feed(writer)
    assert pull(feed)
    assert forgotten == [1]
    assert pull(feed)
    assert not pull(feed)
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert [reader.get("plan", str(pk)) is not None for pk in (1, 2, 3)] == [False, True, True]


def in_thread(work: Callable[[], int]) -> int:
    try:
        return work()
    finally:
        connection.close()


def test_a_node_that_has_read_the_removals_goes_on(tmp_path: Path, pages: list[list[str]]) -> None:
    append(FREE)
    append(removed=(1,))
    append(PlanDocument(2, "last it read"))
    writer = ReplicaWriter(tmp_path)
    pull(Feed(writer))
    append(PlanDocument(3, "news"))
    assert forget() == 1
    pages.clear()
    assert pull(Feed(writer))
    assert [page for page in pages if page] == [["3"]]
    writer.close()


def test_a_node_that_found_the_log_empty_reads_it_however_late_it_comes_back(tmp_path: Path) -> None:
    """There was no token yet that it could miss, and no page follows a number before the removals: it read nothing."""
    append(removed=(1,))  # of what was never spoken of: the log is there, without a change
    writer = ReplicaWriter(tmp_path)
    pull(Feed(writer))
    assert not pull(Feed(writer))
    append(PlanDocument(1, "came"), PlanDocument(2, "stays"))
    append(removed=(1,))
    append(PlanDocument(3, "last"))
    assert forget() == 1
    assert pull(Feed(writer))
    assert not pull(Feed(writer)), "once"
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert [reader.get("plan", str(pk)) is not None for pk in (1, 2, 3)] == [False, True, True]
