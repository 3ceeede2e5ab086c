"""Nodes that are gone: what goes with them, what stays, and that they may come back."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from celery.schedules import crontab
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from psycopg import AsyncConnection
from rest_framework.test import APIClient

from apimgr.accounts.models import User
from apimgr.audit.models import AuditEntry
from apimgr.celery import app, beat_schedule
from apimgr.contracts.snapshot import PlanDocument
from apimgr.core.errors import Conflict, NotFound
from apimgr.core.events import receives
from proxy import schedules, selectors, tasks
from proxy.books import BootBooks
from proxy.dataplane.agent import Agent
from proxy.dataplane.config import from_environment
from proxy.dataplane.stats import Snapshot
from proxy.dataplane.usage.books import Counted
from proxy.events import NodeRemoved
from proxy.models import AppliedChanges, GatewayBoot, GatewayChange, GatewayNode, RejectedDocument
from proxy.services import append_changes, close_boots, compact_changes, give_up_boot, remove_gone_nodes, remove_node
from tests.analytics.calls import call, store
from tests.asynchronous import run
from tests.locks import somebody_waits
from tests.proxy.control.test_rollout import make_node
from tests.proxy.processes.node import database_url

pytestmark = pytest.mark.django_db
T = TypeVar("T")
MINUTE, MONTH = 60, 40 * 86_400


def make_boot(node: str, boot: int, *, silent_s: float = 0, generated: int = 0, unrecorded: int = 0) -> None:
    seen_at = timezone.now() - timedelta(seconds=silent_s)
    GatewayBoot.objects.create(
        node=node,
        boot=boot,
        software_version="0.1.0",
        started_at=seen_at - timedelta(hours=1),
        seen_at=seen_at,
        generated=generated,
        spooled=generated - unrecorded,
        unrecorded=unrecorded,
        acknowledged=0,
    )


def books_of(node: str) -> dict[int, BootBooks]:
    return {books.boot: books for books in selectors.boots(None) if books.node == node}


def names() -> list[str]:
    return [standing.node.name for standing in selectors.nodes(None)]


# --- The operator's verb --------------------------------------------------------------------------------------------


def test_a_node_goes_with_all_that_it_said_of_itself(olga: User) -> None:
    for name in ("gone", "there"):
        make_node(name, silent_s=MINUTE if name == "gone" else 0)
        AppliedChanges.objects.create(node=name, sequence=1, applied_at=timezone.now())
        RejectedDocument.objects.create(node=name, since=1, kind="plan", key="1", reason="odd")
    assert remove_node(actor=olga, name="gone").lost == 0
    assert names() == ["there"]
    assert AppliedChanges.objects.get().node == RejectedDocument.objects.get().node == "there"


def test_what_it_owed_is_lost_and_not_forgotten(olga: User) -> None:
    store(call(), call(), node="gone")  # of boot 1
    make_node("gone", silent_s=MINUTE, generated=7, spooled=6, unrecorded=1)
    make_boot("gone", 1, silent_s=MINUTE, generated=7, unrecorded=1)
    make_boot("gone", 0, silent_s=MONTH, generated=3)
    before = selectors.nodes(None)[0]
    removal = remove_node(actor=olga, name="gone")
    assert (removal.given_up, removal.lost) == (2, 7)
    assert before.outstanding == removal.lost, "what it costs was said before"
    assert {boot: (books.state, books.lost, books.given_up) for boot, books in books_of("gone").items()} == {
        0: ("given_up", 3, 3),
        1: ("given_up", 4, 4),
    }


def test_books_that_were_closed_stay_as_the_node_left_them(olga: User) -> None:
    make_node("gone", silent_s=MINUTE)
    make_boot("gone", 0, generated=2)
    GatewayBoot.objects.update(closed_at=GatewayBoot.objects.get().seen_at)
    assert remove_node(actor=olga, name="gone").given_up == 1, "the last one"
    assert (books_of("gone")[0].state, books_of("gone")[0].lost) == ("closed", 2)


def test_a_node_that_told_of_itself_alone_leaves_its_books(olga: User) -> None:
    """As one did that was gone before boots had books of their own."""
    make_node("gone", silent_s=MONTH, generated=5, spooled=5)
    assert remove_node(actor=olga, name="gone").lost == books_of("gone")[1].lost == 5


def test_a_node_that_is_heard_is_not_removed(olga: User) -> None:
    make_node("there")
    with pytest.raises(Conflict) as refused:
        remove_node(actor=olga, name="there")
    assert refused.value.code == "node_connected"
    assert "there" in refused.value.message
    assert "Stop the gateway" in refused.value.fix
    assert names() == ["there"]


def test_only_operators_remove(alice: User, olga: User) -> None:
    make_node("gone", silent_s=MINUTE)
    with pytest.raises(NotFound):
        remove_node(actor=alice, name="gone")
    with pytest.raises(NotFound):
        remove_node(actor=olga, name="none")
    assert names() == ["gone"]


def test_it_is_on_record_who_wrote_off_what(olga: User) -> None:
    make_node("gone", silent_s=MINUTE, generated=5)
    heard: list[NodeRemoved] = []
    receives(NodeRemoved)(heard.append)
    remove_node(actor=olga, name="gone")
    entry = AuditEntry.objects.get(action="proxy.node.removed")
    assert entry.actor == olga
    assert (entry.target_name, entry.data["lost"], entry.data["boots"]) == ("gone", 5, [1])
    assert entry.sentence == f"{olga} removed the gateway node gone, with which 5 calls were lost"
    assert heard == [NodeRemoved("gone", 5)]


def test_a_boot_of_a_node_that_lives_on_can_be_given_up(client: Client, olga: User) -> None:
    """Its name stayed and its disk did not."""
    make_node("there")
    make_boot("there", 1)
    for boot in (4, 5):
        make_boot("there", boot, silent_s=MINUTE, generated=1234)
    make_boot("there", 6, generated=8)
    for boot, code in ((1, "boot_runs"), (6, "boot_spoken_of")):
        with pytest.raises(Conflict) as refused:
            give_up_boot(actor=olga, node="there", boot=boot)
        assert refused.value.code == code
    client.force_login(olga)
    page = client.get(reverse("proxy:books")).content.decode()
    assert page.count("1,234 calls of it have no row") == 2
    page = client.post(reverse("proxy:boot-give-up", args=["there", 5]), follow=True).content.decode()
    assert "1234 calls of there count as lost" in page
    assert (
        "Wait until it is closed"
        in client.post(reverse("proxy:boot-give-up", args=["there", 6]), follow=True).content.decode()
    )
    entry = AuditEntry.objects.get()
    assert entry.sentence == f"{olga} gave up the boot there/5, with which 1234 calls were lost"
    give_up_boot(actor=olga, node="there", boot=5)
    assert AuditEntry.objects.count() == 1
    states = {boot: (books.state, books.is_silent, books.lost) for boot, books in books_of("there").items()}
    assert states == {
        1: ("running", False, 0),
        4: ("open", True, 0),
        5: ("given_up", False, 1234),
        6: ("open", False, 0),
    }


def test_by_rest_a_boot_is_given_up(olga: User, alice: User) -> None:
    make_node("there")
    make_boot("there", 5, silent_s=MINUTE, generated=3)
    rest = APIClient()
    rest.force_authenticate(alice)
    assert rest.post("/api/v1/reconciliation/there/5/give-up").status_code == 404
    rest.force_authenticate(olga)
    body = rest.post("/api/v1/reconciliation/there/5/give-up").json()
    assert (body["state"], body["books"]["lost"], body["books"]["given_up"]) == ("given_up", 3, 3)
    refused = rest.post("/api/v1/reconciliation/there/1/give-up")
    assert refused.status_code == 404
    assert rest.post(f"/api/v1/reconciliation/there/{2**70}/give-up").status_code == 404


# --- Those that nobody removes --------------------------------------------------------------------------------------


def test_who_owes_nothing_goes_in_time(settings: Any) -> None:
    settings.GATEWAY_NODE_DAYS = 30
    store(call(), call(), node="even")
    make_node("even", silent_s=MONTH, generated=3, spooled=2, unrecorded=1)
    make_boot("even", 1, silent_s=MONTH, generated=3, unrecorded=1)
    make_node("young", silent_s=29 * 86_400)
    make_node("there")
    tasks.remove_gone_nodes()
    assert names() == ["there", "young"]
    assert (books_of("even")[1].state, books_of("even")[1].lost) == ("given_up", 0)
    assert AuditEntry.objects.get().actor is None
    tasks.remove_gone_nodes()
    assert AuditEntry.objects.count() == 1


def test_who_owes_calls_stays_until_somebody_decides() -> None:
    make_node("owes", silent_s=MONTH, generated=3, spooled=3)
    make_node("owed", silent_s=MONTH)
    make_boot("owed", 0, silent_s=MONTH, generated=1)  # of an earlier boot
    assert remove_gone_nodes() == 0
    assert names() == ["owed", "owes"]
    assert sum(books.lost for books in selectors.boots(None)) == 0
    assert sum(books.outstanding for books in selectors.boots(None)) == 4


def test_a_boot_of_which_nobody_speaks_any_more_is_closed_if_it_came_out_even() -> None:
    """Of a node that kept its name and lost its disk; a spool that is there is spoken of with each heartbeat."""
    store(call(), node="there")
    make_node("there")
    GatewayNode.objects.update(boot=9)
    make_boot("there", 9)
    make_boot("there", 1, silent_s=MONTH, generated=1)
    make_boot("there", 2, silent_s=MONTH, generated=1)
    make_boot("there", 3, silent_s=MINUTE)
    make_node("away", silent_s=MONTH)
    make_boot("away", 1, silent_s=MONTH)
    tasks.close_boots()
    states = {boot: books.state for boot, books in books_of("there").items()}
    assert states == {9: "running", 1: "given_up", 2: "open", 3: "open"}
    assert books_of("away")[1].state == "running", "with its node"
    assert close_boots() == 0


def test_beat_knows_every_schedule() -> None:
    assert schedules.SCHEDULE.items() <= beat_schedule().items()
    assert {entry["task"] for entry in schedules.SCHEDULE.values()} <= app.tasks.keys()
    for entry in schedules.SCHEDULE.values():
        every = 3_600.0 if isinstance(entry["schedule"], crontab) else entry["schedule"]
        assert entry["options"]["expires"] <= every


def test_a_row_that_a_gone_node_asked_for_is_compacted_with_it(olga: User) -> None:
    append_changes([PlanDocument(1, "a")])
    append_changes([PlanDocument(1, "b")])
    GatewayChange.objects.update(created_at=timezone.now() - timedelta(hours=2))
    make_node("gone", silent_s=MINUTE, applied=1)
    assert compact_changes() == 0
    remove_node(actor=olga, name="gone")
    assert compact_changes() == 1


# --- And come back --------------------------------------------------------------------------------------------------


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    given = {"APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": "p" * 32, "DATABASE_URL": database_url()}
    return Agent(from_environment({**given, "APIMGR_NODE_NAME": "edge"}))


@contextlib.asynccontextmanager
async def at_work(job: Callable[[AsyncConnection[Any]], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    async with await AsyncConnection.connect(database_url(), autocommit=True) as connected:
        task = asyncio.ensure_future(job(connected))
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def told(what: Callable[[], T]) -> T:
    """Ask the database from beside the loop."""

    def ask() -> T:
        try:
            return what()
        finally:
            connection.close()

    return await asyncio.to_thread(ask)


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not await told(what):
            await asyncio.sleep(0.01)


def remove_edge() -> None:
    GatewayNode.objects.update(heartbeat_at=timezone.now() - timedelta(minutes=1))
    remove_node(actor=None, name="edge")


@pytest.mark.django_db(transaction=True)
def test_a_node_that_comes_back_is_as_it_was(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was cut off for a while and never ended: that it was removed, its heartbeat alone hears."""
    with transaction.atomic():
        append_changes([PlanDocument(1, "Free")])
    odd = GatewayChange.objects.get().document.replace('"kind"', '"zones":[],"kind"')  # type: ignore[union-attr]
    GatewayChange.objects.update(document=odd)
    counts = {"generated": 4, "spooled": 3, "unrecorded": 0, "ungranted": 0}
    monkeypatch.setattr(agent, "workers", lambda: [Snapshot(0, counts, {})])

    async def scenario() -> None:
        async with at_work(agent.keep_replica):
            async with at_work(agent.beat):
                await until(GatewayNode.objects.exists)
                await until(RejectedDocument.objects.exists)
            await told(remove_edge)
            assert not await told(RejectedDocument.objects.exists)
            assert [books.state for books in await told(lambda: selectors.boots(None))] == ["given_up"]
            async with at_work(agent.beat):
                await until(GatewayNode.objects.exists)
                await until(RejectedDocument.objects.exists)

    run(scenario)
    (standing,) = selectors.nodes(None)
    assert (standing.node.name, standing.rejected, standing.lag, standing.outstanding) == ("edge", 1, 0, 4)
    (books,) = selectors.boots(None)
    assert (books.state, books.lost, books.waiting, books.in_flight) == ("running", 0, 3, 1)
    assert GatewayBoot.objects.get().closed_at is None


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_that_meets_the_removal_makes_the_node_known_anew(agent: Agent) -> None:
    """It waits for the row, finds it gone, and is told that nothing is known of the node."""
    make_node("edge", silent_s=MINUTE, generated=9)
    make_boot("edge", agent.config.boot, silent_s=MINUTE, generated=9)
    heard: list[bool] = []

    async def scenario() -> None:
        async with await AsyncConnection.connect(database_url(), autocommit=True) as connected:
            heard.append(await agent.heart.beat(connected, agent.counters(), timezone.now()))

    beating = threading.Thread(target=run, args=(scenario,))
    with transaction.atomic():
        remove_node(actor=None, name="edge")
        beating.start()
        while not somebody_waits():
            assert beating.is_alive()
    beating.join()
    assert heard == [False]
    assert names() == ["edge"]
    books = books_of("edge")
    assert (books[agent.config.boot].state, books[1].state) == ("running", "given_up")
    assert GatewayBoot.objects.get(boot=agent.config.boot).closed_at is None
    assert GatewayBoot.objects.get(boot=agent.config.boot).generated == 9, "no count goes down"


@pytest.mark.django_db(transaction=True)
def test_what_it_says_of_an_earlier_boot_opens_books_that_were_given_up(agent: Agent) -> None:
    make_node("edge", silent_s=MINUTE)
    make_boot("edge", 5, silent_s=MINUTE, generated=9)
    remove_node(actor=None, name="edge")

    async def tell(*, is_over: bool) -> None:
        async with await AsyncConnection.connect(database_url(), autocommit=True) as connected:
            await agent.heart.tell_of_boot(connected, 5, Counted(generated=9, spooled=9), 0, is_over=is_over)

    run(lambda: tell(is_over=False))
    assert (books_of("edge")[5].state, books_of("edge")[5].waiting) == ("open", 9)
    run(lambda: tell(is_over=True))
    assert (books_of("edge")[5].state, books_of("edge")[5].lost) == ("closed", 9), "by its own word"


# --- Pages and REST -------------------------------------------------------------------------------------------------


def test_operators_remove_a_node_on_its_page(client: Client, olga: User) -> None:
    make_node("even", silent_s=MINUTE)
    make_node("owes", silent_s=MINUTE, generated=1234, spooled=1234)
    make_node("there", generated=5)
    client.force_login(olga)
    page = client.get(reverse("proxy:nodes")).content.decode()
    assert "Remove even?" in page
    assert "Remove owes?" in page
    assert "1,234 calls that it made have no row" in page
    assert "Remove there?" not in page
    answer = client.post(reverse("proxy:node-remove", args=["even"]), follow=True)
    assert "even is removed. Each of its calls is stored." in answer.content.decode()
    page = client.post(reverse("proxy:node-remove", args=["owes"]), follow=True).content.decode()
    assert "owes is removed. 1234 calls of it count as lost." in page
    assert "1,234 calls were given up" in page
    assert "Nothing is lost" not in page
    page = client.post(reverse("proxy:node-remove", args=["there"]), follow=True).content.decode()
    assert "Gateway node there is running" in page
    assert names() == ["there"]


def test_a_loss_of_other_calls_is_not_covered(client: Client, olga: User) -> None:
    make_node("gone", silent_s=MINUTE, generated=3)
    remove_node(actor=olga, name="gone")
    make_node("there", generated=9, spooled=9, missing=2)
    client.force_login(olga)
    page = client.get(reverse("proxy:books")).content.decode()
    assert "5 calls have no row and wait nowhere" in page
    assert "3 of them were given up" in page


def test_by_rest(olga: User) -> None:
    make_node("gone", silent_s=MINUTE, generated=3)
    make_node("there")
    rest = APIClient()
    rest.force_authenticate(olga)
    assert [node["outstanding"] for node in rest.get("/api/v1/nodes").json()] == [3, 0]
    assert rest.post("/api/v1/nodes/gone/remove").json() == {"name": "gone", "given_up": 1, "lost": 3}
    assert rest.post("/api/v1/nodes/gone/remove").status_code == 404
    refused = rest.post("/api/v1/nodes/there/remove")
    assert (refused.status_code, refused.json()["code"]) == (409, "node_connected")
    body = rest.get("/api/v1/reconciliation").json()
    states = {boot["node"]: (boot["state"], boot["books"]["given_up"]) for boot in body["boots"]}
    assert states == {"gone": ("given_up", 3), "there": ("running", 0)}
    assert (body["totals"]["lost"], body["totals"]["given_up"]) == (3, 3)


@pytest.mark.parametrize("address", ["nodes", "overview", "books"])
def test_many_gone_nodes_ask_as_much_as_one(client: Client, olga: User, address: str) -> None:
    client.force_login(olga)

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            client.get(reverse(f"proxy:{address}"))
        return len(asked)

    make_node("node-0", silent_s=MINUTE, generated=3)
    make_boot("node-0", 0, silent_s=MINUTE, generated=3)
    queries()
    before = queries()
    for number in range(1, 20):
        make_node(f"node-{number}", silent_s=MINUTE, generated=3)
        make_boot(f"node-{number}", 0, silent_s=MINUTE, generated=3)
    assert queries() == before
