"""Limits that several hosts share: the arithmetic with the clock in our hands, then hosts around a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import psutil
import pytest

from apimgr.contracts.periods import period_bounds
from apimgr.contracts.snapshot import LimitDocument, PlanDocument, SubscriptionDocument
from proxy.dataplane.limits import ASKING, REFUSED, TAKEN
from proxy.dataplane.limits import grantor as grantor_module
from proxy.dataplane.limits.asking import Again, Asker, Mailbox, answer, question, read_answer, read_question
from proxy.dataplane.limits.grantor import BEHIND, HEARD, LOST, Grantor, Joined, Server, Word
from proxy.dataplane.limits.leased import begin_period
from proxy.dataplane.limits.meter import Meter, meter_of_caller
from proxy.dataplane.limits.table import (
    COUNT,
    FULL_AT,
    GRANTED_UNTIL,
    LEASE,
    LEASE_UNTIL,
    OTHERS,
    REFUSED_UNTIL,
    SEQUENCE,
    START,
    Table,
)
from tests.asynchronous import run
from tests.proxy.dataplane.support import PATIENCE, VERSION, stopwatch, until
from tests.redis_server import RedisServer

NOW = datetime(2026, 2, 28, 23, 59, 50, tzinfo=UTC).timestamp()
NS = 1_000_000_000
Rule = Literal["open", "closed"]


def limit(kind: str, amount: int, period: str) -> LimitDocument:
    return LimitDocument(1, kind, amount, period)  # type: ignore[arg-type]


RATE, QUOTA, AT_ONCE = limit("rate", 3, "minute"), limit("quota", 3, "day"), limit("concurrency", 3, "none")
KINDS = pytest.mark.parametrize("of", [RATE, QUOTA, AT_ONCE], ids=lambda of: of.kind)


@asynccontextmanager
async def joined(agent: Grantor, *names: str) -> AsyncIterator[list[Server]]:
    """The Redis of ``agent`` as nodes of these names, which share its limits, speak to it."""
    servers = [Server(agent._connect(), name) for name in names]
    try:
        for server in servers:
            await server.open()
            await server.join(0, [])
        yield servers
    finally:
        for server in servers:
            await server._redis.aclose()


def meter(table: Table, *limits: LimitDocument, rule: Rule = "closed", subscription: int = 5) -> Meter:
    plan = PlanDocument(1, "Plan", limits, without_grantor=rule)
    found = meter_of_caller(table, plan, SubscriptionDocument(subscription, 1, 1), VERSION)
    assert found is not None
    return found


# --- the arithmetic ---------------------------------------------------------------------------------------------------


@pytest.fixture
def table(tmp_path: Path) -> Table:
    shared = Table(tmp_path / "table", NOW, shared=True, may_be_alone=True)
    assert not shared.alone, "the agent spends, too"
    shared.cells[GRANTED_UNTIL] = int((NOW + 1) * NS)
    return shared


def grant(table: Table, of: Meter, amount: int) -> int:
    """As the agent does it. Gives the slot."""
    at = of.windows[0].at
    table.cells[at + LEASE] += amount
    table.cells[at + LEASE_UNTIL] = int((NOW + 2) * NS)
    start = getattr(of.windows[0], "start", 0)
    table.cells[at + START] = start
    return at


@KINDS
def test_what_was_granted_is_spent_and_then_asked_for(table: Table, of: LimitDocument) -> None:
    limited = meter(table, of)
    assert limited.take(NOW) == ASKING
    assert limited.lacking == (limited.windows[0].at,)
    at = grant(table, limited, 2)
    assert [limited.take(NOW) for _ in range(3)] == [TAKEN, TAKEN, ASKING]
    assert limited.is_granted
    table.cells[at + REFUSED_UNTIL] = int((NOW + 0.5) * NS)
    if of is RATE:
        table.cells[at + FULL_AT] = int((NOW + 55) * NS)
    assert limited.take(NOW) == REFUSED
    assert not limited.unavailable
    assert limited.retry_after == {"rate": 15, "quota": 10, "concurrency": 1}[of.kind]
    assert limited.take(NOW + 0.6) == ASKING


@KINDS
@pytest.mark.parametrize("waited", [True, False])
def test_without_the_grantor_a_closed_plan_refuses(table: Table, of: LimitDocument, waited: bool) -> None:
    limited = meter(table, of)
    if not waited:
        table.cells[GRANTED_UNTIL] = 0
    assert limited.take(NOW, waited=waited) == REFUSED
    assert limited.unavailable
    assert limited.denied_by is limited.windows[0]
    grant(table, limited, 1)
    assert [limited.take(NOW, waited=waited) for _ in range(2)] == [TAKEN, REFUSED], "a lease in hand is spent first"


@KINDS
def test_without_the_grantor_an_open_plan_passes_what_this_node_alone_would(table: Table, of: LimitDocument) -> None:
    limited = meter(table, of, rule="open")
    table.cells[GRANTED_UNTIL] = 0
    assert [limited.take(NOW) for _ in range(4)] == [TAKEN, TAKEN, TAKEN, REFUSED]
    assert not limited.is_granted
    assert not limited.unavailable


def test_an_open_quota_counts_what_the_others_were_known_to_hold(table: Table) -> None:
    limited = meter(table, QUOTA, rule="open")
    assert limited.take(NOW) == ASKING
    at = grant(table, limited, 0)
    table.cells[at + OTHERS] = 2
    table.cells[GRANTED_UNTIL] = 0
    assert [limited.take(NOW) for _ in range(2)] == [TAKEN, REFUSED]
    assert table.cells[at + COUNT] == 1, "a debt, to be told"


def test_a_lease_of_yesterday_is_void(table: Table) -> None:
    limited = meter(table, QUOTA)
    assert limited.take(NOW) == ASKING
    grant(table, limited, 3)
    assert limited.take(NOW) == TAKEN
    table.cells[GRANTED_UNTIL] = int((NOW + 11) * NS)
    assert limited.take(NOW + 10) == ASKING


@pytest.mark.parametrize("of", [RATE, AT_ONCE], ids=lambda of: of.kind)
def test_leases_that_lapse(table: Table, of: LimitDocument) -> None:
    limited = meter(table, of)
    assert limited.take(NOW) == ASKING
    grant(table, limited, 3)
    table.cells[GRANTED_UNTIL] = int((NOW + 5) * NS)
    assert limited.take(NOW + 3) == ASKING


@pytest.mark.parametrize("step", [-3600.0, 3600.0])
def test_a_clock_that_steps_makes_no_refusal_last(table: Table, step: float) -> None:
    limited = meter(table, RATE)
    assert limited.take(NOW) == ASKING
    table.cells[limited.windows[0].at + REFUSED_UNTIL] = int((NOW + 1) * NS)
    assert limited.take(NOW) == REFUSED
    table.cells[GRANTED_UNTIL] = int((NOW + step + 1) * NS)
    assert limited.take(NOW + step) == ASKING


def test_a_refusal_by_one_limit_asks_for_no_other(table: Table) -> None:
    limited = meter(table, RATE, LimitDocument(2, "quota", 3, "day"))
    assert limited.take(NOW) == ASKING
    assert len(limited.lacking) == 2
    table.cells[limited.windows[0].at + REFUSED_UNTIL] = int((NOW + 1) * NS)
    assert limited.take(NOW) == REFUSED
    assert limited.denied_by is limited.windows[0]


def test_a_call_that_does_not_count_goes_back_into_the_lease(table: Table) -> None:
    limited = meter(table, QUOTA)
    assert limited.take(NOW) == ASKING
    at = grant(table, limited, 1)
    assert limited.take(NOW) == TAKEN
    limited.ended(counts=False, began=NOW)
    assert (table.cells[at + COUNT], table.cells[at + LEASE]) == (0, 1)
    assert limited.take(NOW) == TAKEN


def test_fields_tell_of_all_hosts(table: Table) -> None:
    limited = meter(table, LimitDocument(2, "quota", 10, "day"))
    assert limited.take(NOW) == ASKING
    at = grant(table, limited, 2)
    table.cells[at + OTHERS] = 6
    assert limited.take(NOW) == TAKEN
    assert b'RateLimit: "quota-day";r=3;t=10\r\n' in limited.fields(NOW)


def test_a_quota_that_was_made_smaller_is_not_spent_of_what_was_granted_before(table: Table) -> None:
    larger = meter(table, limit("quota", 100, "day"))
    assert larger.take(NOW) == ASKING
    at = grant(table, larger, 50)
    assert [larger.take(NOW) for _ in range(3)] == [TAKEN] * 3
    table.cells[at + OTHERS] = 2
    smaller = meter(table, limit("quota", 6, "day"))
    assert [smaller.take(NOW) for _ in range(2)] == [TAKEN, ASKING]


def test_nobody_is_refused_for_a_month_for_what_was_spent_in_the_last_one(table: Table) -> None:
    limited = meter(table, QUOTA)
    assert limited.take(NOW) == ASKING
    at = grant(table, limited, 0)
    table.cells[at + REFUSED_UNTIL] = int((NOW + 10.2) * NS)
    begin_period(table.cells, at, int(NOW + 10), int(NOW + 10) + 86400, NOW + 10)
    table.cells[GRANTED_UNTIL] = int((NOW + 11) * NS)
    assert limited.take(NOW + 10) == ASKING


def test_a_rate_that_lapsed_is_not_granted_again_by_the_next_grant(table: Table, tmp_path: Path) -> None:
    limited = meter(table, RATE)
    now = time.time()
    table.cells[GRANTED_UNTIL] = int((now + 1) * NS)
    assert limited.take(now) == ASKING
    at = limited.windows[0].at
    table.cells[at + LEASE], table.cells[at + LEASE_UNTIL] = 2, int((now - 1) * NS)
    assert limited.take(now) == ASKING
    agent = Grantor("unix:///nowhere", tmp_path / "table", "host")
    agent._table = table
    word = agent._next_word(at, time.monotonic())
    assert word is not None
    assert (word.wanted, table.cells[at + LEASE]) == (2, 0)


@pytest.mark.parametrize("whose", ["this node's", "the server's"])
@pytest.mark.parametrize("days", [-40, 40])
def test_after_a_loss_a_quota_is_told_of_the_period_it_was_spent_in(
    table: Table, tmp_path: Path, whose: str, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever clock is wrong in that moment."""
    limited = meter(table, limit("quota", 3, "month"))
    assert limited.take(NOW) == ASKING
    grant(table, limited, 2)
    assert limited.take(NOW) == TAKEN
    wrong = NOW + days * 86_400
    monkeypatch.setattr("time.time", lambda: wrong if whose == "this node's" else NOW)
    agent = Grantor("unix:///nowhere", tmp_path / "table", "host")
    agent._table = table
    (slot,) = table.slots()
    word = agent._word_after_loss(slot, int(wrong if whose == "the server's" else NOW))
    assert word is not None
    assert (word.start, word.held) == (period_bounds("month", NOW)[0], 2)


def test_sockets_of_the_dead_are_swept(tmp_path: Path) -> None:
    dead, alive = Mailbox(tmp_path, "11"), Mailbox(tmp_path, "12")
    dead.socket.close()
    another = Mailbox(tmp_path, "13")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["12", "13"]
    alive.close()
    another.close()
    assert not list(tmp_path.iterdir())


def test_datagrams_read_back() -> None:
    assert read_question(question(7, [1, 2**40])) == (7, [1, 2**40])
    assert read_answer(answer([3, 4])) == [3, 4]
    assert read_question(b"abc") == (0, [])


def test_a_worker_that_stands_still_does_not_keep_the_agent_busy(tmp_path: Path) -> None:
    worker, agent = Mailbox(tmp_path, "7"), Grantor("unix:///nowhere", tmp_path / "table", "host")
    agent._mailbox = Mailbox(tmp_path, "grantor")
    with contextlib.suppress(BlockingIOError):
        while True:
            agent._mailbox.send("7", b"")
    agent._unsent = {7: [1, 2]}
    rests = []
    for _ in range(100):
        agent._send()
        rests.append(agent._rest_seconds)
    assert rests[:6] == [0.002, 0.004, 0.008, 0.016, 0.032, 0.05]
    assert set(rests[6:]) == {grantor_module.TICK_SECONDS}, "as often as it wakes anyway"
    list(worker.receive())
    agent._send()
    assert [slot for data in worker.receive() for slot in read_answer(data)] == [1, 2]
    assert agent._rest_seconds == grantor_module.TICK_SECONDS
    worker.close()
    agent._mailbox.close()


@pytest.mark.parametrize("step", ["Table", "Mailbox"])
def test_an_agent_that_could_not_begin_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """It holds nothing that it would have to wait for itself."""
    tries = [OSError(errno.EMFILE, "Too many open files")] * 2
    make = getattr(grantor_module, step)

    def fail_first(*args: Any, **named: Any) -> Any:
        if tries:
            raise tries.pop()
        return make(*args, **named)

    monkeypatch.setattr(grantor_module, step, fail_first)
    monkeypatch.setattr(grantor_module, "LONGEST_PAUSE_SECONDS", 0.01)

    async def main() -> None:
        agent = Grantor("unix:///nowhere", tmp_path / "table", "host")
        serving = asyncio.ensure_future(agent.run())
        await until(lambda: (tmp_path / "grantor").exists())
        serving.cancel()
        await asyncio.wait([serving], timeout=30)
        with (tmp_path / "grantor.lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert Table(tmp_path / "table", time.time(), may_be_alone=True, waits=False).alone

    run(main)


def test_a_mailbox_that_cannot_be_had_leaves_nothing_open(tmp_path: Path) -> None:
    held = psutil.Process().num_fds()
    with pytest.raises(OSError, match="too long"):
        Mailbox(tmp_path, "n" * 101)
    assert psutil.Process().num_fds() == held


class Swallowing:
    """A server whose client keeps a cancellation to itself, as ``asyncio.wait_for`` of Python 3.11 may do."""

    asked = 0

    async def join(self, told: int, peers: list[str]) -> Joined:
        self.asked += 1
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)
        return Joined("", is_open=False, alive=[], now=0)


def test_an_agent_that_is_told_to_end_ends(table: Table, tmp_path: Path) -> None:
    async def main() -> None:
        agent, server = Grantor("unix:///nowhere", tmp_path / "table", "host"), Swallowing()
        agent._table = table
        serving = asyncio.ensure_future(agent._serve(cast("Any", server)))
        await until(lambda: server.asked > 0)
        serving.cancel()
        await asyncio.wait([serving], timeout=30)
        assert serving.cancelled()

    run(main)


# --- hosts around Redis -----------------------------------------------------------------------------------------------


class Call:
    """What an exchange is to the asker."""

    def __init__(self, host: Host, of: Meter, *, has_time: bool) -> None:
        self.host, self.of = host, of
        self.grant_due_at = time.monotonic() + PATIENCE if has_time else 0.0
        self.passed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.go_on(waited=False)

    def go_on(self, *, waited: bool) -> None:
        taken = self.of.take(time.time(), waited=waited)
        if taken == ASKING and self.of.lacking:
            self.host.asker.ask(self.of.lacking, self)
        elif taken == ASKING:
            self.host.again.wait(self)
        else:
            self.passed.set_result(taken == TAKEN)


class Host:
    """A node's table, its worker's side and its agent's side, in this event loop."""

    def __init__(self, folder: Path, url: str, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.url, self.name = folder, url, name
        self.table = Table(folder / "table", time.time(), shared=True)
        self.grantor = Grantor(url, folder / "table", name)
        self.again = Again()
        self.asker = Asker(folder)
        self.asker.start()
        self.serving = asyncio.ensure_future(self.grantor.run())

    async def call(self, of: Meter, *, has_time: bool = True) -> bool:
        """Who has no time waits for a grant as long as calls do, and is refused for want of one also by a test that
        stood still meanwhile: it is for when there is nobody to grant."""
        call = Call(self, of, has_time=has_time)
        while not call.passed.done():
            await asyncio.wait([call.passed], timeout=0.05)
            self.asker.tick()
        return call.passed.result()

    async def ready(self) -> None:
        await until(lambda: self.grantor.is_open)

    async def close(self) -> None:
        self.serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.serving
        self.asker.close()
        self.table.close()


@asynccontextmanager
async def hosts(folder: Path, server: RedisServer, count: int = 3) -> AsyncIterator[list[Host]]:
    async with AsyncExitStack() as stack:
        made = [Host(folder / f"host{number}", server.url, f"host{number}") for number in range(count)]
        for host in made:
            stack.push_async_callback(host.close)
        for host in made:
            await host.ready()
        yield made


async def storm(
    made: list[Host],
    *of: LimitDocument,
    calls: int,
    rule: Rule = "closed",
    callers: int = 4,
    has_time: bool = True,
) -> int:
    """How many of ``calls`` per caller pass; ``callers`` at each host, one call after the other."""
    passed = 0

    async def caller(host: Host) -> None:
        nonlocal passed
        limited = meter(host.table, *of, rule=rule)
        for _ in range(calls):
            if await host.call(limited, has_time=has_time):
                passed += 1
            await asyncio.sleep(0)

    await asyncio.gather(*(caller(host) for host in made for _ in range(callers)))
    return passed


def together(folder: Path, server: RedisServer, work: Callable[[list[Host]], Any], count: int = 3) -> Any:
    async def main() -> Any:
        async with hosts(folder, server, count) as made:
            return await work(made)

    return run(main)


@pytest.mark.processes
def test_a_quota_of_three_hosts_is_spent_to_the_call(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of = limit("quota", 500, "month")
        passed = await storm(made, of, calls=400)
        give_up_at = time.monotonic() + 20
        while passed < 500 and time.monotonic() < give_up_at:  # what one host has left over, it gives back
            await asyncio.sleep(0.3)
            passed += await storm(made, of, calls=5)
        assert passed == 500
        assert await storm(made, of, calls=20) == 0

    together(tmp_path, redis_server, work)


@pytest.mark.processes
def test_a_rate_of_three_hosts_admits_bucket_and_flow(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of, began = limit("rate", 100, "second"), time.monotonic()
        passed = 0
        async with stopwatch() as seconds:
            while seconds() < 3:
                passed += await storm(made, of, calls=50)
            took = seconds()
        assert passed <= 100 + (time.monotonic() - began) * 100 + 1
        assert passed >= 0.8 * (100 + took * 100), "and not much less"

    together(tmp_path, redis_server, work)


@pytest.mark.processes
def test_several_limits_of_three_hosts_hold_together(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of = limit("rate", 1000, "second"), LimitDocument(2, "rate", 50, "day"), LimitDocument(3, "quota", 60, "month")
        passed, give_up_at = 0, time.monotonic() + 20
        while passed < 50 and time.monotonic() < give_up_at:
            passed += await storm(made, *of, calls=20)
            await asyncio.sleep(0.1)
        assert passed == 50
        assert await storm(made, *of, calls=20) == 0

    together(tmp_path, redis_server, work)


@pytest.mark.processes
def test_calls_under_way_of_three_hosts(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of, under_way, most, passed = limit("concurrency", 4, "none"), 0, 0, 0

        async def caller(host: Host) -> None:
            nonlocal under_way, most, passed
            limited = meter(host.table, of)
            for _ in range(60):
                if await host.call(limited):
                    under_way, passed = under_way + 1, passed + 1
                    most = max(most, under_way)
                    await asyncio.sleep(0.003)
                    under_way -= 1
                    limited.ended(counts=True, began=NOW)
                else:
                    await asyncio.sleep(0.003)

        await asyncio.gather(*(caller(host) for host in made for _ in range(4)))
        assert most <= 4
        assert passed > 60
        # What nobody uses any more makes room on the other hosts, and on those alone.
        for turn in (0, 1):
            holds, waits = meter(made[turn].table, of), meter(made[1 - turn].table, of)
            held, give_up_at = 0, time.monotonic() + 20
            while held < 4 and time.monotonic() < give_up_at:
                if await made[turn].call(holds):
                    held += 1
                await asyncio.sleep(0.05)
            assert held == 4
            assert not await made[1 - turn].call(waits)
            for _ in range(4):
                holds.ended(counts=True, began=NOW)

    together(tmp_path, redis_server, work)


@pytest.mark.processes
@pytest.mark.parametrize("loss", ["emptied", "killed", "killed, durable", "frozen"])
def test_a_quota_is_not_exceeded_when_the_server_loses_its_memory(tmp_path: Path, loss: str) -> None:
    server = RedisServer(tmp_path / "redis", durable="durable" in loss)

    async def work(made: list[Host]) -> None:
        of = limit("quota", 300, "month")
        passed = await storm(made, of, calls=20)
        assert 0 < passed < 300
        if loss == "emptied":
            server.empty()
        elif loss == "frozen":
            server.freeze()
        else:
            server.kill()
        passed += await storm(made, of, calls=30, has_time=False)
        if loss == "frozen":
            server.thaw()
        elif loss != "emptied":
            await asyncio.to_thread(server.start)
        give_up_at = time.monotonic() + 40
        while passed < 300 and time.monotonic() < give_up_at:
            passed += await storm(made, of, calls=20, has_time=False)
            await asyncio.sleep(0.1)
        assert passed == 300
        assert await storm(made, of, calls=50) == 0

    try:
        together(tmp_path, server, work)
    finally:
        server.close()


@pytest.mark.processes
def test_a_rate_is_not_forgotten_with_the_memory(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of = limit("rate", 60, "day")
        passed, give_up_at = await storm(made, of, calls=40), time.monotonic() + 20
        while passed < 60 and time.monotonic() < give_up_at:  # what one host has left over, it gives back
            await asyncio.sleep(0.1)
            passed += await storm(made, of, calls=5)
        assert passed == 60
        redis_server.empty()
        await until(lambda: not made[0].grantor.is_open or not made[1].grantor.is_open)
        for host in made:
            await host.ready()
        assert await storm(made, of, calls=40) <= 1

    together(tmp_path, redis_server, work)


@pytest.mark.processes
def test_an_open_quota_pays_its_debts(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of = limit("quota", 30, "month")
        assert await storm(made, of, calls=1, rule="open", callers=1) == 3
        redis_server.kill()
        alone = await storm(made, of, calls=40, rule="open", callers=1, has_time=False)
        assert 27 <= alone <= 3 * 29, "each host for itself, less what it knew of the others"
        await asyncio.to_thread(redis_server.start)
        for host in made:
            await host.ready()
        assert await storm(made, of, calls=40, rule="open") == 0

    together(tmp_path, redis_server, work)


@pytest.mark.processes
def test_a_host_that_comes_back_goes_on_where_it_was(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of = limit("quota", 40, "month")
        passed = await storm(made[:1], of, calls=10, callers=1)
        await made[0].close()
        again = Host(made[0].folder, redis_server.url, made[0].name)
        await again.ready()
        made[0] = again
        give_up_at = time.monotonic() + 20
        while passed < 40 and time.monotonic() < give_up_at:
            passed += await storm(made, of, calls=10, callers=1)
            await asyncio.sleep(0.1)
        assert passed == 40
        assert await storm(made, of, calls=10) == 0

    async def main() -> None:
        async with AsyncExitStack() as stack:
            made = [Host(tmp_path / f"host{n}", redis_server.url, f"host{n}") for n in range(2)]
            for host in made:
                await host.ready()
            stack.push_async_callback(made[1].close)
            await work(made)
            await made[0].close()

    run(main)


@pytest.mark.processes
def test_grants_wait_for_a_host_that_others_remember(tmp_path: Path, redis_server: RedisServer) -> None:
    """The memory is lost while a host that has spent all of the quota cannot be heard: nobody may spend it again."""

    async def main() -> None:
        of = limit("quota", 10, "month")
        made = [Host(tmp_path / f"host{n}", redis_server.url, f"host{n}") for n in range(2)]
        for host in made:
            await host.ready()
        await until(lambda: bool(made[1].grantor._peers))
        assert await storm(made[:1], of, calls=20) == 10
        await made[0].close()
        redis_server.empty()
        await until(lambda: not made[1].grantor.is_open)
        await asyncio.sleep(2)
        assert not made[1].grantor.is_open, "the other one is awaited"
        assert await storm(made[1:], of, calls=3) == 0
        back = Host(made[0].folder, redis_server.url, made[0].name)
        await back.ready()
        await made[1].ready()
        assert await storm([made[1]], of, calls=20) == 0, "what it holds was told"
        await back.close()
        await made[1].close()

    run(main)


@pytest.mark.processes
def test_one_agent_at_a_time(tmp_path: Path, redis_server: RedisServer) -> None:
    async def main() -> None:
        first = Host(tmp_path / "host", redis_server.url, "host")
        await first.ready()
        second = asyncio.ensure_future(Grantor(redis_server.url, tmp_path / "host" / "table", "host").run())
        await asyncio.sleep(5 * grantor_module.TICK_SECONDS)
        assert await first.call(meter(first.table, QUOTA))
        second.cancel()
        await first.close()

    run(main)


@pytest.mark.processes
@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_a_server_that_forgets_is_complained_of(
    tmp_path: Path, redis_server: RedisServer, policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.client.config_set("maxmemory", "100mb")
    redis_server.client.config_set("maxmemory-policy", policy)

    async def work(made: list[Host]) -> None:
        assert await made[0].call(meter(made[0].table, QUOTA))

    together(tmp_path, redis_server, work, count=1)
    assert ("set noeviction" in caplog.text) == (policy != "noeviction")


@pytest.mark.processes
def test_a_server_that_is_emptied_while_it_is_told(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(made: list[Host]) -> None:
        of = limit("quota", 10, "month")
        assert await storm(made, of, calls=10, callers=1) == 10
        tell, left = Grantor._word_after_loss, 4

        def empty_and_tell(self: Grantor, slot: Any, now: int) -> Any:
            nonlocal left
            if left:
                left -= 1
                redis_server.empty()
            return tell(self, slot, now)

        monkeypatch.setattr(Grantor, "_word_after_loss", empty_and_tell)
        redis_server.empty()
        await until(lambda: not left)
        for host in made:
            await host.ready()
        assert await storm(made, of, calls=10) == 0

    together(tmp_path, redis_server, work, 2)


@pytest.mark.processes
def test_what_a_slow_host_has_too_much_of_it_gives_back(tmp_path: Path, redis_server: RedisServer) -> None:
    async def work(made: list[Host]) -> None:
        of = limit("quota", 400, "month")
        slow = 0
        passed = await storm(made[:1], of, calls=20)

        async def trickle() -> None:
            nonlocal slow
            while True:
                slow += await made[0].call(meter(made[0].table, of))
                await asyncio.sleep(0.4)

        trickling = asyncio.ensure_future(trickle())
        while passed + slow < 400 and slow < 25:
            passed += await storm(made[1:], of, calls=20)
            await asyncio.sleep(0.05)
        trickling.cancel()
        assert passed + slow == 400

    together(tmp_path, redis_server, work, 2)


@pytest.mark.processes
def test_calls_under_way_outlast_a_server_that_was_frozen(
    tmp_path: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could be heard while it was: that is no reason to take the others for gone."""
    script = grantor_module._script
    monkeypatch.setattr(grantor_module, "_script", lambda name: script(name).replace("= 10000000", "= 3000000"))

    async def work(made: list[Host]) -> None:
        of = limit("concurrency", 4, "none")
        holding = [meter(host.table, of) for host in made]
        held = [0, 0]
        while sum(held) < 4:
            for number in (0, 1):
                if held[number] < 2 and await made[number].call(holding[number]):
                    held[number] += 1
        redis_server.freeze()
        await asyncio.sleep(4)
        redis_server.thaw()
        await made[0].ready()
        give_up_at = time.monotonic() + 2
        while time.monotonic() < give_up_at:
            assert not await made[0].call(holding[0])
            await asyncio.sleep(0.01)

    together(tmp_path, redis_server, work, 2)


@pytest.mark.processes
def test_a_host_whose_clock_was_ahead_is_heard_again(tmp_path: Path, redis_server: RedisServer) -> None:
    """Its words are in order whatever the clock says, also those of the next agent."""

    async def main() -> None:
        of = limit("quota", 40, "month")
        host = Host(tmp_path / "host", redis_server.url, "host")
        await host.ready()
        host.table.cells[SEQUENCE] += 3600 * 1_000_000
        assert await host.call(meter(host.table, of))
        await host.close()
        again = Host(tmp_path / "host", redis_server.url, "host")
        await again.ready()
        passed = await storm([again], of, calls=10)
        await again.close()
        assert passed == 39

    run(main)


@pytest.mark.processes
def test_a_clock_that_is_a_month_ahead_ends_no_period_of_the_others(tmp_path: Path, redis_server: RedisServer) -> None:
    async def main() -> None:
        of = limit("quota", 40, "month")
        host = Host(tmp_path / "host", redis_server.url, "host")
        await host.ready()
        assert await host.call(meter(host.table, of))
        async with joined(host.grantor, "elsewhere") as (server,):
            start, end = period_bounds("month", time.time() + 40 * 86400, 0)
            slot = next(iter(host.table.slots()))
            answers = await server.say(1, [Word(slot, 0, 1, (start, end), start)], 2)
            assert answers == [[BEHIND, 0, 0]]
            assert await storm([host], of, calls=10) == 39
        await host.close()

    run(main)


@pytest.mark.processes
def test_many_words_are_one_call_and_each_has_its_own_answer(tmp_path: Path, redis_server: RedisServer) -> None:
    async def main() -> None:
        table = Table(tmp_path / "table", time.time(), shared=True)
        agent = Grantor(redis_server.url, tmp_path / "table", "host")
        async with joined(agent, "host") as (server,):
            while not (await server.join(grantor_module._number(server._incarnation), [])).is_open:
                await asyncio.sleep(0.1)

            def word(owner: int, of: LimitDocument, held: int, wanted: int, *more: int) -> Word:
                slot = table.describe(table.slot(owner, of, 0, time.time()))
                assert slot is not None
                return Word(slot, held, wanted, more)

            month = period_bounds("month", time.time())
            calls = redis_server.client.info("commandstats").get("cmdstat_evalsha", {}).get("calls", 0)
            many = limit("quota", 10**15, "month")
            words = [
                word(1, many, 10**12 + 1, 10**14, *month),
                word(2, limit("quota", 3, "month"), 3, 1, *month),
                word(3, limit("quota", 3, "month"), 0, 1, month[1] + 86_400, month[1] + 2 * 86_400),
                word(4, limit("rate", 4, "minute"), 0, 3, 60_000_000, 0, 0),
                word(5, AT_ONCE, 1, 1),
            ]
            told = await server.say(1, words, 1)
            assert told == [
                [HEARD, 10**14, 0],
                [HEARD, 0, 0],
                [BEHIND, 0, 0],
                [HEARD, 2, 2, 30_000_000, 0],
                [HEARD, 1, 0],
            ]
            assert await server.say(1, words, 1) == [[BEHIND, 0, 0]] * 5, "nothing is heard twice"
            async with joined(agent, "other") as (other,):
                assert (await other.say(1, words, 1))[0] == [HEARD, 10**14, 10**14 + 10**12 + 1], "to the call"
            server._incarnation = "another"
            assert await server.say(2, words, 1) == [[LOST, 0, 0]] * 5
            assert redis_server.client.info("commandstats")["cmdstat_evalsha"]["calls"] - calls == 5, "with one join"
        table.close()

    run(main)


@pytest.mark.processes
@pytest.mark.parametrize("of", [limit("rate", 40, "minute"), limit("quota", 40, "month"), AT_ONCE])
@pytest.mark.parametrize(
    ("spoiled", "goes"),
    [
        ("", True),
        ("it is remembered", False),
        ("nobody was heard", False),  # so an earlier word may still wait in a socket
        ("it was just swept", False),
    ],
)
def test_of_a_host_that_is_gone_nothing_stays_but_what_it_holds_of_quotas(
    tmp_path: Path, redis_server: RedisServer, of: LimitDocument, spoiled: str, goes: bool
) -> None:
    """Days cannot be awaited, so the server is told that they passed."""

    async def main() -> None:
        table = Table(tmp_path / "table", time.time(), shared=True)
        slot = table.describe(table.slot(1, of, 0, time.time()))
        assert slot is not None
        start, end = period_bounds("month", time.time())
        more = {"quota": (start, end), "rate": (60_000_000, 0, 0), "concurrency": ()}[of.kind]
        agent = Grantor(redis_server.url, tmp_path / "table", "host")
        async with joined(agent, "gone", "there") as (gone, there):
            await gone.say(1, [Word(slot, 3, 0, more)], 2)
            await there.say(1, [Word(slot, 3, 0, more)], 2)

            redis, state, nodes = redis_server.client, "apimgr:{limits}", "apimgr:{limits}:nodes"
            (key,) = (key.decode() for key in redis.keys(f"*:{of.kind}:*"))
            now = int(time.time() * 1e6)
            if spoiled != "it is remembered":
                redis.hdel(nodes, "gone")
            if spoiled != "nobody was heard":
                redis.hset(state, "heard_since", now - 25 * 3600 * 1_000_000)
            if spoiled != "it was just swept" and of.kind != "quota":
                assert redis.hexists(key, "swept_at")
                redis.hset(key, "swept_at", now - 2 * 3600 * 1_000_000)
            await there.say(2, [Word(slot, 3, 0, more)], 2)

            fields = {field.decode() for field in redis.hkeys(key)}
            is_kept = of.kind == "quota" or not goes
            assert ("said:gone" in fields) == is_kept
            assert "said:there" in fields
            assert ("held:gone" in fields) == (of.kind != "rate"), "of calls under way another ten seconds"
            assert ((await gone.say(1, [Word(slot, 3, 0, more)], 2))[0][0] == BEHIND) == is_kept
            assert (await gone.say(2, [Word(slot, 3, 0, more)], 2))[0][0] != BEHIND, "it may come back"
        table.close()

    run(main)


@pytest.mark.processes
def test_no_call_looks_through_all_that_hosts_left(tmp_path: Path, redis_server: RedisServer) -> None:
    """The server does nothing else meanwhile, and who is not answered within a second does without it."""

    async def main() -> None:
        table = Table(tmp_path / "table", time.time(), shared=True)
        agent = Grantor(redis_server.url, tmp_path / "table", "host")
        async with joined(agent, "host") as (server,):
            of, words = limit("rate", 40, "minute"), []
            for owner in range(1, 41):
                slot = table.describe(table.slot(owner, of, 0, time.time()))
                assert slot is not None
                words.append(Word(slot, 0, 0, (60_000_000, 0, 0)))
            redis, now = redis_server.client, int(time.time() * 1e6)
            redis.hset("apimgr:{limits}", "heard_since", now - 25 * 3600 * 1_000_000)
            keys = [f"apimgr:{{limits}}:rate:{owner}:{of.id}" for owner in range(1, 41)]
            for key in keys:
                gone = {f"said:gone-{number}": 1 for number in range(200)}
                redis.hset(key, mapping={**gone, "swept_at": now - 2 * 3600 * 1_000_000})
            left = []
            for sequence in range(1, 7):
                await server.join(0, [])
                await server.say(sequence, words, 1)
                left.append(sum(redis.hexists(key, "said:gone-0") for key in keys))
            assert left == [30, 20, 10, 0, 0, 0]
        table.close()

    run(main)
