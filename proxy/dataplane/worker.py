"""One worker process: an event loop, its listeners, and everything requests share."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
import sys
import time
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import uvloop

from apimgr.contracts.addresses import EgressRules, Network
from proxy.dataplane import descriptors, stats
from proxy.dataplane.door import Door
from proxy.dataplane.lifeline import Lifeline
from proxy.dataplane.limits.asking import Again, Asker
from proxy.dataplane.limits.table import Table
from proxy.dataplane.listener import IDLE_SECONDS, LEAVING_IDLE_SECONDS, ClientConnection
from proxy.dataplane.request_ids import reseed
from proxy.dataplane.runtime import Replica, Runtime
from proxy.dataplane.timers import TICK, Wheel
from proxy.dataplane.turns import Turns
from proxy.dataplane.upstreams.connect import is_local_address
from proxy.dataplane.upstreams.pool import Pools
from proxy.dataplane.usage.inflight import UNRECORDED_SLOT

if TYPE_CHECKING:
    from proxy.dataplane.config import GatewayConfig
    from proxy.dataplane.tunnel import Tunnel
    from proxy.dataplane.usage.durability import Syncer

log = logging.getLogger(__name__)

DRAIN_SECONDS: Final = 30.0
_RETRY_FULL_SPOOL_SECONDS: Final = 1.0
_LOOPS_DESCRIPTORS: Final = 8  # what the event loop opens for itself
_CHECKED_IN_A_ROUND: Final = 64  # some milliseconds


class Calls(Protocol):
    """Where calls stand while they are under way; ``usage.inflight.CallTable``."""

    def hold(self, known: bytes, method: int, flags: int, client: bytes) -> int: ...

    def progress(self, slot: int, bytes_in: int, bytes_out: int, status: int) -> None: ...


class Recorder(Protocol):
    """Where usage goes; ``usage.spool.Spool``. Raises ``OSError`` or ``SpoolFull`` where it cannot take a frame."""

    def has_room(self, frames: int) -> bool: ...

    @property
    def calls(self) -> Calls | None: ...

    def append(self, frame: bytes, slot: int = 0) -> None: ...


class Worker:
    """What the connections of one process share."""

    def __init__(
        self,
        *,
        replica: Replica,
        recorder: Recorder,
        limits: Table,
        stats_block: memoryview,
        pepper: bytes,
        node_name: str,
        max_connections: int,
        egress: EgressRules,
        max_staleness: int = 0,
        max_per_address: int = 0,
        trusted_proxies: tuple[Network, ...] = (),
        outcome_pages: str = "",
        places: int = sys.maxsize,
    ) -> None:
        self.wheel = Wheel(time.monotonic)
        self._asker = Asker(limits.path.parent) if limits.shared else None
        self.again = Again()
        self.turns = Turns()
        self.runtime = Runtime(replica, limits)
        self.pools = Pools(self.wheel, egress)
        self.stats = stats_block
        self.pepper = pepper
        self.pseudonym = b"apimgr-" + node_name.encode("ascii", "replace").replace(b" ", b"-").replace(b",", b"-")
        self.via = b"\r\nVia: 1.1 " + self.pseudonym + b"\r\n"  # with the end of the line before
        self.max_connections = max_connections
        self.max_staleness = max_staleness
        self.max_per_address = max_per_address
        self.trusted_proxies = trusted_proxies
        self.outcome_pages = outcome_pages
        self.places = places  # for connections, those that are refused included; further callers are not accepted
        self.connections: set[ClientConnection] = set()
        self.addresses: dict[bytes, int] = {}  # how many connections each has
        self.tunnels: set[Tunnel] = set()
        self.draining = False
        self.has_successor = False  # whether somebody else accepts by the time we drain
        self.idle_seconds = IDLE_SECONDS
        self._doors: list[Door] = []
        self.recorder = recorder
        self.syncer: Syncer | None = None  # holds the ends of answers back, where durability is strict
        self._unrecordable_until = 0.0
        self._date = (0, b"")
        self._checked_by = b""
        self._check_at = 0.0
        self._to_check: list[ClientConnection | Tunnel] = []

    @property
    def asker(self) -> Asker:
        """Where to ask for more of limits that several hosts share."""
        assert self._asker is not None, "nobody asks where nothing is shared"
        return self._asker

    def record(self, frame: bytes, slot: int) -> None:
        """Append one usage record; ``slot`` is where the call was held, or 0, or ``UNRECORDED_SLOT``.

        A call that is already made is never failed for it, but no further one begins.
        """
        if slot == UNRECORDED_SLOT:  # what room there is belongs to the calls that are held
            self.stats[stats.GENERATED] += 1
            self.stats[stats.UNRECORDED] += 1
            return
        try:
            self.recorder.append(frame, slot)
        except Exception:
            if not slot:  # else it is still held, and recorded when this process has ended
                self.stats[stats.GENERATED] += 1
                self.stats[stats.UNRECORDED] += 1
            if self.can_record():
                log.exception("A usage record was lost; calls are refused until the spool takes records again")
            self._unrecordable_until = self.wheel.now + _RETRY_FULL_SPOOL_SECONDS
        else:
            # Counted after it is written: who is killed in between leaves a row too many rather than one missing.
            if not slot:
                self.stats[stats.GENERATED] += 1
            self.stats[stats.SPOOLED] += 1
            self.stats[stats.SPOOLED_BYTES] += len(frame)

    def can_record(self) -> bool:
        """Whether the spool can take the record of a further call, and of all that may be in flight."""
        return self.recorder.has_room(len(self.connections)) and self.wheel.now >= self._unrecordable_until

    def could_not_sync(self) -> None:
        """A record may not be on the disk: pass no call on for a while."""
        self._unrecordable_until = self.wheel.now + _RETRY_FULL_SPOOL_SECONDS

    def date_line(self) -> bytes:
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, f"Date: {formatdate(second, usegmt=True)}\r\n".encode("ascii")
        return self._date[1]

    async def serve(
        self, sockets: list[socket.socket], stop: asyncio.Event, alive: Callable[[], None] = lambda: None
    ) -> None:
        """Accept until ``stop`` is set, then finish what is in flight.

        ``alive`` is called once calls are accepted, and from then on at each tick.
        """
        loop = asyncio.get_running_loop()
        self._doors = [Door(sock, lambda: ClientConnection(self), self._room) for sock in sockets]
        if self._asker is not None:
            self._asker.start()
        alive()
        ticking = loop.create_task(self._tick(alive))
        try:
            await stop.wait()
            for door in self._doors:
                await door.shut()
            await self._drain()
        finally:
            ticking.cancel()
            if self._asker is not None:
                self._asker.close()
            self.pools.close()

    def _room(self) -> int:
        return self.places - len(self.connections)

    async def _tick(self, alive: Callable[[], None]) -> None:
        """Whatever goes wrong in one look, the next one comes: every deadline and every revocation hangs on it."""
        while True:
            await asyncio.sleep(TICK)
            await asyncio.sleep(0)  # once more around: what came while we were kept from running is read first
            now = time.time()
            looks: tuple[Callable[[], None], ...] = (
                alive, self.wheel.advance, partial(self._look_around, now), partial(self._recheck, now),
            )  # fmt: skip
            for look in looks:
                try:
                    look()
                except Exception:
                    log.exception("A worker's look at what it has under way failed")

    def _look_around(self, now: float) -> None:
        for door in self._doors:
            door.look()
        self.runtime.check_age(now, self.max_staleness)
        self.runtime.limits.tick()
        if self.syncer is not None and self.syncer.is_stuck():
            self.could_not_sync()
        if self._asker is not None:
            self._asker.tick()

    def _recheck(self, now: float) -> None:
        """See whether what is under way may go on: when the configuration moved, and once a second for what expires."""
        if self._to_check:  # as many as there are take a while; then it is looked again
            return
        moved = self.runtime.replica.fingerprint()
        if moved == self._checked_by and now < self._check_at:
            return
        self._checked_by, self._check_at = moved, now + 1.0
        self._to_check = [*self.connections, *self.tunnels]
        self._check_some()

    def _check_some(self) -> None:
        """A few in each round of the event loop: after a change, who calls has to be found anew for each of them."""
        now = time.time()
        for under_way in self._to_check[-_CHECKED_IN_A_ROUND:]:
            try:
                under_way.recheck(now)
            except Exception:
                log.exception("A call that is under way could not be checked")
        del self._to_check[-_CHECKED_IN_A_ROUND:]
        if self._to_check:
            asyncio.get_running_loop().call_soon(self._check_some)

    def address_left(self, address: bytes) -> None:
        left = self.addresses[address] - 1
        if left:
            self.addresses[address] = left
        else:
            del self.addresses[address]

    def hurry(self) -> None:
        """Drain without waiting for requests that may be on their way."""
        if self.draining:
            for connection in list(self.connections):
                connection.drain(politely=False)

    async def _drain(self) -> None:
        self.draining = True
        self.idle_seconds = LEAVING_IDLE_SECONDS
        for connection in list(self.connections):
            connection.drain(politely=self.has_successor)
        for tunnel in list(self.tunnels):
            tunnel.drain()
        give_up_at = time.monotonic() + DRAIN_SECONDS
        while self.connections and time.monotonic() < give_up_at:
            await asyncio.sleep(TICK / 2)
        for connection in list(self.connections):
            connection.transport.abort()


def run(
    config: GatewayConfig,
    number: int,
    sockets: list[socket.socket],
    ready_fd: int | None = None,
    *,
    recorder: Recorder | None = None,
) -> None:
    """Be worker ``number`` until SIGTERM, or SIGUSR1 once there is a successor; then drain and return.

    A first byte on ``ready_fd`` says that calls are accepted, further ones that this goes on. ``recorder`` takes the
    records instead of the spool.
    """
    # Imported here: the agent's process and tests of this module need neither.
    from proxy.dataplane.replica.reader import ReplicaReader
    from proxy.dataplane.usage.durability import Syncer
    from proxy.dataplane.usage.spool import Spool

    reseed()
    is_strict = config.durability == "strict"
    spool = Spool(config.spool_path, number, budget_bytes=config.spool_bytes, is_strict=is_strict)
    worker = Worker(
        replica=ReplicaReader(config.replica_path, config.stats_offset + number),
        recorder=recorder or spool,
        limits=Table(config.limits_path, time.time(), may_be_alone=config.workers == 1, shared=config.shares_limits),
        stats_block=stats.open_block(config.stats_path, config.stats_offset + number),
        pepper=config.key_pepper,
        node_name=config.node_name,
        max_connections=config.max_connections,
        egress=EgressRules(
            config.egress_allow, [(own.host, own.port) for own in config.own_ports], is_local=is_local_address
        ),
        max_staleness=config.max_staleness,
        max_per_address=config.max_per_address,
        trusted_proxies=config.trusted_proxies,
        outcome_pages=config.outcome_pages,
    )
    if is_strict:
        worker.syncer = Syncer(spool)
    _count_descriptors(worker)
    # What was imported lives as long as the process: collecting it again and again costs latency for nothing.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    uvloop.run(_serve_until_told(worker, sockets, Lifeline(ready_fd)))
    if worker.syncer is not None:
        worker.syncer.close()
    spool.close()
    worker.runtime.limits.close()


def _count_descriptors(worker: Worker) -> None:
    """Let in no more callers than there are descriptors for."""
    limit = descriptors.limit()
    worker.places = descriptors.places(limit, descriptors.in_use() + _LOOPS_DESCRIPTORS)
    worker.pools.many = limit - descriptors.SPARE


async def _serve_until_told(worker: Worker, sockets: list[socket.socket], lifeline: Lifeline) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hand_over() -> None:
        worker.has_successor = True
        stop.set()

    def leave() -> None:
        worker.has_successor = False
        worker.hurry()
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, leave)
    loop.add_signal_handler(signal.SIGUSR1, hand_over)
    await worker.serve(sockets, stop, lifeline.say)
