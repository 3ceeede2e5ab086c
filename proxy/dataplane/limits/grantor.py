"""The agent's part in limits that several hosts share: it asks Redis (or Valkey) for grants and keeps the leases.

What a worker found spent is asked for at once; what is spent fast is topped up before it runs out; what nobody spends
any more is given back. All arithmetic of the hosts together is in ``grant.lua``, which the server runs whole. A node
says what it holds, so nothing hangs on an answer that was lost, and a server that was killed or emptied is told all of
it again before it grants anything (``join.lua``). Quotas are exact for as long as the server's memory or every node's
table is there; only where the memory is lost *and* a node that held calls does not come back, are those given twice.

The agent has more to do than this, so it never waits for a worker that stands on what an owner has spent: it leaves
that owner for a later turn. A grant that cannot be noted is lost, as one is whose answer is: the next word corrects it.
After a loss of memory the others are granted nothing until that owner, too, could be told of.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from apimgr.contracts.periods import period_bounds
from apimgr.contracts.snapshot import PERIOD_SECONDS
from proxy.dataplane.limits.asking import FULL_SECONDS, GRANTOR, MOST_SLOTS, Mailbox, answer, read_question
from proxy.dataplane.limits.earlier import count_of
from proxy.dataplane.limits.leased import begin_period, is_ahead
from proxy.dataplane.limits.table import (
    ASKED,
    CELLS,
    COUNT,
    FULL_AT,
    GRANTED_UNTIL,
    INCARNATION,
    LEASE,
    LEASE_UNTIL,
    LEFT,
    NODE_ID,
    OTHERS,
    REFUSED_UNTIL,
    SEQUENCE,
    SPENT,
    START,
    Described,
    Stuck,
    Table,
)

log = logging.getLogger(__name__)

TICK_SECONDS: Final = 0.05
BEAT_SECONDS: Final = 0.25
COUNTED_ON_SECONDS: Final = 1.5  # how long the grantor is taken to be there after it was last heard
AHEAD_SECONDS: Final = 0.2  # of traffic: what a lease is sized to
HALVED_SECONDS: Final = 0.25  # in which what is taken for the traffic of a limit halves at most
IDLE_SECONDS: Final = 1.0  # after which what is left of a lease is given back
RATE_LEASE_SECONDS: Final = 2.0
CONCURRENCY_LEASE_SECONDS: Final = 5.0  # less than the server's patience with a node that is not heard
RENEW_SECONDS: Final = 1.0
SHRINK_SECONDS: Final = 0.2  # after which calls that ended make room on other hosts
ASK_AGAIN_SECONDS: Final = 0.25  # after there was nothing left: other hosts give back what they do not use
TIMEOUT_SECONDS: Final = 1.0
LONGEST_PAUSE_SECONDS: Final = 1.0
BATCH: Final = 200
SCANNED: Final = 2000  # leases that are looked at in a turn
_NS: Final = 1_000_000_000
_MOST: Final = 2**53  # what the server's numbers hold exactly

_PREFIX: Final = "apimgr:{limits}"
_STATE, _NODES, _AWAITED = _PREFIX, f"{_PREFIX}:nodes", f"{_PREFIX}:awaited"
HEARD, LOST, BEHIND, WITHHELD = range(4)


class MemoryLost(Exception):
    """The server is not the one that was told what this node holds."""


@dataclass(slots=True)
class Lease:
    """A slot that is being spent, as the agent follows it. Times are monotonic seconds."""

    owner: int
    limit_id: int
    kind: str
    spent: int
    looked_at: float
    active_at: float  # when it was last spent or asked for
    per_second: float = 0.0
    under_way: int = 0
    told: tuple[int, int] | None = None  # of a quota: the period and what the server knows to be held; None: unsure


@dataclass(frozen=True, slots=True)
class Word:
    """What is said of one slot: how much of it is held, how much more is wanted, and what the kind needs to know."""

    slot: Described
    held: int
    wanted: int
    more: tuple[int, ...]
    start: int = 0


class Grantor:
    """One per node, held by a lock beside the table. ``url`` is of Redis; ``name`` the node's."""

    def __init__(self, url: str, path: Path, name: str) -> None:
        self._url = url
        self._folder = path.parent
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = path
        self._name = name
        self._leases: dict[int, Lease] = {}
        self._asking: dict[int, set[int]] = {}  # slot → the processes that wait for it
        self._unsent: dict[int, list[int]] = {}  # process → the slots it is yet to hear of
        self._full_seconds = FULL_SECONDS  # after which a queue that was found full is tried again
        self._rest_seconds = TICK_SECONDS
        self._woken = asyncio.Event()
        self._turns: Iterator[int] = iter(())  # of the leases, to be looked through
        self._look_at, self._is_behind = 0.0, False
        self._peers: list[str] = self._read_peers()
        self.is_open = False  # whether grants are given

    async def run(self) -> None:
        """Until cancelled. Whatever happens to the server, the node goes on by the rule of each plan."""
        while True:
            try:
                await self._run()
            except Exception:
                log.exception("Limits cannot be shared; trying again")
                self.is_open = False
            await asyncio.sleep(LONGEST_PAUSE_SECONDS)

    async def _run(self) -> None:
        # Whatever fails on the way, what was had by then is given back: the next attempt wants it again.
        with ExitStack() as had:
            had.callback(os.close, await self._only_one())
            self._table = await self._open_table()
            had.callback(self._table.close)
            cells = self._table.cells
            cells[NODE_ID] = cells[NODE_ID] or secrets.randbits(62)
            self._node = f"{self._name}.{cells[NODE_ID]:x}"
            self._take_up()
            self._mailbox = Mailbox(self._folder, GRANTOR)
            had.callback(self._mailbox.close)
            loop, reading = asyncio.get_running_loop(), self._mailbox.socket.fileno()
            loop.add_reader(reading, self._hear)
            had.callback(loop.remove_reader, reading)
            await self._keep_in_touch()

    def _take_up(self) -> None:
        """Follow what the agent before us was granted."""
        now, cells = time.monotonic(), self._table.cells
        for slot in self._table.slots():
            if cells[slot.at + LEASE] > 0:
                self._leases[slot.at] = Lease(
                    slot.owner, slot.limit_id, slot.kind, cells[slot.at + SPENT], looked_at=now, active_at=now
                )

    async def _only_one(self) -> int:
        """The lock: while an agent is replaced, two would each say what the node holds."""
        lock = os.open(self._folder / "grantor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _get_lock(lock):
                await asyncio.sleep(TICK_SECONDS)
        except BaseException:
            os.close(lock)
            raise
        return lock

    async def _open_table(self) -> Table:
        """As soon as nobody has it to itself."""
        while True:
            with suppress(Stuck):
                return Table(self._path, time.time(), counts_calls=False, shared=True, waits=False)
            await asyncio.sleep(TICK_SECONDS)

    async def _keep_in_touch(self) -> None:
        pause = 0.0
        while True:
            try:
                async with self._connect() as redis:
                    server = Server(redis, self._node)
                    await server.open()
                    pause = 0.0
                    await self._serve(server)
            except (RedisError, OSError, TimeoutError) as error:
                self._away(error)
            pause = min(pause * 2 or TICK_SECONDS, LONGEST_PAUSE_SECONDS)
            await asyncio.sleep(pause)

    def _connect(self) -> Redis:
        return Redis.from_url(
            self._url,
            single_connection_client=True,  # in order: what is said later is heard later
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )

    def _away(self, error: Exception) -> None:
        if self._table.cells[GRANTED_UNTIL] or self.is_open:
            log.error("Limits that hosts share cannot be asked for: %s. Plans say whether calls pass meanwhile", error)
        self._withhold()
        self._release_all()

    def _withhold(self) -> None:
        self.is_open = False
        self._table.cells[GRANTED_UNTIL] = 0

    # --- in touch -----------------------------------------------------------------------------------------------

    async def _serve(self, server: Server) -> None:
        beat_at = 0.0
        while True:
            _heed_cancellation()
            try:
                if time.monotonic() >= beat_at:
                    await self._beat(server)
                    beat_at = time.monotonic() + BEAT_SECONDS
                await self._look(server)
            except MemoryLost:
                self._withhold()
                beat_at = 0.0
            if not self._asking and not self._is_behind and beat_at:
                await self._rest()
            self._send()

    async def _look(self, server: Server) -> None:
        """Say what there is to say, and let those go on who asked. However much it is, the heart beats in between."""
        now = time.monotonic()
        asked = {at: self._asking.pop(at) for at in list(islice(self._asking, BATCH))}
        try:
            slots = [*asked, *self._due(asked, now)]
            await self._exchange(server, [word for at in slots if (word := self._next_word(at, now)) is not None])
        finally:
            self._answer(asked)

    async def _rest(self) -> None:
        self._woken.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._rest_seconds):
                await self._woken.wait()

    async def _beat(self, server: Server) -> None:
        told = self._table.cells[INCARNATION]
        joined = await server.join(told, self._peers)
        if _number(joined.incarnation) != told:
            self._withhold()
            self._release_all()
            await self._tell_all(server, joined.now)
            self._table.cells[INCARNATION] = _number(joined.incarnation)
            joined = await server.join(self._table.cells[INCARNATION], self._peers)
        if joined.is_open:
            self._remember(joined.alive)  # not before: a memory that is lost twice must not take the others with it
            self._table.cells[GRANTED_UNTIL] = time.time_ns() + int(COUNTED_ON_SECONDS * _NS)
        else:
            self._withhold()
        if joined.is_open and not self.is_open:
            log.info("Limits are shared with %d other hosts", len(self._peers))
        self.is_open = joined.is_open

    async def _tell_all(self, server: Server, now: int) -> None:
        """Say what this node holds of every limit, to a server that does not know. Not over before all is said.

        Of a quota, what it holds in the period in which it is ``now`` by the server's clock, if it holds any: were our
        own clock wrong in this moment, nobody would learn what was spent in the period of all others.
        """
        told, beat_at = 0, time.monotonic() + BEAT_SECONDS
        slots = self._table.slots()
        untold: list[Described] = []
        while (batch := list(islice(slots, BATCH))) or untold:
            _heed_cancellation()
            if not batch:
                slots, untold = iter(untold), []
                await asyncio.sleep(TICK_SECONDS)
            words = self._words_after_loss(batch, untold, now)
            await self._exchange(server, words)
            told += len(words)
            if time.monotonic() >= beat_at:  # who is not heard is not awaited for long
                now = (await server.join(0, self._peers)).now
                beat_at = time.monotonic() + BEAT_SECONDS
        if told:
            log.warning("The server of shared limits did not know what this node holds; it was told of %d limits", told)

    def _words_after_loss(self, slots: Sequence[Described], untold: list[Described], now: int) -> list[Word]:
        """``untold`` takes those that somebody stands on: to say nothing of them is to say that nothing was spent."""
        words: list[Word] = []
        for slot in slots:
            try:
                word = self._word_after_loss(slot, now)
            except Stuck:
                untold.append(slot)
            else:
                words += [word] if word is not None else []
        return words

    def _word_after_loss(self, slot: Described, now: int) -> Word | None:
        with self._table.locked(slot.owner):
            if not self._table.is_for(slot.at, slot.owner, slot.limit_id):
                return None
            return self._word(slot, 0, lost_by=now)

    async def _exchange(self, server: Server, words: Sequence[Word]) -> None:
        if not words:
            return
        cells = self._table.cells
        cells[SEQUENCE] = max(cells[SEQUENCE] + 1, time.time_ns() // 1000)
        answers = await server.say(cells[SEQUENCE], words, max(1, len(self._peers) + 1))
        for word, told in zip(words, answers, strict=True):
            if told[0] == LOST:
                raise MemoryLost
            with suppress(Stuck):
                self._heed(word, told)

    # --- the table ----------------------------------------------------------------------------------------------

    def _due(self, asked: Collection[int], now: float) -> list[int]:
        """Slots that nobody asks about and of which there is something to say. Leases are looked through in turns."""
        if now < self._look_at and not self._is_behind:
            return []
        self._look_at, self._is_behind = now + TICK_SECONDS, False
        due: list[int] = []
        turn, most = 0, max(BATCH - len(asked), BATCH // 4)  # who waits comes first
        for at in islice(self._turns, SCANNED):
            turn += 1
            lease = self._leases.get(at)
            if lease is not None and at not in asked and self._is_due(at, lease, now):
                due.append(at)
                if len(due) == most:
                    self._is_behind = True
                    return due
        if turn < SCANNED:
            self._turns = iter(tuple(self._leases))
        return due

    def _is_due(self, at: int, lease: Lease, now: float) -> bool:
        """Whether there is something to say of a slot that nobody asks about: it runs low, idles or must be renewed."""
        cells = self._table.cells
        if now - lease.looked_at >= RENEW_SECONDS:
            return True
        if lease.kind == "concurrency":
            return now - lease.looked_at >= SHRINK_SECONDS and cells[at + LEASE] > self._under_way(at)
        runs_low = cells[at + LEASE] <= lease.per_second * AHEAD_SECONDS / 2
        return cells[at + SPENT] != lease.spent and runs_low and cells[at + REFUSED_UNTIL] < time.time_ns()

    def _next_word(self, at: int, now: float) -> Word | None:
        slot = self._table.describe(at) if self._table.exists(at) else None
        if slot is None:
            self._leases.pop(at, None)
            return None
        try:
            with self._table.locked(slot.owner):
                if not self._table.is_for(at, slot.owner, slot.limit_id):
                    return None
                word = self._word(slot, self._wanted(slot, now))
                lease = self._leases.get(at)
                if lease is not None and not word.wanted and self._is_known(word, lease):
                    return None
        except Stuck:
            return self._renewal(slot, now)
        if lease is not None:
            lease.told = None
        return word

    def _renewal(self, slot: Described, now: float) -> Word | None:
        """Of a slot that somebody stands on. Calls under way would else be given to others after a while."""
        lease = self._leases.get(slot.at)
        if slot.kind != "concurrency" or lease is None or now - lease.looked_at < RENEW_SECONDS:
            return None
        lease.looked_at = now
        return Word(slot, max(self._table.cells[slot.at + LEASE], self._under_way(slot.at)), 0, ())

    def _is_known(self, word: Word, lease: Lease) -> bool:
        """Whether there is nothing in it that the server does not know, or that would renew anything."""
        if word.slot.kind == "quota":
            return lease.told == (word.start, word.held)
        return word.slot.kind == "rate" and word.more[1] == 0 and self._table.cells[word.slot.at + LEASE] <= 0

    def _wanted(self, slot: Described, now: float) -> int:
        """How many more to ask for; below zero, how many to give back. Under the owner's lock."""
        cells, at = self._table.cells, slot.at
        lease = self._leases.get(at)
        if lease is None or (lease.owner, lease.limit_id, lease.kind) != (slot.owner, slot.limit_id, slot.kind):
            lease = self._leases[at] = Lease(slot.owner, slot.limit_id, slot.kind, cells[at + SPENT], now, now)
        passed, spent = now - lease.looked_at, cells[at + SPENT] - lease.spent
        asked, cells[at + ASKED] = min(cells[at + ASKED], _MOST), 0
        lease.spent, lease.looked_at = cells[at + SPENT], now
        # Quick to grow, slow to shrink: a lease that is too small costs every call a question.
        lease.per_second = max(spent / max(passed, TICK_SECONDS), lease.per_second * 0.5 ** (passed / HALVED_SECONDS))
        if asked or spent:
            lease.active_at = now
        idle_for = now - lease.active_at
        if idle_for >= 2 * IDLE_SECONDS and not cells[at + LEASE]:
            del self._leases[at]
        spends_ahead = slot.kind != "concurrency" and idle_for < IDLE_SECONDS
        missing = max(asked, ceil(lease.per_second * AHEAD_SECONDS) if spends_ahead else 0) - self._in_hand(slot)
        # What was granted is left alone for a while: who asked for it has yet to come and spend it.
        return missing if passed >= RENEW_SECONDS else max(missing, 0)

    def _in_hand(self, slot: Described) -> int:
        """What may still be spent without asking."""
        cells, at = self._table.cells, slot.at
        if slot.kind == "rate" and not is_ahead(cells[at + LEASE_UNTIL], time.time()):
            cells[at + LEASE] = 0  # it has lapsed: by now the bucket may be full again without it
        lease = cells[at + LEASE]
        return max(0, lease - self._under_way(at) if slot.kind == "concurrency" else lease)

    def _under_way(self, at: int) -> int:
        return sum(self._table.calls[(at + CELLS) * 4 : (at + CELLS) * 4 + self._table.columns])

    def _word(self, slot: Described, wanted: int, *, lost_by: int = 0) -> Word:
        """What to say of a slot; below zero, ``wanted`` gives back. Under the owner's lock.

        ``lost_by`` is the time of a server that lost its memory, 0 if it has not.
        """
        cells, at, now = self._table.cells, slot.at, time.time()
        wanted, back = max(wanted, 0), max(-wanted, 0)
        if slot.kind == "concurrency":
            self._table.give_back_of_dead(at)
            return Word(slot, self._kept(at), wanted, ())
        if slot.kind == "quota":
            if lost_by and _holds_any(cells, slot, lost_by):
                now = lost_by
            start, end = period_bounds(slot.period, now, slot.anchor)
            start = begin_period(cells, at, start, end, now)
            # No more than there is, should the quota have been made smaller since it was granted.
            there_is = slot.amount - cells[at + OTHERS] - cells[at + COUNT]
            cells[at + LEASE] = max(0, min(cells[at + LEASE] - back, there_is))
            return Word(slot, cells[at + COUNT] + cells[at + LEASE], wanted, (start, max(start, end)), start)
        back = min(back, cells[at + LEASE])
        cells[at + LEASE] -= back
        unfilled_us = max(0, (cells[at + FULL_AT] - int(now * _NS)) // 1000) if lost_by else 0
        return Word(slot, 0, wanted, (PERIOD_SECONDS[slot.period] * 1_000_000, back, unfilled_us))

    def _kept(self, at: int) -> int:
        """How many calls under way to keep room for: as many as there are, or were a moment ago."""
        under_way, lease = self._under_way(at), self._leases.get(at)
        kept = under_way if lease is None else max(under_way, lease.under_way)
        if lease is not None:
            lease.under_way = under_way
        cells = self._table.cells
        cells[at + LEASE] = kept = min(kept, max(cells[at + LEASE], under_way))
        return kept

    def _heed(self, word: Word, told: Sequence[int]) -> None:
        """Take a grant into the table, unless the slot changed hands or its period ended meanwhile.

        Raises ``Stuck``, and takes nothing.
        """
        slot, cells, at = word.slot, self._table.cells, word.slot.at
        with self._table.locked(slot.owner):
            if not self._table.is_for(at, slot.owner, slot.limit_id):
                return
            if slot.kind == "quota" and cells[at + START] != word.start:
                return
            now_ns = time.time_ns()
            said, granted, *more = told
            cells[at + LEASE] += granted
            again_ns = int(ASK_AGAIN_SECONDS * _NS)
            if said == BEHIND:
                pass
            elif slot.kind == "rate":
                left, full_us, wait_us = more
                cells[at + LEFT], cells[at + FULL_AT] = left, now_ns + full_us * 1000
                cells[at + LEASE_UNTIL] = now_ns + int(RATE_LEASE_SECONDS * _NS)
                again_ns = min(again_ns, wait_us * 1000)
            else:
                cells[at + OTHERS] = more[0]
                lease = self._leases.get(at)
                if lease is not None:
                    lease.told = word.start, word.held + granted
                if slot.kind == "concurrency":
                    cells[at + LEASE_UNTIL] = now_ns + int(CONCURRENCY_LEASE_SECONDS * _NS)
            if word.wanted and not granted and said != WITHHELD:
                cells[at + REFUSED_UNTIL] = now_ns + max(again_ns, 1_000_000)

    # --- the workers --------------------------------------------------------------------------------------------

    def _hear(self) -> None:
        for data in self._mailbox.receive():
            pid, slots = read_question(data)
            for at in slots:
                self._asking.setdefault(at, set()).add(pid)
        self._woken.set()

    def _answer(self, asked: dict[int, set[int]]) -> None:
        for at, pids in asked.items():
            for pid in pids:
                self._unsent.setdefault(pid, []).append(at)
        self._send()

    def _send(self) -> None:
        """Answer who waits. A queue that is full is tried again soon, then ever later; who is gone is forgotten."""
        unsent, self._unsent = self._unsent, {}
        for pid, slots in unsent.items():
            while slots:
                try:
                    self._mailbox.send(str(pid), answer(slots[:MOST_SLOTS]))
                except BlockingIOError:
                    self._unsent[pid] = slots
                    break
                except OSError:
                    break
                slots = slots[MOST_SLOTS:]
        is_full = bool(self._unsent)
        self._rest_seconds = self._full_seconds if is_full else TICK_SECONDS
        self._full_seconds = min(self._full_seconds * 2, TICK_SECONDS) if is_full else FULL_SECONDS

    def _release_all(self) -> None:
        """Have everybody who waits decide without a grant."""
        asked, self._asking = self._asking, {}
        self._answer(asked)

    # --- the other hosts ----------------------------------------------------------------------------------------

    def _remember(self, alive: Iterable[str]) -> None:
        """Note on disk who else is there: should the server lose its memory, they are waited for."""
        peers = sorted(name for name in alive if name != self._node)
        if peers != self._peers:
            self._peers = peers
            beside = self._folder / "peers.new"
            beside.write_text(json.dumps(peers))
            beside.replace(self._folder / "peers")

    def _read_peers(self) -> list[str]:
        try:
            return [str(name) for name in json.loads((self._folder / "peers").read_text())]
        except (OSError, ValueError):
            return []


@dataclass(frozen=True, slots=True)
class Joined:
    """``now`` is Unix seconds, by the server's clock."""

    incarnation: str
    is_open: bool
    alive: list[str]
    now: int


class Server:
    """One connection to Redis, and the two scripts."""

    def __init__(self, redis: Redis, node: str) -> None:
        self._redis = redis
        self._node = node
        self._incarnation = ""

    async def open(self) -> None:
        self._run_id = str((await self._redis.info("server"))["run_id"])
        memory = await self._redis.info("memory")
        if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
            log.error(
                "The Redis of shared limits forgets counts when its memory is full (maxmemory-policy %s),"
                " so a quota can be exceeded: set noeviction",
                memory.get("maxmemory_policy"),
            )
        self._join = await self._redis.script_load(_script("join"))
        self._grant = await self._redis.script_load(_script("grant"))

    async def join(self, told: int, peers: Sequence[str]) -> Joined:
        """Beat. ``told`` is the number of the incarnation that knows what this node holds."""
        said = self._incarnation if told == _number(self._incarnation) else ""
        keys = (_STATE, _NODES, _AWAITED)
        answer: list[Any] = await self._redis.evalsha(self._join, 3, *keys, self._run_id, self._node, said, *peers)
        self._incarnation = answer[0]
        return Joined(answer[0], answer[1] == 1, answer[2], int(answer[3]))

    async def say(self, sequence: int, words: Sequence[Word], sharing: int) -> list[list[int]]:
        """Each word's answer, as ``grant.lua`` gives it: one call of it for all of them."""
        slots = [f"{_PREFIX}:{word.slot.kind}:{word.slot.owner}:{word.slot.limit_id}" for word in words]
        told: str = await self._redis.evalsha(
            self._grant, 2 + len(slots), _STATE, _NODES, *slots,
            self._incarnation, self._node, str(sequence), str(sharing), *map(_line, words),
        )  # fmt: skip
        return [[int(number) for number in line.split()] for line in told.split("\n")]


def _line(word: Word) -> str:
    numbers = (min(word.slot.amount, _MOST), word.held, word.wanted, *word.more)
    return f"{word.slot.kind} {' '.join(map(str, numbers))}"


def _holds_any(cells: memoryview[int], slot: Described, now: float) -> bool:
    """Whether calls were spent or granted here in a quota's period around ``now``."""
    start, _ = period_bounds(slot.period, now, slot.anchor)
    return count_of(cells, slot.at, start) > 0 or (cells[slot.at + START] == start and cells[slot.at + LEASE] > 0)


def _heed_cancellation() -> None:
    """End where it was swallowed: the client writes within ``wait_for``, which in Python 3.11 may do that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _get_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _script(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text()


def _number(incarnation: str) -> int:
    """An incarnation as the word in the table that stands for it; 0 for none."""
    if not incarnation:
        return 0
    return int.from_bytes(blake2b(incarnation.encode(), digest_size=8).digest(), "little") >> 2
