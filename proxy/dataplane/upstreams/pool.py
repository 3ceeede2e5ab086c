"""The keep-alive connections to one upstream."""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakValueDictionary

from mypy_extensions import mypyc_attr

from apimgr.contracts.addresses import EgressRules
from apimgr.contracts.snapshot import UpstreamDocument
from proxy.dataplane.runtime import Target
from proxy.dataplane.timers import Wheel
from proxy.dataplane.upstreams.connect import CannotConnect, Connector, resolve
from proxy.dataplane.upstreams.connection import UpstreamConnection

IDLE_SECONDS: Final = 50.0  # under the 60 s that most servers keep an idle connection
_MAX_WAITING: Final = 1024

# Called with a connection, or with ``None`` and why there is none.
Ready = Callable[[UpstreamConnection | None, CannotConnect | None], None]


@mypyc_attr(native_class=False)  # it is referred to weakly
class Pool:
    """Takes the connection used last, so that a quiet upstream's spare ones grow old and close.

    No more connections are open, or being opened, than the upstream may have; callers beyond that wait in order, and
    callers beyond ``_MAX_WAITING`` are refused at once.
    """

    def __init__(self, document: UpstreamDocument, wheel: Wheel, connector: Connector, pools: Pools) -> None:
        self.wheel = wheel
        self._pools = pools
        self.read_timeout = document.read_timeout_ms / 1000
        self.connect_timeout = document.connect_timeout_ms / 1000
        self._max_connections = document.max_connections
        self._connector = connector
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Ready] = deque()

    def take(self, ready: Ready, *, fresh: bool = False) -> UpstreamConnection | None:
        """A connection at once, or ``None`` and later ``ready`` is called."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self.forget(connection)
        if len(self._open) + len(self._connecting) < self._max_connections:
            self._connect(ready)
        elif len(self._waiting) < _MAX_WAITING:
            self._waiting.append(ready)
        else:
            asyncio.get_running_loop().call_soon(ready, None, CannotConnect("upstream_saturated", "", "wait"))
        return None

    def give_up(self, ready: Ready) -> None:
        """The one who waited went away."""
        if ready in self._waiting:
            self._waiting.remove(ready)

    def put_back(self, connection: UpstreamConnection) -> None:
        if self._waiting:
            if connection.usable:
                self._waiting.popleft()(connection, None)
            else:
                self.forget(connection)
            return
        self._idle.append(connection)
        self.wheel.arm(connection, IDLE_SECONDS)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection closed: whoever waits may open another."""
        if connection not in self._open:
            return
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._waiting:
            self._connect(self._waiting.popleft())

    def close(self) -> None:
        """Close what is idle; connections in use end with their exchange."""
        for connection in list(self._idle):
            connection.close()

    def _connect(self, ready: Ready) -> None:
        # A task per connection, not per request: connections are opened once and kept.
        task = asyncio.get_running_loop().create_task(self._open_one(ready))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)

    async def _open_one(self, ready: Ready) -> None:
        try:
            connection = await self._connect_once_more()
            if not connection.usable:  # lost before we had it: it will not say so again
                raise CannotConnect("upstream_unreachable", "The upstream closed the connection at once.", "connect")
        except CannotConnect as error:
            task = asyncio.current_task()
            if task is not None:
                self._connecting.discard(task)
            ready(None, error)
            self._next_in_line(error)
        else:
            self._open.add(connection)
            self._pools.opened(connection)
            ready(connection, None)

    async def _connect_once_more(self) -> UpstreamConnection:
        """A connection, if need be in the place of those that idle."""
        try:
            return await self._connector.open(lambda: UpstreamConnection(self), self.connect_timeout)
        except CannotConnect as error:
            if error.code != "gateway_overloaded":
                raise
        self._pools.close()
        await asyncio.sleep(0)  # that is when they are closed
        return await self._connector.open(lambda: UpstreamConnection(self), self.connect_timeout)

    def _next_in_line(self, error: CannotConnect) -> None:
        """A connection did not come about, so there is room for another."""
        if self._open:
            if self._waiting:
                self._connect(self._waiting.popleft())
            return
        # There is none at all: whoever waits would fare no better, only later.
        waiting, self._waiting = self._waiting, deque()
        for ready in waiting:
            ready(None, error)


class Pools:
    """One pool per upstream; those of an upstream that changed are closed once they are idle."""

    def __init__(self, wheel: Wheel, rules: EgressRules) -> None:
        self.resolve = resolve
        self.many = sys.maxsize  # descriptors, from which on idle connections are too dear to keep
        self._wheel = wheel
        self._rules = rules
        # A pool lives as long as a compiled version or a connection refers to it.
        self._pools: WeakValueDictionary[UpstreamDocument, Pool] = WeakValueDictionary()

    def of(self, target: Target) -> Pool:
        pool = target.pool
        if pool is None:
            pool = self._pools.get(target.document) or self._new(target)
            self._pools[target.document] = target.pool = pool
        return pool

    def _new(self, target: Target) -> Pool:
        connector = Connector(target.host, target.port, tls=target.tls, rules=self._rules, resolve=self.resolve)
        return Pool(target.document, self._wheel, connector, self)

    def opened(self, connection: UpstreamConnection) -> None:
        """Note a new connection. Numbers of descriptors are given from below, so its own says how many there are."""
        if connection.transport.get_extra_info("socket").fileno() >= self.many:
            self.close()

    def close(self) -> None:
        """Close what is idle; connections in use end with their exchange."""
        for pool in list(self._pools.values()):
            pool.close()
