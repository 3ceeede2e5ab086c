"""How a worker asks the agent for more of a limit, and hears that it was granted: datagrams between their sockets.

A call whose lease is spent waits for a moment, mostly under a millisecond; without an answer in time it is decided
without the grantor. A question is ``pid:u32`` and the slots lacked, an answer the slots that were looked at, as
``u64``; what there is to know stands in the table, so a datagram that is lost or that lies costs a wait and nothing
else.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

log = logging.getLogger(__name__)

WAIT_SECONDS: Final = 0.3
FULL_SECONDS: Final = 0.002  # a queue that is full is tried again after that
ABSENT_SECONDS: Final = 0.02  # and so is an agent that is not there: it may be about to be replaced
AGAIN_SECONDS: Final = 0.002  # and what somebody stands on, but ever later …
SELDOM_SECONDS: Final = 0.05  # … to this
GRANTOR: Final = "grantor"
MOST_SLOTS: Final = 500  # in one datagram
_PID: Final = struct.Struct("<I")
_WORD_BYTES: Final = 8


class Mailbox:
    """A socket in ``folder`` that takes datagrams by name. Paths go by the folder's descriptor: they may be long."""

    def __init__(self, folder: Path, name: str) -> None:
        self._own = folder / name
        with contextlib.ExitStack() as had:  # given back if anything fails
            self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            had.callback(os.close, self._folder)
            self._own.unlink(missing_ok=True)
            self._sweep()
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
            had.callback(self.socket.close)
            self.socket.bind(self._address(name))
            had.pop_all()

    def _address(self, name: str) -> str:
        return f"/proc/self/fd/{self._folder}/{name}"

    def _sweep(self) -> None:
        """Remove what workers left that were killed."""
        for left in self._own.parent.iterdir():
            if left.name.isdecimal():
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
                    if probe.connect_ex(self._address(left.name)) == errno.ECONNREFUSED:
                        left.unlink()

    def send(self, name: str, data: bytes) -> None:
        """Never waits: raises ``BlockingIOError`` if the other's queue is full, ``OSError`` if nobody is there."""
        self.socket.sendto(data, self._address(name))

    def receive(self) -> Iterable[bytes]:
        """All that has come."""
        with contextlib.suppress(BlockingIOError):
            while True:
                yield self.socket.recv(65_536)

    def close(self) -> None:
        self.socket.close()
        self._own.unlink(missing_ok=True)
        os.close(self._folder)


def question(pid: int, slots: Iterable[int]) -> bytes:
    return _PID.pack(pid) + answer(slots)


def read_question(data: bytes) -> tuple[int, list[int]]:
    """The process that asks, and the slots it lacks; what is not a question comes back without slots."""
    if len(data) < _PID.size:
        return 0, []
    return _PID.unpack_from(data)[0], read_answer(data[_PID.size :])


def answer(slots: Iterable[int]) -> bytes:
    return b"".join(slot.to_bytes(_WORD_BYTES, "little") for slot in slots)


def read_answer(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + _WORD_BYTES], "little") for at in range(0, len(data), _WORD_BYTES)]


class Waiting(Protocol):
    """A call that waits.

    For a grant until ``grant_due_at`` (monotonic seconds); then it goes on whether it was answered or not.
    """

    grant_due_at: float

    def go_on(self, *, waited: bool) -> None: ...


class Again:
    """Calls that are made again, after ever longer pauses, until they are decided: somebody stands on a lock."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._pause = AGAIN_SECONDS

    def wait(self, call: Waiting) -> None:
        self._waiting.append(call)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(self._pause, self._make)

    def _make(self) -> None:
        waiting, self._waiting = self._waiting, []
        self._pause = min(self._pause * 2, SELDOM_SECONDS)
        for call in waiting:
            try:
                call.go_on(waited=False)
            except Exception:
                log.exception("A call that waited could not go on; the others do")
        if not self._waiting:
            self._pause = AGAIN_SECONDS


class Asker:
    """A worker's side. Calls go on in the order in which they came."""

    def __init__(self, folder: Path) -> None:
        self._mailbox = Mailbox(folder, str(os.getpid()))
        self._waiting: dict[Waiting, tuple[int, ...]] = {}
        self._by_slot: dict[int, dict[Waiting, None]] = {}
        self._unsent: list[int] = []

    def start(self) -> None:
        """Listen, in the event loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._mailbox.socket.fileno(), self._heard)

    def close(self) -> None:
        self._loop.remove_reader(self._mailbox.socket.fileno())
        self._mailbox.close()

    def ask(self, slots: tuple[int, ...], call: Waiting) -> None:
        """Have ``call`` go on once one of the slots was looked at. Asked again, the time it has goes on."""
        now = time.monotonic()
        call.grant_due_at = call.grant_due_at or now + WAIT_SECONDS
        self._waiting[call] = slots
        self._want([slot for slot in slots if slot not in self._by_slot])
        for slot in slots:
            self._by_slot.setdefault(slot, {})[call] = None
        if call.grant_due_at <= now:
            self._loop.call_soon(self._release, call, True)  # noqa: FBT003 - call_soon passes no names

    def _send(self) -> None:
        slots, self._unsent = [slot for slot in dict.fromkeys(self._unsent) if slot in self._by_slot], []
        while slots:
            try:
                self._mailbox.send(GRANTOR, question(os.getpid(), slots[:MOST_SLOTS]))
            except OSError as error:
                self._unsent = slots
                pause = FULL_SECONDS if isinstance(error, BlockingIOError) else ABSENT_SECONDS
                self._loop.call_later(pause, self._send)
                return
            slots = slots[MOST_SLOTS:]

    def _heard(self) -> None:
        for data in self._mailbox.receive():
            for slot in read_answer(data):
                self._release_slot(slot, waited=False)

    def tick(self) -> None:
        """Let those go on who have waited long enough; for who waits still, what was asked in vain is asked again."""
        now = time.monotonic()
        late = [call for call in self._waiting if call.grant_due_at <= now]
        in_vain = {slot for call in late for slot in self._waiting[call]}
        for call in late:
            self._release(call, waited=True)
        self._want(slot for slot in in_vain if slot in self._by_slot)

    def _want(self, slots: Iterable[int]) -> None:
        """Ask, not at once: what is lacked in this turn of the loop goes into one question."""
        is_first = not self._unsent
        self._unsent += slots
        if is_first and self._unsent:
            self._loop.call_soon(self._send)

    def _release_slot(self, slot: int, *, waited: bool) -> None:
        for call in self._by_slot.pop(slot, {}):
            self._release(call, waited)

    def _release(self, call: Waiting, waited: bool) -> None:
        slots = self._waiting.pop(call, None)
        if slots is None:
            return  # it went on meanwhile, and must not be made twice
        for slot in slots:
            others = self._by_slot.get(slot, {})
            others.pop(call, None)
            if not others:
                self._by_slot.pop(slot, None)
        call.go_on(waited=waited)
