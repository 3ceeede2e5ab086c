"""The keep-alive connections to one upstream."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from typing import Final
from weakref import WeakValueDictionary

from apimgr.contracts.snapshot import UpstreamDocument
from proxy.dataplane.runtime import Target
from proxy.dataplane.timers import Wheel
from proxy.dataplane.upstreams.connection import UpstreamConnection

IDLE_SECONDS: Final = 50.0  # under the 60 s that most servers keep an idle connection
_MAX_WAITING: Final = 1024

Ready = Callable[[UpstreamConnection | None, str], None]


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()


class Pool:
    """Takes the connection used last, so that a quiet upstream's spare ones grow old and close."""

    def __init__(self, target: Target, wheel: Wheel) -> None:
        self.wheel = wheel
        self.read_timeout = target.document.read_timeout_ms / 1000
        self._target = target
        self._idle: list[UpstreamConnection] = []
        self._open: set[UpstreamConnection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._waiting: deque[Ready] = deque()

    def take(self, ready: Ready, *, fresh: bool = False) -> UpstreamConnection | None:
        """A connection at once, or ``None`` and later ``ready(connection, "")`` or ``ready(None, code)``."""
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable:
                return connection
            self.forget(connection)
        if len(self._open) + len(self._connecting) < self._target.document.max_connections:
            self._connect(ready)
        elif len(self._waiting) < _MAX_WAITING:
            self._waiting.append(ready)
        else:
            asyncio.get_running_loop().call_soon(ready, None, "upstream_saturated")
        return None

    def give_up(self, ready: Ready) -> None:
        """The one who waited went away."""
        if ready in self._waiting:
            self._waiting.remove(ready)

    def put_back(self, connection: UpstreamConnection) -> None:
        if self._waiting:
            self._waiting.popleft()(connection, "")
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
        target = self._target
        try:
            async with asyncio.timeout(target.document.connect_timeout_ms / 1000):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: UpstreamConnection(self),
                    target.host,
                    target.port,
                    ssl=_tls() if target.tls else None,
                    server_hostname=target.host if target.tls else None,
                )
        except TimeoutError:
            ready(None, "upstream_timeout")
        except (OSError, ssl.SSLError, UnicodeError):
            ready(None, "upstream_unreachable")
        else:
            self._open.add(connection)
            ready(connection, "")


class Pools:
    """One pool per upstream; those of an upstream that changed are closed once they are idle."""

    def __init__(self, wheel: Wheel) -> None:
        self._wheel = wheel
        # A pool lives as long as a compiled version or a connection refers to it.
        self._pools: WeakValueDictionary[UpstreamDocument, Pool] = WeakValueDictionary()

    def of(self, target: Target) -> Pool:
        pool = target.pool
        if pool is None:
            pool = self._pools.get(target.document) or Pool(target, self._wheel)
            self._pools[target.document] = target.pool = pool
        return pool

    def close(self) -> None:
        for pool in list(self._pools.values()):
            pool.close()
