"""What was spent of every limit, in one memory-mapped file that all workers of the node share.

A *slot* holds the state of one limit for one owner, and what the limit is. Spending is a few 8-byte stores to pages the
kernel keeps: they survive ``kill -9`` and cost no system call. Who looks and then spends does so under a lock of the
owner, a POSIX lock of one byte, which the kernel releases when its process dies.

The file, in 64-bit words::

    0            header: magic, changes, next slot, first free slot, columns; what the grantor says; where stale slots
                 are looked for
    64           buckets: the first slot of each chain of slots whose keys hash alike
    64 + 16384   slots of 32 words, the first one unused because 0 means none

Rules that make ``kill -9`` at any point harmless: an index is changed by one store that publishes what is complete; a
slot that was taken and not published is found again by ``_rebuild``, which the first process runs; a period's count is
put aside before the slot counts another one (``earlier``).

Locks, by where their byte lies: ``_PRESENCE`` (shared by every process that has the file open; exclusive for one that
is alone), ``_TABLE`` (around the index), ``_COLUMNS`` (one byte per process that counts calls under way, held for its
life) and ``_OWNERS``. Whoever holds a lock of an owner never waits for that of the table.

A process may be stopped, or wait for a page of the disk, while it holds a lock. Nobody waits for one longer than
``PATIENCE_SECONDS``: then it is ``Stuck``, and until it is had again further attempts do not wait at all.

The magic says how all of this is laid out; its last digit grows with every change of that. Who finds the file in use by
processes that lay it out otherwise keeps out (``OtherVersion``): an upgrade is given up rather than that two versions
count in each other's words. Who finds it so at a start, and nobody there, sets it aside. From the first release on what
was spent must not be forgotten for that: ADR 0009 says what has to come with the next change.

A process that is *alone* does not lock to spend. A newcomer *knocks* by changing the word ``CHANGES``, which is read
before each spending, and waits until the one who was alone has taken note.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import secrets
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from apimgr.contracts.snapshot import LimitDocument

log = logging.getLogger(__name__)

_FAMILY: Final = b"APIMGRL"
_MAGIC_BYTES: Final = _FAMILY + b"2"
MAGIC: Final = int.from_bytes(_MAGIC_BYTES, "little")
CHANGES: Final = 1  # in the header: another number whenever a slot changed hands or somebody knocked
_NEXT, _FREE, _COLUMN_COUNT = 2, 3, 4
# In the header, of limits that several hosts share (``grantor``):
GRANTED_UNTIL: Final = 5  # Unix nanoseconds until which the grantor can be counted on
INCARNATION: Final = 6  # of the grantor's memory to which all that this node holds has been told
NODE_ID: Final = 7  # by which the grantor knows this table
SEQUENCE: Final = 8  # of what was said to the grantor last; it grows whatever the clock does
# In the header, of the round in which stale slots are given up: the slot to look at next, 0 between rounds; when it
# began, in Unix seconds; and how many were given up in it.
_LOOK_AT, _LOOKED_SINCE, _GIVEN_UP = 9, 10, 11
_HEADER_WORDS: Final = 64
_BUCKETS: Final = 16_384
_BASE: Final = _HEADER_WORDS + _BUCKETS
SLOT_WORDS: Final = 32
_FIRST_SLOTS: Final = 1024
_LEAST_BYTES: Final = (_BASE + 2 * SLOT_WORDS) * 8

# The words of a slot. What a limit is (the first five) can be read by whoever wants to know who needs what.
OWNER: Final = 0  # a subscription's ``spender``, or an API's below zero; 0 in a slot that is free
LIMIT: Final = 1
FORM: Final = 2  # kind + 256 * period: indexes into KINDS and PERIODS
AMOUNT: Final = 3
ANCHOR: Final = 4  # of a billing month, Unix seconds
CHAIN: Final = 5  # the next slot in the bucket, or the next free one
START: Final = 6  # of a quota: when the period began that was counted last, Unix seconds
COUNT: Final = 7  # of a quota: calls in that period; of a rate: when the bucket is full again, Unix nanoseconds
# Of limits that several hosts share (``leased``):
LEASE: Final = 8  # calls that may still be spent of what was granted; of concurrency: how many may be under way here
LEASE_UNTIL: Final = 9  # of a rate or concurrency: Unix nanoseconds; what is left by then has lapsed
REFUSED_UNTIL: Final = 10  # Unix nanoseconds; until then the grantor has nothing to grant
ASKED: Final = 11  # calls that found the lease empty since the grantor last took note
SPENT: Final = 12  # calls spent, ever: how fast it grows says how much to ask for
LEFT: Final = 13  # of a rate: calls left on all hosts beside the lease, as the grantor said last
FULL_AT: Final = 14  # of a rate: Unix nanoseconds at which the bucket of all hosts is full again
OTHERS: Final = 15  # of a quota or concurrency: calls that other hosts hold or have spent, as the grantor said last
CELLS: Final = 16  # of concurrency: calls under way, 16 bits for each column, to the end of the slot
EARLIER: Final = 16  # of a quota: start and count of other periods, each in two words (``earlier``) …
FORGOTTEN: Final = 30  # … and of those that are forgotten: the start of the last one, and the most of their counts

KINDS: Final = ("", "rate", "quota", "concurrency")
PERIODS: Final = ("", "second", "minute", "hour", "day", "month", "billing", "none")

MAX_COLUMNS: Final = (SLOT_WORDS - CELLS) * 4
MAX_CELL: Final = 0xFFFF

_TABLE: Final = 1 << 60
_PRESENCE: Final = _TABLE + 1
_COLUMNS: Final = _TABLE + 16
_OWNERS: Final = 1 << 61
_OWNER_BYTES: Final = 1 << 40
PATIENCE_SECONDS: Final = 0.002  # whoever spends and runs holds a lock for some microseconds
STUCK_SECONDS: Final = 1.0  # who stands on a lock for so long is not awaited any more
_AT_ONCE: Final = 16  # attempts before the first pause: who holds it is mostly about to let go
_PAUSE_SECONDS: Final = 0.00005
_FORGOTTEN_SECONDS: Final = 1.0  # without an attempt: that a lock was stuck says nothing any more
_KNOCK_SECONDS: Final = 0.005
_SETS_ASIDE_SECONDS: Final = 1.0  # by then, who is alone with a file of another version has set it aside, or uses it
# A bucket that is full is as good as a new one, and yet its owner may call again in a moment: were such slots taken
# whenever one is wanted, they would change hands with each call, and every meter would look for its own each time.
_GIVE_UP_EVERY_SECONDS: Final = 600
_STEP: Final = 512  # slots that are looked at while others wait for the index
_STRAIGHT_SECONDS: Final = 60.0  # a clock that goes on by so much more or less than another has leapt
_DAY: Final = 86_400
_LOCK: Final = "hhqqi0q"  # struct flock of 64-bit Linux


@dataclass(frozen=True, slots=True)
class Described:
    """What a slot is for."""

    at: int
    owner: int
    limit_id: int
    kind: str
    period: str
    amount: int
    anchor: int


def owner_lock(owner: int) -> int:
    """Where the byte lies that is locked to spend of any limit of ``owner``."""
    return _OWNERS + owner % _OWNER_BYTES


class Stuck(Exception):
    """Somebody stands on a lock, and has for so many ``seconds`` at least."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"a lock of the limits' table has been held for {seconds:.3f} s")
        self.seconds = seconds


class OtherVersion(Exception):
    """The table is in use by processes that lay it out otherwise."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The limits' table {path} is in use by processes of another version, which lay it out otherwise:"
            " stop them all before this one is started"
        )


class Lock:
    """Locks of the table, always in the same order. ``with`` it, they are ours; raises ``Stuck``. May be used again.

    ``stuck`` is what the process knows of locks that somebody stands on: since when, and when it was last seen.
    """

    __slots__ = ("_fd", "_places", "_stuck")

    def __init__(self, fd: int, places: Iterable[int], stuck: dict[int, tuple[float, float]]) -> None:
        self._fd = fd
        self._places = tuple(sorted(set(places)))
        self._stuck = stuck

    def __enter__(self) -> None:
        in_the_way = self._try()
        if in_the_way:
            self._wait(in_the_way)
        if self._stuck:
            for place in self._places:
                self._stuck.pop(place, None)

    def __exit__(self, *_: object) -> None:
        for place in self._places:
            fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, place)

    def _try(self) -> int:
        """Take all or none: which place is in the way; 0 for none."""
        for place in self._places:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
            except (BlockingIOError, PermissionError):
                for taken in self._places:
                    if taken == place:
                        break
                    fcntl.lockf(self._fd, fcntl.LOCK_UN, 1, taken)
                return place
        return 0

    def _wait(self, in_the_way: int) -> None:
        began = now = time.monotonic()
        attempts = 0
        while in_the_way and now < began + PATIENCE_SECONDS and not self._is_stuck(in_the_way, now):
            if attempts >= _AT_ONCE:
                time.sleep(_PAUSE_SECONDS)
            in_the_way, attempts, now = self._try(), attempts + 1, time.monotonic()
        if in_the_way:
            self._note(in_the_way, began, now)

    def _note(self, place: int, began: float, now: float) -> None:
        since, seen = self._stuck[place] if self._is_stuck(place, now) else (began, began)
        self._stuck[place] = since, now
        if seen - since < STUCK_SECONDS <= now - since:
            log.error(
                "Process %d stands still while it holds a lock of the limits' table: until it goes on or is killed,"
                " calls that would spend what it was spending are refused",
                self._holder(place),
            )
        raise Stuck(now - since)

    def _is_stuck(self, place: int, now: float) -> bool:
        known = self._stuck.get(place)
        return known is not None and now - known[1] < _FORGOTTEN_SECONDS

    def _holder(self, place: int) -> int:
        """The process that stands on it; 0 if nobody does any more."""
        asked = struct.pack(_LOCK, fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
        kind, *_, holder = struct.unpack(_LOCK, fcntl.fcntl(self._fd, fcntl.F_GETLK, asked))
        return 0 if kind == fcntl.F_UNLCK else int(holder)


class Table:
    """The table at ``path``. A file that is not one is set aside as ``*.corrupt`` and a new one begun; one of another
    version as ``*.other-version``, unless it is in use: then this raises ``OtherVersion``.

    ``may_be_alone``: nobody else is meant to spend here, so do without locks while that is so. ``counts_calls``: this
    process has calls under way, so give it a column. ``shared``: the limits are those of several hosts, and what may be
    spent here is what the node's agent was granted. ``steady`` are seconds that no clock can set. ``waits`` for a
    process that has the table to itself; one that does not raises ``Stuck``.
    """

    def __init__(
        self,
        path: Path,
        now: float,
        *,
        may_be_alone: bool = False,
        counts_calls: bool = True,
        shared: bool = False,
        steady: Callable[[], float] = time.monotonic,
        waits: bool = True,
    ) -> None:
        self.path = path
        self.shared = shared
        self.may_be_alone = may_be_alone and not shared  # the agent spends, too
        self.alone = False
        self.column = -1
        self._capacity = 0
        self._steady = steady
        self._ahead = now - steady()  # of seconds that no clock can set
        self._stuck: dict[int, tuple[float, float]] = {}
        self._unsettled: list[Callable[[], bool]] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self.fd = self._join(now, waits=waits)
        self._index_lock = Lock(self.fd, (_TABLE,), self._stuck)
        if counts_calls:
            try:
                self._take_column()
            except BaseException:
                self.close()
                raise

    # --- coming and going ---------------------------------------------------------------------------------------

    def _join(self, now: float, *, waits: bool) -> int:
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            entered = False
            try:
                entered = self._enter(fd, now, waits=waits)
            finally:
                # Whatever it failed for: a disk that is full has room again, and then our own lock is in nobody's way.
                if not entered:
                    _let_go(fd)
            if entered:
                return fd

    def _enter(self, fd: int, now: float, *, waits: bool) -> bool:
        """Wait until the file may be used. False if it is no longer the one at the path."""
        waited = 0
        while True:
            if _try(fd, fcntl.F_WRLCK, _PRESENCE):
                return self._be_first(fd, now)
            if _try(fd, fcntl.F_RDLCK, _PRESENCE):
                return self._be_another(fd)
            is_other = not _is_ours(fd)
            if is_other and waited * _KNOCK_SECONDS >= _SETS_ASIDE_SECONDS:
                raise OtherVersion(self.path)
            if not is_other and os.fstat(fd).st_size >= _BASE * 8:
                os.pwrite(fd, secrets.randbits(62).to_bytes(8, "little"), CHANGES * 8)
            if not waits:
                raise Stuck(0)
            time.sleep(_KNOCK_SECONDS)
            waited += 1
            if waited % 1000 == 0:
                log.warning("Still waiting for the process that has the limits' table to itself")

    def _be_first(self, fd: int, now: float) -> bool:
        """With the file to ourselves: put in order what the last process may have left undone."""
        if not _is_at(fd, self.path):
            return False
        size = os.fstat(fd).st_size
        if not _is_ours(fd) or (_is_laid_out(fd) and size < _LEAST_BYTES):
            self._set_aside(fd)
            return False
        if size < _LEAST_BYTES:
            _grow(fd, _FIRST_SLOTS)
        self._map(fd)
        self._rebuild(now)
        self.alone = self.may_be_alone
        if not self.alone:
            _try(fd, fcntl.F_RDLCK, _PRESENCE)
        return True

    def _be_another(self, fd: int) -> bool:
        """Beside others, who have put it in order."""
        if not _is_at(fd, self.path):
            return False
        if not _is_ours(fd):
            raise OtherVersion(self.path)
        if not _is_laid_out(fd):
            return False  # who was to do so died in this moment
        self._map(fd)
        return True

    def _set_aside(self, fd: int) -> None:
        is_other = os.pread(fd, len(_FAMILY), 0) == _FAMILY and not _is_ours(fd)
        aside = self.path.with_name(f"{self.path.name}.{'other-version' if is_other else 'corrupt'}")
        self.path.replace(aside)
        log.error(
            "The limits' table %s is %s and was set aside as %s: what was spent begins at nothing",
            self.path,
            "of another version" if is_other else "damaged",
            aside,
        )

    def _map(self, fd: int) -> None:
        size = os.fstat(fd).st_size // 8 * 8  # where a disk is full, a file that was to grow may end anywhere
        pages = memoryview(mmap.mmap(fd, size))
        # What was mapped before stays mapped for as long as somebody counts in it: the pages are the same.
        self.cells, self.calls = pages.cast("q"), pages.cast("H")
        self._capacity = (size // 8 - _BASE) // SLOT_WORDS
        self.seen = self.cells[CHANGES]

    def tick(self) -> None:
        """Now and then: make room for a newcomer, notice that the last companion has gone, do what had to wait."""
        if self._unsettled:
            self._unsettled = [settle for settle in self._unsettled if not settle()]
        if self.alone:
            self.look_around()
        elif self.may_be_alone:
            seen = self.cells[CHANGES]
            if _try(self.fd, fcntl.F_WRLCK, _PRESENCE):
                self.alone, self.seen = True, seen

    def later(self, settle: Callable[[], bool]) -> None:
        """Do something for which a lock is wanted that somebody stands on, as soon as ``settle`` says it is done."""
        self._unsettled.append(settle)

    def look_around(self) -> None:
        """If somebody knocked, no longer spend without locks."""
        if self.alone and self.cells[CHANGES] != self.seen:
            self.share()

    def share(self) -> None:
        """Spend under locks from now on, and let others in."""
        if self.alone:
            self.alone = False
            _try(self.fd, fcntl.F_RDLCK, _PRESENCE)

    def close(self) -> None:
        """Leave. Calls that are under way are no longer counted."""
        for settle in self._unsettled:
            settle()
        if self.column >= 0:
            self._clear_column(1, min(self.cells[_NEXT], self._capacity))
            _try(self.fd, fcntl.F_UNLCK, _COLUMNS + self.column)
        _let_go(self.fd)

    # --- slots --------------------------------------------------------------------------------------------------

    def slot(self, owner: int, limit: LimitDocument, anchor: int, now: float) -> int:
        """The index of the first word of the slot of a limit, which is made if there is none. Raises ``Stuck``."""
        kind = KINDS.index(limit.kind)
        form = kind + (PERIODS.index(limit.period) << 8)
        with self._index():
            at = self._find(owner, limit.id, kind) or self._make(owner, limit.id, form, now)
            cells = self.cells
            cells[at + FORM], cells[at + AMOUNT], cells[at + ANCHOR] = form, min(limit.amount, 2**62), anchor
        return at

    def describe(self, at: int) -> Described | None:
        """What the slot at ``at`` is for; None if it is free. To be believed under the owner's lock only."""
        owner, limit, form, amount, anchor = self.cells[at : at + 5].tolist()
        if not owner:
            return None
        return Described(at, owner, limit, KINDS[form & 255], PERIODS[form >> 8 & 255], amount, anchor)

    def slots(self) -> Iterator[Described]:
        """Every slot that is taken."""
        self._reach_all()
        for number in range(1, self.cells[_NEXT]):
            described = self.describe(_BASE + number * SLOT_WORDS)
            if described is not None:
                yield described

    def exists(self, at: int) -> bool:
        """Whether ``at`` is where a slot begins. Whoever was told a number by another process asks first."""
        number, rest = divmod(at - _BASE, SLOT_WORDS)
        self._reach_all()
        return not rest and 0 < number < self.cells[_NEXT]

    def is_for(self, at: int, owner: int, limit_id: int) -> bool:
        """Whether a slot is still whose it was. Under the owner's lock, so that it stays so."""
        return self.cells[at + OWNER] == owner and self.cells[at + LIMIT] == limit_id

    def locked(self, *owners: int) -> Lock:
        """``with`` it, all that these owners have spent is to ourselves. May be kept and used again."""
        return Lock(self.fd, (owner_lock(owner) for owner in owners), self._stuck)

    @contextlib.contextmanager
    def _index(self) -> Iterator[None]:
        """With the index to ourselves, and all of the file in reach."""
        with self._index_lock:
            self._reach_all()
            yield

    def _reach_all(self) -> None:
        """Map the whole file: it has room for every slot that is in use before the header says that it is."""
        if self.cells[_NEXT] > self._capacity:
            self._map_again()

    def _map_again(self) -> None:
        seen = self.seen  # what happened since is still to be noticed
        self._map(self.fd)
        self.seen = seen

    def _find(self, owner: int, limit_id: int, kind: int) -> int:
        cells = self.cells
        number = cells[_bucket(owner, limit_id)]
        while number:
            at = _BASE + number * SLOT_WORDS
            if cells[at + LIMIT] == limit_id and cells[at + OWNER] == owner and cells[at + FORM] & 255 == kind:
                return at
            number = cells[at + CHAIN]
        return 0

    def _make(self, owner: int, limit_id: int, form: int, now: float) -> int:
        number, is_new = self._blank(now)
        cells, at, bucket = self.cells, _BASE + number * SLOT_WORDS, _bucket(owner, limit_id)
        cells[at : at + SLOT_WORDS] = _BLANK
        cells[at + LIMIT], cells[at + FORM], cells[at + CHAIN] = limit_id, form, cells[bucket]
        cells[at + OWNER] = owner
        if is_new:
            cells[_NEXT] = number + 1
        cells[bucket] = number
        return at

    def _blank(self, now: float) -> tuple[int, bool]:
        """A slot to fill, and whether it was never used."""
        self._look_for_stale(now)
        cells = self.cells
        if cells[_FREE]:
            number = cells[_FREE]
            cells[_FREE] = cells[_BASE + number * SLOT_WORDS + CHAIN]
            return number, False
        if cells[_NEXT] >= self._capacity:
            _grow(self.fd, self._capacity * 2)
            self._map_again()
        return self.cells[_NEXT], True

    def _look_for_stale(self, now: float) -> None:
        """Before the file grows, what is stale may be given up: in a round, of which each new slot makes one step.

        So however many slots there are, nobody has the index to himself for long; and a round that begins while a
        quarter of them was never used has come to its end when they are.
        """
        cells = self.cells
        number = cells[_LOOK_AT]
        if not number:
            if cells[_FREE] or cells[_NEXT] * 4 < self._capacity * 3:
                return
            if 0 <= now - cells[_LOOKED_SINCE] < _GIVE_UP_EVERY_SECONDS:
                return
            number, cells[_GIVEN_UP], cells[_LOOKED_SINCE] = 1, 0, int(now)
        if not self._clock_ran_straight(now):
            cells[_LOOK_AT], cells[_LOOKED_SINCE] = 0, int(now)
            return
        end = min(number + _STEP, cells[_NEXT])
        cells[_LOOK_AT] = end if end < cells[_NEXT] else 0  # first: who dies in the step does not have it made again
        self._give_up_stale(number, end, now)
        if not cells[_LOOK_AT]:
            log.info("Of the limits' table, %d of %d slots were stale", cells[_GIVEN_UP], self._capacity)

    def _clock_ran_straight(self, now: float) -> bool:
        """Since it was asked last. By one that leapt, what must still be known looks stale: then the file grows."""
        before, self._ahead = self._ahead, now - self._steady()
        return abs(self._ahead - before) < _STRAIGHT_SECONDS

    def _give_up_stale(self, first: int, end: int, now: float) -> None:
        cells, is_told = self.cells, False
        for number in range(first, end):
            at = _BASE + number * SLOT_WORDS
            owner = cells[at + OWNER]
            if not owner or not self._is_stale(at, now):
                continue
            if not is_told:
                # Once, before the first: who looks for its slots from now on has to wait for the index.
                cells[CHANGES] = secrets.randbits(62)
                if self.alone:
                    self.seen = cells[CHANGES]
                is_told = True
            cells[_GIVEN_UP] += self._give_up(number, owner, now)

    def _give_up(self, number: int, owner: int, now: float) -> bool:
        """Take a stale slot from its owner, unless the owner is just about to use it."""
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, owner_lock(owner))
        except OSError:
            return False
        try:
            at = _BASE + number * SLOT_WORDS
            if not self._is_stale(at, now):
                return False
            cells = self.cells
            self._unchain(number, _bucket(owner, cells[at + LIMIT]))
            cells[at + OWNER] = 0
            cells[at + CHAIN] = cells[_FREE]
            cells[_FREE] = number
            return True
        finally:
            fcntl.lockf(self.fd, fcntl.LOCK_UN, 1, owner_lock(owner))

    def _unchain(self, number: int, bucket: int) -> None:
        cells, link = self.cells, bucket
        while cells[link] and cells[link] != number:
            link = _BASE + cells[link] * SLOT_WORDS + CHAIN
        if cells[link]:
            cells[link] = cells[_BASE + number * SLOT_WORDS + CHAIN]

    def _is_stale(self, at: int, now: float) -> bool:
        """Whether a new slot would be as good."""
        cells, form = self.cells, self.cells[at + FORM]
        kind = KINDS[form & 255] if form & 255 < len(KINDS) else ""
        if kind == "rate":
            return max(cells[at + COUNT], cells[at + FULL_AT], cells[at + LEASE_UNTIL]) < now * 1e9
        if kind == "quota":
            keep = 33 * _DAY if PERIODS[form >> 8 & 7] in ("month", "billing") else 2 * _DAY
            return max(cells[at + START], *cells[at + EARLIER : at + SLOT_WORDS : 2]) + keep < now
        return cells[at + LEASE_UNTIL] < now * 1e9 and not any(cells[at + CELLS : at + SLOT_WORDS])

    def _rebuild(self, now: float) -> None:
        """Make the index anew from the slots: all is as it should be whatever the last process was doing as it died."""
        cells = self.cells
        cells[0] = MAGIC
        used = cells[_NEXT] if 0 < cells[_NEXT] <= self._capacity else self._capacity
        cells[_HEADER_WORDS:_BASE] = memoryview(bytes(_BUCKETS * 8)).cast("q")
        cells[_FREE] = cells[_COLUMN_COUNT] = cells[_LOOK_AT] = cells[_LOOKED_SINCE] = 0
        cells[CHANGES] = self.seen = secrets.randbits(62)
        for number in range(used - 1, 0, -1):
            self._file(number, now)
        cells[_NEXT] = max(used, 1)

    def _file(self, number: int, now: float) -> None:
        cells, at = self.cells, _BASE + number * SLOT_WORDS
        owner, limit_id, form = cells[at + OWNER], cells[at + LIMIT], cells[at + FORM]
        kind = form & 255
        if owner and KINDS[kind : kind + 1] == ("concurrency",):
            cells[at + CELLS : at + SLOT_WORDS] = _BLANK[CELLS:]  # nobody is here, so nothing is under way
        twin = self._find(owner, limit_id, kind) if owner else 0
        # One of two was made by a process that died before it was published: nobody has spent of it.
        if twin and any(cells[at + START : at + SLOT_WORDS]):
            cells[twin + START : twin + SLOT_WORDS] = cells[at + START : at + SLOT_WORDS]
        # A quota is not given up at a start: the clock may be wrong, and there may be room without.
        is_quota = KINDS[kind : kind + 1] == ("quota",)
        if twin or not owner or not 0 < kind < len(KINDS) or (not is_quota and self._is_stale(at, now)):
            cells[at + OWNER] = 0
            cells[at + CHAIN] = cells[_FREE]
            cells[_FREE] = number
        else:
            bucket = _bucket(owner, limit_id)
            cells[at + CHAIN] = cells[bucket]
            cells[bucket] = number

    # --- calls under way ----------------------------------------------------------------------------------------

    @property
    def columns(self) -> int:
        """How many columns may hold a count."""
        return self.cells[_COLUMN_COUNT]

    def _take_column(self) -> None:
        """The first column that no living process has; what its last one left in it is gone with it."""
        for column in range(MAX_COLUMNS):
            if _try(self.fd, fcntl.F_WRLCK, _COLUMNS + column):
                self.column = column
                break
        else:
            raise RuntimeError(f"more than {MAX_COLUMNS} processes count calls in {self.path}")
        number, waited = 1, 0
        while number:
            try:
                number = self._begin_column(number)
            except Stuck:
                waited += 1
                if waited % 1000 == 0:
                    log.warning("Still waiting for the index of the limits' table")
                time.sleep(_KNOCK_SECONDS)

    def _begin_column(self, number: int) -> int:
        """Clear our column from a slot on, a step of it, for nobody is to wait for us: the slot to go on from, or 0.

        What is made behind our back is blank.
        """
        with self._index():
            used = self.cells[_NEXT]
            end = min(number + _STEP, used)
            self._clear_column(number, end)
            if end < used:
                return end
            self.cells[_COLUMN_COUNT] = max(self.cells[_COLUMN_COUNT], self.column + 1)
            return 0

    def give_back_of_dead(self, at: int) -> None:
        """Give back the calls of processes that died, in one slot. Called before concurrency refuses anything.

        No other slot is looked at: who is refused all the time must not have the whole table searched each time.
        """
        first = (at + CELLS) * 4
        for column in range(self.columns):
            if not self.calls[first + column] or column == self.column:
                continue
            if _try(self.fd, fcntl.F_WRLCK, _COLUMNS + column):
                self.calls[first + column] = 0
                _try(self.fd, fcntl.F_UNLCK, _COLUMNS + column)

    def _clear_column(self, first: int, end: int) -> None:
        """Count nothing as ours in these slots. One that counts something stays whose it is, so what it is holds."""
        cells, calls, concurrency, column = self.cells, self.calls, KINDS.index("concurrency"), self.column
        for at in range(_BASE + first * SLOT_WORDS, _BASE + end * SLOT_WORDS, SLOT_WORDS):
            if cells[at + FORM] & 255 == concurrency and calls[(at + CELLS) * 4 + column]:
                calls[(at + CELLS) * 4 + column] = 0


_BLANK: Final = memoryview(bytes(SLOT_WORDS * 8)).cast("q")


def _bucket(owner: int, limit_id: int) -> int:
    """Where the chain of a key begins. Ids are times with random low bits: mix them well."""
    mixed = (owner * 0x9E3779B97F4A7C15 + limit_id * 0xC2B2AE3D27D4EB4F) & 0xFFFF_FFFF_FFFF_FFFF
    return _HEADER_WORDS + (mixed >> 40) % _BUCKETS


def _is_laid_out(fd: int) -> bool:
    return os.pread(fd, 8, 0) == _MAGIC_BYTES


def _is_ours(fd: int) -> bool:
    """Laid out as we do, or yet to be: who died right after making the file, or had no room, leaves zeroes or less."""
    return _is_laid_out(fd) or not any(os.pread(fd, 8, 0))


def _grow(fd: int, slots: int) -> None:
    """Room for as many slots. Raises ``OSError`` where the disk has none, rather than to fault at a store later."""
    os.posix_fallocate(fd, 0, (_BASE + slots * SLOT_WORDS) * 8)


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _let_go(fd: int) -> None:
    """Close the file, and its lock first: what maps the file keeps it open."""
    _try(fd, fcntl.F_UNLCK, _PRESENCE)
    os.close(fd)


def _try(fd: int, kind: int, place: int) -> bool:
    """Get a lock for as long as the file is open, change its kind or give it up. False if somebody is in the way."""
    try:
        # Of the open file, not of the process: two tables in one process are two.
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack(_LOCK, kind, os.SEEK_SET, place, 1, 0))
    except (BlockingIOError, PermissionError):
        return False
    return True
