"""A process is stopped while it holds a lock of the limits' table: nobody else stands still for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from apimgr.contracts.snapshot import LimitDocument
from proxy.dataplane.limits import ASKING, REFUSED, TAKEN
from proxy.dataplane.limits.asking import Again
from proxy.dataplane.limits.meter import Meter
from proxy.dataplane.limits.table import CELLS, COUNT, GRANTED_UNTIL, LEASE, Stuck, Table
from tests.asynchronous import run
from tests.proxy.dataplane.support import PATIENCE, PLAN, SUBSCRIPTION, Running, World, request, running, until
from tests.proxy.dataplane.test_leases import AT_ONCE, QUOTA, RATE, Host, hosts, limit, meter, storm
from tests.proxy.holder import Holder, holding
from tests.redis_server import RedisServer

pytestmark = pytest.mark.processes

ELSEWHERE = 6  # an owner of whom nobody holds anything


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path / "table", time.time())


def answers(of: Meter, *, but: int = -1) -> int:
    """The first answer that is not ``but``."""
    give_up_at = time.monotonic() + 30
    while (answer := of.take(time.time())) == but:
        assert time.monotonic() < give_up_at
        time.sleep(0.005)
    return answer


@pytest.mark.parametrize("of", [RATE, QUOTA, AT_ONCE], ids=lambda of: of.kind)
@pytest.mark.parametrize("rule", ["open", "closed"])
def test_calls_wait_a_moment_and_are_refused(
    table: Table, of: LimitDocument, rule: str, caplog: pytest.LogCaptureFixture
) -> None:
    limited = meter(table, of, rule=rule)  # type: ignore[arg-type]
    assert answers(limited) == TAKEN
    spent = table.cells[limited.windows[0].at + COUNT]
    with holding(table.path, 5) as holder:
        assert limited.take(time.time()) == ASKING
        assert (limited.lacking, limited.is_stuck) == ((), True)
        assert answers(limited, but=ASKING) == REFUSED
        assert (limited.is_stuck, limited.retry_after, limited.fields(time.time())) == (True, 1, b"")
        assert caplog.text.count(f"Process {holder.pid} stands still") == 1
        assert answers(meter(table, of, subscription=ELSEWHERE)) == TAKEN, "others notice nothing"
        assert table.cells[limited.windows[0].at + COUNT] == spent
        holder.go_on()
        assert answers(limited) == TAKEN
        assert not limited.is_stuck
        assert limited.fields(time.time())


def test_who_is_killed_lets_go(table: Table) -> None:
    limited = meter(table, QUOTA)
    with holding(table.path, 5):
        assert limited.take(time.time()) == ASKING
    assert [answers(limited) for _ in range(4)] == [TAKEN] * 3 + [REFUSED]


def test_after_a_while_without_an_attempt_a_lock_is_waited_for_anew(table: Table) -> None:
    limited = meter(table, QUOTA)
    with holding(table.path, 5):
        assert answers(limited, but=ASKING) == REFUSED
        time.sleep(1.1)
        assert limited.take(time.time()) == ASKING


def test_of_two_owners_none_is_kept(table: Table) -> None:
    """Who gets the one and not the other must not stand in others' way."""
    with holding(table.path, ELSEWHERE):
        with pytest.raises(Stuck), table.locked(5, ELSEWHERE):
            pass
        with holding(table.path, 5):  # another process had it
            pass


def test_calls_that_end_give_back_what_they_held(table: Table) -> None:
    day = replace(QUOTA, id=2)
    limited = meter(table, AT_ONCE, day)
    now = time.time()
    assert limited.take(now) == TAKEN
    at_once, quota = (window.at for window in limited.windows)
    with holding(table.path, 5) as holder:
        limited.ended(counts=False, began=now)
        assert not any(table.cells[at_once + CELLS : at_once + CELLS + 16]), "each process counts its own"
        table.tick()
        assert table.cells[quota + COUNT] == 1
        holder.go_on()
        table.tick()
        table.tick()
        assert table.cells[quota + COUNT] == 0


def test_who_holds_the_index_is_in_the_way_of_newcomers_alone(table: Table) -> None:
    known, unknown = meter(table, QUOTA), meter(table, QUOTA, subscription=ELSEWHERE)
    assert answers(known) == TAKEN
    with holding(table.path) as holder:
        assert known.take(time.time()) == TAKEN
        assert len(list(table.slots())) == 1
        assert answers(unknown, but=ASKING) == REFUSED
        assert unknown.fields(time.time()) == b""
        holder.go_on()
        assert answers(unknown) == TAKEN


# --- through a worker -------------------------------------------------------------------------------------------------


def play(folder: Path, scenario: Callable[[Running], object]) -> None:
    async def whole() -> None:
        world = World()
        world.plan = replace(PLAN, limits=(LimitDocument(1, "quota", 3, "month"),), without_grantor="open")
        async with running(folder, world) as gateway:
            await asyncio.wait_for(scenario(gateway), 60)  # type: ignore[arg-type]

    run(whole, uvloop.new_event_loop)


async def stand(table: Table, *owners: int) -> Holder:
    return await asyncio.to_thread(Holder, table.path, *owners)


def wait_long(table: Table) -> None:
    """Have those who wait for a lock that is held do so for as long as it is."""
    for place, (_, seen) in table._stuck.items():
        table._stuck[place] = time.monotonic() + PATIENCE, seen


def test_a_worker_serves_others_meanwhile(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        assert (await gateway.get()).status == 200
        holder = await stand(gateway.worker.runtime.limits, SUBSCRIPTION.spender)
        try:
            waits = asyncio.ensure_future(gateway.get())
            await until(lambda: gateway.worker.again._waiting)
            wait_long(gateway.worker.runtime.limits)
            assert (await gateway.get("/orders/items/2", key="")).status == 401
            assert not waits.done(), "it waits, and nobody waits for it"
            gateway.worker.runtime.limits._stuck.clear()  # as if it were stuck from now on
            reply = await waits
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert "ratelimit" not in reply.headers
            assert b"limits_unavailable" in reply.body
            assert b'"step":"limit"' not in gateway.recorder.records[-1].trail
            waits = asyncio.ensure_future(gateway.get())
            await asyncio.to_thread(holder.go_on)
            await waits
            statuses = [(await gateway.get()).status for _ in range(3)]
            assert statuses.count(200) + ((await waits).status == 200) == 2, "no call counts that did not pass"
        finally:
            holder.end()

    play(tmp_path, scenario)


def test_a_call_that_waits_goes_on_with_the_holder(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        assert (await gateway.get()).status == 200
        holder = await stand(gateway.worker.runtime.limits, SUBSCRIPTION.spender)
        try:
            _, gone = await gateway.connect()
            gone.write(request("POST", "/orders/items", f"X-Api-Key: {gateway.world.key}", body=b"hello")[:-1])
            calls = [asyncio.ensure_future(gateway.get()) for _ in range(3)]
            await until(lambda: len(gateway.worker.again._waiting) == 4)
            wait_long(gateway.worker.runtime.limits)
            gone.transport.abort()
            await until(lambda: len(gateway.worker.again._waiting) == 3)
            await asyncio.to_thread(holder.go_on)
            assert sorted([(await call).status for call in calls]) == [200, 200, 429]
        finally:
            holder.end()

    play(tmp_path, scenario)


def test_a_call_that_fails_takes_no_other_along() -> None:
    class Call:
        grant_due_at = 0.0
        went_on = 0

        def go_on(self, *, waited: bool) -> None:
            self.went_on += 1
            if self is broken:
                raise RuntimeError
            if self.went_on < 3:
                again.wait(self)

    broken, sound, again = Call(), Call(), Again()

    async def main() -> None:
        again.wait(broken)
        again.wait(sound)
        await until(lambda: sound.went_on == 3)

    run(main)
    assert broken.went_on == 1


# --- the agent --------------------------------------------------------------------------------------------------------


async def spends(host: Host, of: LimitDocument, subscription: int) -> bool:
    return await host.call(meter(host.table, of, subscription=subscription))


def test_the_agent_grants_to_others_meanwhile(tmp_path: Path, redis_server: RedisServer) -> None:
    async def main() -> None:
        async with hosts(tmp_path, redis_server, 2) as (host, other):
            of = limit("quota", 1000, "month")
            for subscription in (5, ELSEWHERE):
                assert await spends(host, of, subscription)
            holder = await stand(host.table, 5)
            try:
                host.grantor._asking = {at.at: {1} for at in host.table.slots()}  # and who asks is in vain
                for subscription in range(ELSEWHERE, ELSEWHERE + 300):
                    assert await spends(host, of, subscription)
                assert host.grantor.is_open
                assert await spends(other, of, 5)
                assert not await spends(host, of, 5)
            finally:
                holder.end()
            assert await spends(host, of, 5)

    run(main)


def test_a_grant_that_cannot_be_noted_is_corrected(tmp_path: Path, redis_server: RedisServer) -> None:
    async def main() -> None:
        of = limit("quota", 100, "month")
        async with hosts(tmp_path, redis_server, 1) as (host,):
            assert await spends(host, of, 5)
            heed, holders = host.grantor._heed, list[Holder]()

            def too_late(*word: object) -> None:
                if not holders:
                    holders.append(Holder(host.table.path, 5))
                heed(*word)  # type: ignore[arg-type]

            host.grantor._heed = too_late  # type: ignore[method-assign]
            [slot] = host.table.slots()
            host.table.cells[slot.at + LEASE] = 0
            await storm([host], of, calls=1)
            await until(lambda: bool(holders))
            holders[0].end()
            passed = 0
            give_up_at = time.monotonic() + 30
            while passed < 99 and time.monotonic() < give_up_at:
                passed += await spends(host, of, 5)
                await asyncio.sleep(0.005)
            assert await storm([host], of, calls=10) == 0
            assert host.table.cells[slot.at + COUNT] == 100, "all of it was spent, and no more"

    run(main)


def test_calls_under_way_are_not_given_to_others(tmp_path: Path, redis_server: RedisServer) -> None:
    """Redis takes calls for ended that are not renewed in 10 s; here in a moment, by the time that it is told."""

    async def main() -> None:
        async with hosts(tmp_path, redis_server, 2) as (host, other):
            assert await spends(host, AT_ONCE, 5)
            [slot] = host.table.slots()

            def told() -> tuple[int, int]:
                said = redis_server.client.hgetall(f"apimgr:{{limits}}:concurrency:{slot.owner}:{slot.limit_id}")
                [at] = (int(value) for name, value in said.items() if name.startswith(b"at:host0"))
                [held] = (int(value) for name, value in said.items() if name.startswith(b"held:host0"))
                return at, held

            holder = await stand(host.table, 5)
            try:
                renewed, held = told()
                await until(lambda: told()[0] > renewed)
                assert told()[1] == held >= 1
                assert await storm([other], AT_ONCE, calls=3) <= 2
            finally:
                holder.end()

    run(main)


def test_after_a_loss_of_memory_nobody_is_granted_what_cannot_be_told(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    """A quota that is spent; the server forgets it, and the host that knows cannot read it."""

    async def main() -> None:
        async with hosts(tmp_path, redis_server, 2) as (host, other):
            of = limit("quota", 10, "month")
            passed = 0
            while passed < 10:
                passed += await storm([host], of, calls=1)
                await asyncio.sleep(0.02)
            holder = await stand(host.table, 5)
            try:
                redis_server.empty()
                await until(lambda: not host.grantor.is_open and not other.grantor.is_open)
                heard = host.grantor._table.cells[GRANTED_UNTIL]
                await asyncio.sleep(12)  # longer than a host is awaited that is not heard
                assert heard == 0
                assert not host.grantor.is_open
                assert not other.grantor.is_open
                assert await storm([other], of, calls=1) == 0
            finally:
                holder.end()
            await host.ready()
            await other.ready()
            assert await storm([host, other], of, calls=3) == 0

    run(main)
