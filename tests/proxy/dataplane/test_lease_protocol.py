"""What nodes and Redis say to each other, in any order and with any loss: never too much, and nothing lost for good."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from apimgr.contracts.snapshot import LimitDocument
from proxy.dataplane.limits import TAKEN
from proxy.dataplane.limits import grantor as grantor_module
from proxy.dataplane.limits.grantor import Grantor, MemoryLost, Server, Word
from proxy.dataplane.limits.table import REFUSED_UNTIL, SEQUENCE, Table
from tests.asynchronous import run
from tests.proxy.dataplane.test_leases import meter
from tests.redis_server import RedisServer

pytestmark = pytest.mark.processes

NODES = 3
AMOUNT = 20
Deed = Literal["spend", "end", "look", "unanswered", "late", "again", "rest", "die", "forget", "leap"]
DEEDS = st.lists(
    st.tuples(
        st.sampled_from(["spend", "spend", "spend", "end", *Deed.__args__]),  # type: ignore[attr-defined]
        st.integers(0, NODES - 1),
        st.integers(1, 8),
    ),
    min_size=20,
    max_size=120,
)


class Clock:
    """The wall's, of the node that is at work: what ``time`` is to the agent."""

    monotonic = staticmethod(time.monotonic)
    ahead = 0.0

    def time(self) -> float:
        return time.time() + self.ahead

    def time_ns(self) -> int:
        return time.time_ns() + int(self.ahead * 1e9)


CLOCK = Clock()


@dataclass
class Late:
    """A word that waits in a socket."""

    incarnation: str
    sequence: int
    words: Sequence[Word]


@dataclass
class Node:
    """A table, a worker's meter and an agent of which we are the loop."""

    folder: Path
    redis: Redis
    limit: LimitDocument
    passed: int = 0
    under_way: int = 0
    late: list[Late] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.table = Table(self.folder / "table", time.time(), shared=True)
        self.meter = meter(self.table, self.limit)
        self.server = Server(self.redis, self.folder.name)
        self.be_born()

    def be_born(self) -> None:
        """An agent begins, perhaps after one that was killed."""
        self.agent = Grantor("unix:///unused", self.folder / "table", self.folder.name)
        self.agent._table, self.agent._node = self.table, self.folder.name
        self.agent._answer = lambda asked: None  # type: ignore[method-assign]
        self.agent._take_up()
        self.server = Server(self.redis, self.folder.name)

    async def beat(self) -> None:
        if not self.server._incarnation:
            await self.server.open()
        await self.agent._beat(self.server)

    def spend(self) -> bool:
        is_taken = self.meter.take(CLOCK.time()) == TAKEN
        self.passed += is_taken
        self.under_way += is_taken
        return is_taken

    def end(self) -> None:
        if self.under_way:
            self.under_way -= 1
            self.meter.ended(counts=True, began=0.0)

    def words(self) -> list[Word]:
        slots = [slot.at for slot in self.table.slots()]
        return [word for at in slots if (word := self.agent._next_word(at, time.monotonic())) is not None]

    async def look(self, *, answered: bool = True) -> None:
        try:
            if answered:
                await self.agent._exchange(self.server, self.words())
            else:
                await self._say(self.take_down())
        except MemoryLost:
            await self.beat()

    def take_down(self) -> Late:
        cells = self.table.cells
        cells[SEQUENCE] = max(cells[SEQUENCE] + 1, time.time_ns() // 1000)
        return Late(self.server._incarnation, cells[SEQUENCE], self.words())

    async def _say(self, word: Late) -> None:
        """And never hear the answer."""
        now, self.server._incarnation = self.server._incarnation, word.incarnation
        if word.words:
            await self.server.say(word.sequence, word.words, NODES)
        self.server._incarnation = now

    async def again(self) -> None:
        """What was said long ago is heard only now."""
        if self.late:
            await self._say(self.late.pop(0))

    def rest(self) -> None:
        """A while passes in which nobody spends or asks."""
        for lease in self.agent._leases.values():
            lease.looked_at -= grantor_module.RENEW_SECONDS
            lease.active_at -= grantor_module.IDLE_SECONDS
        for slot in self.table.slots():
            self.table.cells[slot.at + REFUSED_UNTIL] = 0

    async def leap(self, days: float) -> None:
        """Its clock goes wrong, calls come and the agent says what it has to say; then it is right again."""
        CLOCK.ahead = days * 86_400
        try:
            self.rest()
            await self.beat()
            self.spend()
            await self.look()
        finally:
            CLOCK.ahead = 0.0

    async def do(self, deed: Deed, times: int) -> None:
        if deed == "spend":
            await self.beat()
            for _ in range(times):
                if not self.spend():
                    await self.look()
        elif deed == "end":
            for _ in range(times):
                self.end()
        elif deed == "look":
            await self.look()
        elif deed in ("unanswered", "late"):
            for _ in range(times):
                self.spend()
            if deed == "late":
                self.late.append(self.take_down())
            else:
                await self.look(answered=False)
        elif deed == "again":
            await self.again()
        elif deed == "rest":
            self.rest()
        elif deed == "leap":
            if self.limit.kind == "quota":
                await self.leap((-40, -1, 1, 31, 40, 4000, 31, 62)[times - 1])
        elif deed == "die":
            self.be_born()
            await self.beat()
        elif times > 5:  # seldom: it makes everybody say everything
            await self.redis.flushall()


async def quiet(nodes: list[Node]) -> None:
    """All agents are heard, and what is left over is given back."""
    for _ in range(3):
        for node in nodes:
            await node.beat()
    for _ in range(2):
        for node in nodes:
            node.rest()
            await node.look()


async def play(folder: Path, url: str, limit: LimitDocument, deeds: list[tuple[Deed, int, int]]) -> None:
    redis = Redis.from_url(url, single_connection_client=True, decode_responses=True)
    await redis.flushall()
    nodes = [Node(folder / f"node{number}", redis, limit) for number in range(NODES)]

    def spent() -> int:
        counted = "under_way" if limit.kind == "concurrency" else "passed"
        return sum(getattr(node, counted) for node in nodes)

    try:
        await quiet(nodes)
        for deed, number, times in deeds:
            await nodes[number].do(deed, times)
            assert spent() <= AMOUNT
        before = -1
        while spent() != before or (limit.kind != "rate" and spent() < AMOUNT):
            assert spent() != before, "some of it can be spent by nobody any more"
            before = spent()
            for node in nodes:
                await quiet(nodes)
                for _ in range(2 * AMOUNT):
                    node.spend()
                    await node.look()
            assert spent() <= AMOUNT
    finally:
        for node in nodes:
            node.table.close()
        await redis.aclose()


@pytest.mark.parametrize("kind", ["quota", "rate", "concurrency"])
def test_any_order_and_any_loss(redis_server: RedisServer, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = grantor_module._script
    monkeypatch.setattr(grantor_module, "time", CLOCK)
    monkeypatch.setattr(
        grantor_module, "_script", lambda name: script(name).replace("10000000, 1000000,", "10000000, 0,")
    )
    limit = LimitDocument(1, kind, AMOUNT, {"quota": "month", "rate": "day"}.get(kind, "none"))  # type: ignore[arg-type]

    @settings(max_examples=6, deadline=None)
    @given(DEEDS)
    @example(
        [("spend", 0, 8), ("spend", 1, 8), ("forget", 0, 6), ("spend", 0, 8), ("forget", 0, 6), *[("spend", 0, 8)] * 3]
    )
    @example([("late", 0, 8), *[("spend", 0, 8)] * 4, ("again", 0, 1), *[("spend", 1, 8)] * 9])
    @example([("spend", 0, 8), ("leap", 0, 4), ("look", 0, 1), *[("spend", 1, 8)] * 9])
    @example([("spend", 0, 8), ("leap", 0, 6), ("look", 0, 1), *[("spend", 1, 8)] * 9])
    @example([*[("spend", 0, 1)] * 35, ("forget", 0, 6), ("spend", 1, 1), ("spend", 2, 1), ("leap", 0, 1),
              ("spend", 1, 1), ("spend", 2, 2)])  # fmt: skip
    def whole(deeds: list[tuple[Deed, int, int]]) -> None:
        with TemporaryDirectory() as folder:
            run(lambda: play(Path(folder), redis_server.url, limit, deeds))

    whole()
