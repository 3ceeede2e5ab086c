"""Calls that wait until the grantor was asked, over loopback. The grantor is played by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from apimgr.contracts import snapshot
from apimgr.contracts.outcomes import BY_NUMBER
from proxy.dataplane.limits.asking import GRANTOR, Asker, Mailbox, answer, read_question
from proxy.dataplane.limits.table import AMOUNT, CHANGES, GRANTED_UNTIL, LEASE, LEASE_UNTIL
from tests.asynchronous import run
from tests.proxy.dataplane.support import PATIENCE, PLAN, Running, World, read_reply, request, running, until

pytestmark = pytest.mark.processes

NS = 1_000_000_000


class ByHand:
    """The grantor of one rate."""

    def __init__(self, folder: Path, gateway: Running) -> None:
        self._gateway = gateway
        self._cells = gateway.worker.runtime.limits.cells
        self._mailbox = Mailbox(folder, GRANTOR)

    def be_there(self) -> None:
        self._cells[GRANTED_UNTIL] = time.time_ns() + 9 * NS

    async def asked(self, *, has_time: bool = True) -> tuple[int, list[int]]:
        """The next question. Who waits for its answer does so for as long as we take, unless we have no time."""
        give_up_at = time.monotonic() + PATIENCE
        while True:
            for data in self._mailbox.receive():
                if has_time:
                    wait_long(self._gateway)
                return read_question(data)
            assert time.monotonic() < give_up_at, "nobody asks"
            await asyncio.sleep(0.005)

    def grant(self, pid: int, slots: list[int], calls: int = 1) -> None:
        for at in slots:
            self._cells[at + LEASE] += calls
            self._cells[at + LEASE_UNTIL] = time.time_ns() + 5 * NS
        self._mailbox.send(str(pid), answer(slots))

    def close(self) -> None:
        self._mailbox.close()


def wait_long(gateway: Running) -> None:
    for call in gateway.worker.asker._waiting:
        call.grant_due_at = time.monotonic() + 2 * PATIENCE


def limited() -> World:
    world = World()
    world.plan = snapshot.PlanDocument(
        PLAN.id, "Limited", (snapshot.LimitDocument(1, "rate", 1000, "day"),), without_grantor="closed"
    )
    return world


@asynccontextmanager
async def waiting(folder: Path) -> AsyncIterator[tuple[Running, ByHand]]:
    async with running(folder, limited(), shared=True) as gateway:
        grantor = ByHand(folder, gateway)
        grantor.be_there()
        yield gateway, grantor
        grantor.close()


def play(folder: Path, scenario: Callable[[Running, ByHand], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with waiting(folder) as (gateway, grantor):
            await asyncio.wait_for(scenario(gateway, grantor), 3 * PATIENCE)

    run(whole, uvloop.new_event_loop)


def post(gateway: Running, body: bytes) -> bytes:
    return request("POST", "/orders/items", f"X-Api-Key: {gateway.world.key}", body=body)


def test_a_large_body_that_comes_while_its_call_waits(tmp_path: Path) -> None:
    """More of it than is kept before there is an upstream: reading stops, and must go on."""

    async def scenario(gateway: Running, grantor: ByHand) -> None:
        body = b"x" * 900_000
        reader, writer = await gateway.connect()
        writer.write(post(gateway, body)[:200_000])
        pid, slots = await grantor.asked()
        await asyncio.sleep(0.05)
        grantor.grant(pid, slots)
        writer.write(post(gateway, body)[200_000:])
        assert (await read_reply(reader)).status == 200
        assert gateway.upstream.received[0].endswith(b"\r\n\r\n" + body)

    play(tmp_path, scenario)


@pytest.mark.parametrize("before", [b"", b"GET /orders/items/1 HTTP/1.1\r\nHost: g\r\n\r\n"])
def test_a_body_in_pieces_and_a_closed_half(tmp_path: Path, before: bytes) -> None:
    """The whole of a call has come, and its caller sends no more: it is answered although it has to wait."""

    async def scenario(gateway: Running, grantor: ByHand) -> None:
        reader, writer = await gateway.connect()
        writer.write(before + post(gateway, b"hello"))
        writer.write_eof()
        pid, slots = await grantor.asked()
        await asyncio.sleep(0.05)
        grantor.grant(pid, slots)
        statuses = [(await read_reply(reader)).status for _ in range(2 if before else 1)]
        assert statuses == [401, 200][-len(statuses) :]
        assert gateway.upstream.received[0].endswith(b"\r\n\r\nhello")

    play(tmp_path, scenario)


def test_a_body_that_comes_after_its_head(tmp_path: Path) -> None:
    async def scenario(gateway: Running, grantor: ByHand) -> None:
        whole = post(gateway, b"one two three four")
        reader, writer = await gateway.connect()
        writer.write(whole[:-10])
        pid, slots = await grantor.asked()
        writer.write(whole[-10:-5])
        await asyncio.sleep(0.05)
        grantor.grant(pid, slots)
        await asyncio.sleep(0.05)
        writer.write(whole[-5:])
        assert (await read_reply(reader)).status == 200
        assert gateway.upstream.received[0].endswith(b"\r\n\r\none two three four")

    play(tmp_path, scenario)


def test_expecting_100_continue_while_the_call_waits(tmp_path: Path) -> None:
    async def scenario(gateway: Running, grantor: ByHand) -> None:
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(request("POST", "/orders/items", key, "Expect: 100-continue", "Content-Length: 5"))
        pid, slots = await grantor.asked()
        grantor.grant(pid, slots)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hello")
        assert (await read_reply(reader)).status == 200

    play(tmp_path, scenario)


def test_pipelined_calls_wait_in_their_order(tmp_path: Path) -> None:
    async def scenario(gateway: Running, grantor: ByHand) -> None:
        reader, writer = await gateway.connect()
        writer.write(b"".join(post(gateway, b"%d" % number) for number in range(3)))
        for _ in range(3):
            grantor.grant(*await grantor.asked())
        assert [(await read_reply(reader)).status for _ in range(3)] == [200] * 3
        assert [received[-1:] for received in gateway.upstream.received] == [b"0", b"1", b"2"]

    play(tmp_path, scenario)


def test_a_caller_that_leaves_while_its_call_waits_spends_nothing(tmp_path: Path) -> None:
    async def scenario(gateway: Running, grantor: ByHand) -> None:
        _, writer = await gateway.connect()
        writer.write(post(gateway, b"hello")[:-1])
        pid, slots = await grantor.asked()
        writer.transport.abort()
        await asyncio.sleep(0.05)
        grantor.grant(pid, slots)
        assert (await gateway.get()).status == 200
        assert [BY_NUMBER[record.outcome].code for record in gateway.recorder.records] == ["client_aborted", "ok"]
        assert len(gateway.upstream.received) == 1

    play(tmp_path, scenario)


def test_a_question_that_is_lost_is_asked_again(tmp_path: Path) -> None:
    """By whoever still waits: while calls never cease, there is always one that thinks that it was asked already."""

    async def scenario(gateway: Running, grantor: ByHand) -> None:
        statuses: list[int] = []

        async def caller(number: int) -> None:
            await asyncio.sleep(number * 0.02)
            while 200 not in statuses and len(statuses) < 200:
                statuses.append((await gateway.get()).status)
                grantor.be_there()

        callers = [asyncio.ensure_future(caller(number)) for number in range(16)]
        await grantor.asked(has_time=False)  # and this one is lost
        pid, slots = await grantor.asked(has_time=False)
        grantor.grant(pid, slots, 100)
        await asyncio.gather(*callers)
        assert 200 in statuses

    play(tmp_path, scenario)


def test_a_call_that_is_late_goes_on_once(tmp_path: Path) -> None:
    class Late:
        grant_due_at = time.monotonic() - 1
        went_on = 0

        def go_on(self, *, waited: bool) -> None:
            self.went_on += 1

    async def main() -> None:
        asker, call = Asker(tmp_path), Late()
        asker.start()
        asker.ask((1, 2), call)
        asker.tick()
        await asyncio.sleep(0)
        asker.close()
        assert call.went_on == 1

    run(main)


def test_an_agent_that_is_replaced_refuses_nobody(tmp_path: Path) -> None:
    """For a moment nobody listens: calls wait as long as they may, and ask again."""

    async def scenario(gateway: Running, grantor: ByHand) -> None:
        grantor.close()
        call = asyncio.ensure_future(gateway.get())
        await until(lambda: gateway.worker.asker._waiting)
        wait_long(gateway)
        await asyncio.sleep(0.1)
        assert not call.done()
        successor = ByHand(tmp_path, gateway)
        successor.grant(*await successor.asked())
        assert (await call).status == 200
        successor.close()

    async def whole() -> None:
        async with running(tmp_path, limited(), shared=True) as gateway:
            grantor = ByHand(tmp_path, gateway)
            grantor.be_there()
            await asyncio.wait_for(scenario(gateway, grantor), 3 * PATIENCE)

    run(whole, uvloop.new_event_loop)


def test_without_an_answer_the_wait_is_bounded(tmp_path: Path) -> None:
    async def scenario(gateway: Running, grantor: ByHand) -> None:
        replies = await asyncio.gather(gateway.get(), gateway.get(method="HEAD"))
        assert [reply.status for reply in replies] == [503, 503]
        assert replies[1].body == b""
        assert all(reply.headers["retry-after"] == "1" for reply in replies)
        assert not gateway.worker.asker._waiting
        assert not gateway.worker.asker._by_slot

    play(tmp_path, scenario)


def test_what_changes_while_a_call_waits_holds_for_it(tmp_path: Path) -> None:
    """A meter from before would write the amount of before into the slot, and the grantor would go by it."""

    async def scenario(gateway: Running, grantor: ByHand) -> None:
        world, cells = gateway.world, gateway.worker.runtime.limits.cells
        call = asyncio.ensure_future(gateway.get())
        pid, [at] = await grantor.asked()
        assert cells[at + AMOUNT] == 1000
        world.plan = replace(world.plan, limits=(replace(world.plan.limits[0], amount=5),))
        world.publish()
        cells[CHANGES] += 1  # some slot changed hands, so everybody looks for their own
        grantor.grant(pid, [at])
        assert (await call).status == 200
        assert cells[at + AMOUNT] == 5

    play(tmp_path, scenario)


def test_a_key_that_is_revoked_while_its_call_waits(tmp_path: Path) -> None:
    async def scenario(gateway: Running, grantor: ByHand) -> None:
        world = gateway.world
        call = asyncio.ensure_future(gateway.get())
        pid, slots = await grantor.asked()
        world.credential = replace(world.credential, state="revoked")
        world.publish()
        grantor.grant(pid, slots)
        assert (await call).status == 401
        assert not gateway.upstream.received
        assert gateway.worker.runtime.limits.cells[slots[0] + LEASE] == 1, "it has spent nothing"
        assert BY_NUMBER[gateway.recorder.records[0].outcome].code == "key_revoked"

    play(tmp_path, scenario)
