"""Where callers come in: accepts connections while there is room for them, and leaves the others in the queue.

An event loop's own server accepts whatever comes: out of descriptors it spins, or closes callers that it did not serve.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable
from typing import Final

from proxy.dataplane.descriptors import EXHAUSTED

log = logging.getLogger(__name__)

_AT_ONCE: Final = 16  # then others have a turn: our callers, and the workers beside us
_SAY_AGAIN_SECONDS: Final = 60.0


class Door:
    """One listening socket. ``room`` says how many more connections there may be; call ``look`` now and then."""

    def __init__(
        self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], room: Callable[[], int]
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._room = room
        self._loop = asyncio.get_running_loop()
        self._entering: set[asyncio.Task[object]] = set()  # accepted, and not a connection yet
        self._is_open = False
        self._say_at = 0.0
        listener.setblocking(False)  # noqa: FBT003
        self.look()

    def look(self) -> None:
        """Open, if it was closed and there is room by now."""
        if not self._is_open and self._room() > len(self._entering):
            self._is_open = True
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _close(self, reason: str) -> None:
        self._is_open = False
        self._loop.remove_reader(self._listener.fileno())
        if reason and time.monotonic() >= self._say_at:
            self._say_at = time.monotonic() + _SAY_AGAIN_SECONDS
            log.warning("No more callers are let in for now, they wait in the queue: %s", reason)

    def _accept(self) -> None:
        for _ in range(_AT_ONCE):
            if self._room() <= len(self._entering):
                self._close("there are as many as there may be")
                return
            try:
                caller, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    self._close(str(error))
                    return
                continue  # whoever it was left already
            entering: asyncio.Task[object] = self._loop.create_task(self._enter(caller))
            self._entering.add(entering)
            entering.add_done_callback(self._entering.discard)

    async def _enter(self, caller: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, caller)
        except OSError:
            caller.close()

    async def shut(self) -> None:
        """Accept no more, for good. Who was accepted is a connection by then."""
        if self._is_open:
            self._close("")
        self._room = lambda: 0
        self._listener.close()
        if self._entering:
            await asyncio.wait(self._entering)
