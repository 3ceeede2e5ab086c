"""A gateway worker without sockets, played by a script: what came of whom, in which order, and what became of it.

A script is bytes. 0xFF and a letter begin a step, and what follows up to the next is the step's own; before the first
step stands what a caller sends. In upper case the upstream does what the caller does in lower case.

    c C  sends these bytes                              p P  takes no more of what it is sent
    e E  sends no more, but may still read              r R  takes it again
    x X  is gone                                        t    every deadline that runs passes
    h    connecting takes time, until
    o f  it has succeeded, or failed                    k d  the key is revoked; the worker drains

A caller who sends after the last one has gone is another one, from another address.
"""

from __future__ import annotations

import asyncio
import logging
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

from apimgr.contracts import snapshot
from apimgr.contracts.addresses import EgressRules
from apimgr.contracts.usage import UsageRecord
from proxy.dataplane import stats
from proxy.dataplane.limits.table import CELLS, COUNT, SLOT_WORDS, START, Table
from proxy.dataplane.listener import ClientConnection
from proxy.dataplane.timers import NEVER
from proxy.dataplane.upstreams.connect import CannotConnect, Connector, resolve
from proxy.dataplane.upstreams.connection import UpstreamConnection
from proxy.dataplane.upstreams.pool import Pool, Ready
from proxy.dataplane.worker import Worker
from tests.proxy.dataplane.support import (
    PEPPER,
    PLAN,
    SUBSCRIPTION,
    VERSION,
    MemoryRecorder,
    MemoryReplica,
    World,
    digest,
)

KEY = "fuzz_live_00000000000000000000000000000000000000000001OO24r"
CALLERS = 200  # addresses 192.0.2.1 and up
MAX_BODY = 2000
QUOTA = 3
STEP = re.compile(rb"\xff([ceCExXpPrRthofkd])")
LIMITS = (
    snapshot.LimitDocument(1, "quota", QUOTA, "month"),
    snapshot.LimitDocument(2, "concurrency", 2, "none"),
)
UPSTREAM = snapshot.UpstreamDocument("http://upstream.test/base", max_connections=2)
KEYED = replace(VERSION, upstream=UPSTREAM, max_body_bytes=MAX_BODY)
OPEN = replace(
    KEYED, id=21, api_id=11, name="open", base_path="/open", authentication="none", upgrades=("websocket", "chat"),
    limits=LIMITS[1:], max_message_bytes=200, operations=(), unknown_operation="pass",
)  # fmt: skip


class Pipe(asyncio.Transport):
    """One end of a connection, as an event loop would give it.

    ``written`` is all that the other end was sent, ``heard`` what came of it, and ``heard_when`` says how much had come
    when a byte of ``written`` was given to us, if a ``write`` began with it.
    """

    def __init__(self, stage: Stage, protocol: asyncio.BaseProtocol, peer: str) -> None:
        super().__init__({"peername": (peer, 4711)})
        self.peer = peer
        self.written, self.heard = bytearray(), bytearray()
        self.heard_when: dict[int, int] = {}
        self.was_aborted = self.is_lost = False
        self._stage = stage
        self._protocol: Any = protocol
        self._unread: list[bytes | None] = []
        self._unsent = bytearray()
        self._reads, self._takes = True, True
        self._is_closing = self._is_paused = self._has_ended = self._has_said_end = False

    # --- for the gateway ----------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert isinstance(data, bytes)
        assert not self._has_said_end, "nothing is written after the end"
        if self._is_closing:
            return
        self.heard_when[len(self.written) + len(self._unsent)] = len(self.heard)
        if self._takes:
            self.written += data
            return
        self._unsent += data
        if self._unsent and not self._is_paused:
            self._is_paused = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        self._has_said_end = True

    def can_write_eof(self) -> bool:
        return True

    def get_write_buffer_size(self) -> int:
        return len(self._unsent)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, 0

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            if not self._unsent:
                self._stage.soon(self.lose)

    def abort(self) -> None:
        self._is_closing = self.was_aborted = True
        self._unsent.clear()
        self._stage.soon(self.lose)

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True
        self._stage.soon(self._deliver)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    # --- for the other end --------------------------------------------------------------------------------------

    def send(self, data: bytes | None) -> None:
        """Bytes, or ``None`` for the end of them."""
        if not self._has_ended:
            self._has_ended = data is None
            self._unread.append(data)
            self._deliver()

    def _deliver(self) -> None:
        while self._unread and self._reads and not self._is_closing:
            data = self._unread.pop(0)
            if data is None:
                if not self._protocol.eof_received():
                    self.close()
            elif data:
                self.heard += data
                self._protocol.data_received(data)

    def take(self, *, takes: bool) -> None:
        self._takes = takes
        if not takes or self.is_lost:
            return
        self.written += self._unsent
        self._unsent.clear()
        if self._is_closing:
            self._stage.soon(self.lose)
        elif self._is_paused:
            self._is_paused = False
            self._protocol.resume_writing()

    def lose(self, error: Exception | None = None) -> None:
        if not self.is_lost:
            self.is_lost = self._is_closing = True
            self._protocol.connection_lost(error)


class Stage:
    """What stands when the script is over: every connection that there was, and all that was recorded.

    While it plays it is the event loop, as far as connections need one.
    """

    def __init__(self) -> None:
        self.table, block = _files()
        self.replica = MemoryReplica()
        self.replica.documents |= _documents()
        self.recorder = MemoryRecorder()
        self.worker = Worker(
            replica=self.replica, recorder=self.recorder, limits=self.table, stats_block=block, pepper=PEPPER,
            node_name="test", max_connections=10, egress=EgressRules([]),
        )  # fmt: skip
        self.callers: list[tuple[ClientConnection, Pipe]] = []
        self.upstreams: list[tuple[UpstreamConnection, Pipe]] = []
        self.connecting: list[tuple[Pool, Ready]] = []
        self.sent: list[bytearray] = []  # by each caller
        self.under_way = self.spent = 0  # calls, by the limits' table
        self._holds = False
        self._due: list[Callable[[], None]] = []
        self.worker.runtime.refresh()
        for version_id in (KEYED.id, OPEN.id):
            version = self.worker.runtime.version(version_id)
            assert version is not None
            version.target.pool = self._pool(version.document.upstream)

    def _pool(self, document: snapshot.UpstreamDocument) -> Pool:
        """One that connects when the script says so."""
        connector = Connector("upstream.test", 80, tls=False, rules=EgressRules([]), resolve=resolve)
        pool = Pool(document, self.worker.wheel, connector, self.worker.pools)
        # On the object, for a compiled class has no heirs.
        pool._connect = lambda ready: self.connecting.append((pool, ready))  # type: ignore[method-assign]
        return pool

    def _open(self, pool: Pool, ready: Ready) -> None:
        connection = UpstreamConnection(pool)
        pipe = Pipe(self, connection, "192.0.2.254")
        self.upstreams.append((connection, pipe))
        pool._open.add(connection)
        connection.connection_made(pipe)
        ready(connection, None)

    def soon(self, call: Callable[[], None]) -> None:
        self._due.append(call)

    def call_soon(self, call: Callable[..., None], *given: object) -> None:
        self.soon(partial(call, *given))

    def _settle(self) -> None:
        rounds = 0
        while self._due or (self.connecting and not self._holds):
            if self._due:
                self._due.pop(0)()
            else:
                self._open(*self.connecting.pop(0))
            rounds += 1
            assert rounds < 10_000, "it never comes to rest"

    def play(self, script: bytes) -> None:
        """All of it, and then everybody is gone."""
        first, *rest = STEP.split(script)
        for letter, data in [(b"c", first), *zip(rest[::2], rest[1::2], strict=True)]:
            if data or letter not in b"cC":
                self._step(letter, data)
                self._settle()
        self._holds = False
        for _, pipe in self.callers + self.upstreams:
            pipe.lose()
            self._settle()
        self._take_stock()

    def _step(self, letter: bytes, data: bytes) -> None:
        if letter in b"hof":
            self._holds = letter == b"h"
            if letter == b"f":
                connecting, self.connecting = self.connecting, []
                for pool, ready in connecting:
                    error = CannotConnect("upstream_unreachable", "Nobody is there.", "connect")
                    ready(None, error)
                    pool._next_in_line(error)
        elif letter == b"t":
            self._pass_time()
        elif letter == b"k":
            credential = self.replica.get("credential", digest(KEY))
            assert isinstance(credential, snapshot.CredentialDocument)
            self.replica.put(replace(credential, state="revoked"))
            self.worker._recheck(time.time())
        elif letter == b"d":
            self.worker.draining = True
            for connection in list(self.worker.connections):
                connection.drain(politely=True)
        else:
            self._of_one_side(letter, data)

    def _of_one_side(self, letter: bytes, data: bytes) -> None:
        pipe = self._caller(begins=letter == b"c") if letter.islower() else self._upstream()
        if pipe is None:
            return
        match letter.lower():
            case b"c":
                if letter.islower():
                    self.sent[-1] += data
                pipe.send(data)
            case b"e":
                pipe.send(None)
            case b"x":
                pipe.lose(ConnectionResetError())
            case b"p" | b"r":
                pipe.take(takes=letter.lower() == b"r")

    def _caller(self, *, begins: bool) -> Pipe | None:
        if self.callers and not self.callers[-1][1].is_lost:
            return self.callers[-1][1]
        if not begins or len(self.callers) == CALLERS:
            return None
        connection = ClientConnection(self.worker)
        pipe = Pipe(self, connection, f"192.0.2.{len(self.callers) + 1}")
        self.callers.append((connection, pipe))
        self.sent.append(bytearray())
        connection.connection_made(pipe)
        return pipe

    def _upstream(self) -> Pipe | None:
        """The connection that is in use, or else the one that was opened last."""
        there = [(connection, pipe) for connection, pipe in self.upstreams if not pipe.is_lost]
        in_use = [pipe for connection, pipe in there if connection.receiver is not None]
        return in_use[-1] if in_use else there[-1][1] if there else None

    def _pass_time(self) -> None:
        timed = [*self.worker.connections, *self.worker.tunnels, *(connection for connection, _ in self.upstreams)]
        for entry in timed:
            if entry.deadline != NEVER:
                entry.deadline = NEVER
                entry.deadline_passed()

    # --- what is left -------------------------------------------------------------------------------------------

    @property
    def records(self) -> list[UsageRecord]:
        return self.recorder.records

    def _take_stock(self) -> None:
        """See what is left in the table, and leave none of it to the next script."""
        cells, calls = self.table.cells, self.table.calls
        quota, *concurrent = _slots()
        self.spent = cells[quota + COUNT]
        cells[quota + START] = cells[quota + COUNT] = 0
        self.under_way = sum(sum(calls[(slot + CELLS) * 4 : (slot + SLOT_WORDS) * 4]) for slot in concurrent)


@cache
def _files() -> tuple[Table, memoryview]:
    """The same for all scripts."""
    with tempfile.TemporaryDirectory(prefix="apimgr-fuzz-") as folder:
        table = Table(Path(folder, "limits"), time.time(), may_be_alone=True)
        return table, stats.open_block(Path(folder, "stats"), 0)


@cache
def _slots() -> tuple[int, ...]:
    """Where in the table calls are counted: against the quota, and under way."""
    owners = (SUBSCRIPTION.spender, SUBSCRIPTION.spender, -OPEN.api_id)
    limits = (*LIMITS, *OPEN.limits)
    return tuple(_files()[0].slot(owner, limit, 0, 0) for owner, limit in zip(owners, limits, strict=True))


@cache
def _documents() -> dict[tuple[str, str], snapshot.Document]:
    world = World(key=KEY, version=KEYED, plan=replace(PLAN, limits=LIMITS, counts_failures=False))
    world.publish()
    world.replica.put(OPEN, snapshot.RouteDocument("", OPEN.base_path, OPEN.id))
    return world.replica.documents


class Logged(AssertionError):
    """The gateway logged something, as it does where it met what it did not expect."""


class _Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise Logged(self.format(record))


@contextmanager
def nothing_logged() -> Iterator[None]:
    log, handler = logging.getLogger("proxy.dataplane"), _Raising(logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


@contextmanager
def running(stage: Stage) -> Iterator[None]:
    """``stage`` is what ``asyncio.get_running_loop`` answers, in place of a loop that runs already, as a browser's."""
    before = asyncio._get_running_loop()
    asyncio._set_running_loop(cast("asyncio.AbstractEventLoop", stage))
    try:
        yield
    finally:
        asyncio._set_running_loop(before)


def play(script: bytes) -> Stage:
    stage = Stage()
    with nothing_logged(), running(stage):
        stage.play(script)
    return stage
