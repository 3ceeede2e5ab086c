"""The node's agent: keeps the replica in step, ships usage, beats the heart and answers the admin port.

Its jobs know nothing of each other and fail apart: without a database workers go on with the last good replica, and the
spool grows until the database is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TextIO

import psycopg
import uvloop
from psycopg import AsyncConnection

from proxy.dataplane import database, metrics
from proxy.dataplane.admin import AdminPort
from proxy.dataplane.config import GatewayConfig
from proxy.dataplane.heartbeat import Counters, Heart
from proxy.dataplane.lifeline import Lifeline
from proxy.dataplane.replica.feed import Feed, listen
from proxy.dataplane.replica.file_feed import FileFeed
from proxy.dataplane.replica.writer import Rejection, ReplicaWriter
from proxy.dataplane.stats import SPOOLED_BYTES, Snapshot, StatsReader
from proxy.dataplane.usage.books import Shipped, counted, earlier_boots
from proxy.dataplane.usage.durability import Durability
from proxy.dataplane.usage.shipper import Shipper
from proxy.dataplane.usage.spool import bytes_held
from proxy.dataplane.usage.store import Store

if TYPE_CHECKING:
    from proxy.dataplane.limits.grantor import Grantor

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
SHIP_SECONDS: Final = 0.2
BEAT_SECONDS: Final = 2.0
SYNC_SECONDS: Final = 0.05
SYNC_BYTES: Final = 256 * 1024
LOOK_SECONDS: Final = 0.01
BOOKS_SECONDS: Final = 10.0
LAST_WORDS_SECONDS: Final = 5.0
ALIVE_SECONDS: Final = 0.2


class Agent:
    """What the jobs share: the replica, the shipper and the books."""

    def __init__(self, config: GatewayConfig) -> None:
        self.config = config
        self.writer = ReplicaWriter(config.replica_path)
        self.feed = Feed(self.writer)
        self.file_feed = FileFeed(self.writer, config.declaration) if config.declaration else None
        self.shipper = Shipper(config.spool_root)
        self.heart = Heart(config)
        self._stats = StatsReader(config.stats_path)
        self._shipped_before = Shipped()  # of this boot, by the ledger
        self._asked_ledger = False
        self._of_database: dict[str, int] = {}  # its books of this boot, when it was asked last
        self._of_database_at = -BOOKS_SECONDS
        self._missing = 0
        self._told_rejected: Mapping[bytes, Rejection] | None = None  # what the platform knows of, if we do
        self._shipped_until: datetime | None = None
        self.grantor = _grantor(config)
        config.spool_root.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.writer.remembers and not self.writer.rejected:  # else what is not in force has to be told first
            self.note_applied()

    # --- Jobs ---------------------------------------------------------------------------------------------------

    async def keep_replica(self, connection: AsyncConnection[Any]) -> None:
        await listen(connection)
        self._told_rejected = None
        while True:
            has_applied = await self.feed.pull(connection)
            if self.writer.rejected is not self._told_rejected:
                self._told_rejected = self.writer.rejected
                await self.heart.tell_rejected(connection, self._told_rejected.values())
                self.note_applied()
            if has_applied:
                self.note_applied()
                await self.heart.receipt(connection)
            self.writer.in_touch(time.time())
            # A notification can be lost with a connection, so the log is looked at anyway.
            async for _ in connection.notifies(timeout=POLL_SECONDS, stop_after=1):
                pass

    async def ship_usage(self, connection: AsyncConnection[Any]) -> None:
        store = Store(self.config.node_name, connection)
        while True:
            await self.ship_once(store)
            await asyncio.sleep(SHIP_SECONDS)

    async def ship_once(self, store: Store) -> None:
        if not self._asked_ledger:
            self._shipped_before = await store.shipped(self.config.boot)
            self.shipper.shipped.clear()
            self.shipper.met_another, self._asked_ledger = False, True
        began, spooled = datetime.now(UTC), counted(self.workers())
        try:
            await self.shipper.ship(store)
        except BaseException:
            self._asked_ledger = False  # a commit may have happened whose answer was lost
            raise
        self._shipped_until = began
        if self.shipper.met_another:  # an agent that is leaving, say: our count of what is stored is too low
            self._asked_ledger = False
        else:
            self._missing = spooled.missing(self.shipped())

    async def beat(self, connection: AsyncConnection[Any]) -> None:
        store = Store(self.config.node_name, connection)
        while True:
            if time.monotonic() >= self._of_database_at + BOOKS_SECONDS:
                self._of_database = await store.books(self.config.boot)
                self._of_database_at = time.monotonic()
            if not await self.heart.beat(connection, self.counters(), self._shipped_until):
                self._told_rejected = None  # a node that was removed is remembered nothing of
            await self.close_earlier_boots(connection)
            await asyncio.sleep(BEAT_SECONDS)

    async def close_earlier_boots(self, connection: AsyncConnection[Any]) -> None:
        """Tell what boots before this one had counted, and forget those of which nothing waits any more."""
        store = Store(self.config.node_name, connection)
        for earlier in earlier_boots(self.config.spool_root, self.config.boot):
            stored = (await store.shipped(earlier.boot)).stored
            is_over = earlier.is_shipped
            await self.heart.tell_of_boot(connection, earlier.boot, earlier.counted, stored, is_over=is_over)
            if is_over:
                earlier.forget()

    async def make_durable(self) -> None:
        durability = Durability(self.config.spool_root)
        while True:
            due_at, due_by = time.monotonic() + SYNC_SECONDS, self._stats.total(SPOOLED_BYTES) + SYNC_BYTES
            try:
                await asyncio.to_thread(durability.sync)
            except OSError:
                log.exception("The spool could not be synced")
                await asyncio.sleep(1)
            while time.monotonic() < due_at and self._stats.total(SPOOLED_BYTES) < due_by:
                await asyncio.sleep(LOOK_SECONDS)

    def note_applied(self) -> None:
        if self.writer.mark is not None:
            self.heart.applied(self.writer.mark.sequence)

    # --- Books --------------------------------------------------------------------------------------------------

    def counters(self) -> Counters:
        workers = self.workers()
        calls, shipped = counted(workers), self.shipped()
        return Counters(
            generated=calls.generated,
            spooled=calls.spooled,
            acknowledged=shipped.stored,
            stored=self._of_database.get("stored", 0),
            rolled_up=self._of_database.get("rolled_up", 0),
            in_flight=calls.in_flight(shipped.cut_off),
            cut_off=shipped.cut_off,
            missing=self._missing,
            unrecorded=calls.unrecorded,
            ungranted=sum(worker.counts["ungranted"] for worker in workers),
            limits="" if self.grantor is None else "shared" if self.grantor.is_open else "unavailable",
            quarantined=shipped.quarantined,
            set_aside_bytes=shipped.set_aside_bytes,
            spool_bytes=bytes_held(self.config.spool_root),
            rejected_documents=self.feed.rejected + (self.file_feed.rejected if self.file_feed else 0),
            shipped_until=self._shipped_until.isoformat() if self._shipped_until else "",
        )

    def shipped(self) -> Shipped:
        """What became of this boot's spool, by this agent and those before it."""
        return self._shipped_before + self.shipper.shipped.get(self.config.boot, Shipped())

    def workers(self) -> list[Snapshot]:
        return self._stats.read()

    def metrics(self) -> str:
        sequence = self.writer.mark.sequence if self.writer.mark else 0
        age = max(0.0, time.time() - self.writer.in_touch_at)
        return metrics.exposition(
            self.counters(), self.workers(), self._stats.ends(), sequence, age=age, ready=self.writer.ready
        )

    async def last_words(self) -> None:
        """Ship what the workers left when they drained, and say how it stands. Without a database it stays spooled."""
        with contextlib.suppress(psycopg.Error, OSError, TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                async with await AsyncConnection.connect(self.config.database_url, autocommit=True) as connection:
                    await self.ship_once(Store(self.config.node_name, connection))
                    await self.heart.beat(connection, self.counters(), self._shipped_until)


def _grantor(config: GatewayConfig) -> Grantor | None:
    if not config.limits_url:
        return None
    # Imported here: most nodes need no client of Redis.
    from proxy.dataplane.limits.grantor import Grantor

    return Grantor(config.limits_url, config.limits_path, config.node_name)


def run(config: GatewayConfig, listener: socket.socket, ready_fd: int | None = None) -> None:
    """Be the agent until SIGTERM. Ctrl-C is for the supervisor, who stops the workers first.

    Bytes on ``ready_fd`` say that it goes on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifeline = Lifeline(ready_fd)
    with _alone(config.home / "agent.lock", lifeline.say):
        uvloop.run(_run(Agent(config), listener, lifeline))


@contextlib.contextmanager
def _alone(path: Path, alive: Callable[[], None]) -> Iterator[None]:
    """One agent writes the replica and ships at a time: in an upgrade the former one ends first, however it ends."""
    with path.open("w") as lock:
        if not _is_locked(lock):
            log.info("Waiting for the former agent to end")
            while not _is_locked(lock):
                alive()  # to be killed would not help: the next one would wait as well
                time.sleep(ALIVE_SECONDS)
        yield


def _is_locked(lock: TextIO) -> bool:
    """Whether the lock is ours by now."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


async def _run(agent: Agent, listener: socket.socket, lifeline: Lifeline) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    port = AdminPort(agent.config.admin_token, is_ready=lambda: agent.writer.ready, metrics=agent.metrics)
    async with _together([_show_life(lifeline), *_for_workers(agent)], stop.set):
        async with await port.serve(listener), _together(_for_the_database(agent), stop.set):
            await stop.wait()
        if agent.config.database_url:
            await agent.last_words()


async def _show_life(lifeline: Lifeline) -> None:
    while True:
        lifeline.say()
        await asyncio.sleep(ALIVE_SECONDS)


def _for_workers(agent: Agent) -> list[Coroutine[Any, Any, None]]:
    """What goes on to the end: until a successor's agent takes over, workers have nobody else."""
    url = agent.config.database_url
    jobs = [agent.make_durable()] if agent.config.durability != "os" else []
    if agent.grantor is not None:
        jobs.append(agent.grantor.run())
    if agent.file_feed:
        jobs.append(agent.file_feed.follow(agent.note_applied))
    elif url:
        jobs.append(database.keep("Configuration", url, agent.keep_replica))
    return jobs


def _for_the_database(agent: Agent) -> list[Coroutine[Any, Any, None]]:
    """What is done once more at the end, in order (``last_words``)."""
    url = agent.config.database_url
    if url:
        return [database.keep("Usage", url, agent.ship_usage), database.keep("Heartbeat", url, agent.beat)]
    served = "the file it was given" if agent.file_feed else "the replica it has"
    log.warning("There is no DATABASE_URL: the node runs on %s, and usage stays in the spool", served)
    return []


@contextlib.asynccontextmanager
async def _together(
    jobs: Iterable[Coroutine[Any, Any, None]], when_one_ends: Callable[[], None] = lambda: None
) -> AsyncIterator[None]:
    """Run ``jobs``, which are for ever. An agent that did without one of them would look as well as any."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled():
            log.error("A job of the agent ended, so the agent starts anew", exc_info=task.exception())
            when_one_ends()

    tasks = [asyncio.ensure_future(job) for job in jobs]
    for task in tasks:
        task.add_done_callback(ended)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
