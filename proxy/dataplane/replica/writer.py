"""The agent's side of the replica: apply what the change log says, rebuild when there is nothing sound to build on."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final, NamedTuple, Self
from uuid import UUID

import lmdb

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import KIND_OF, KINDS, InvalidDocument
from proxy.dataplane.replica import layout
from proxy.dataplane.replica.layout import (
    AGENT,
    DAMAGED,
    DEATHS,
    EPOCH_WORDS,
    GENERATION,
    IN_TOUCH_AT,
    READY,
    Care,
    ReplicaDamaged,
    ReplicaOutOfReach,
)

_MARK_KEY: Final = b"applied"  # no kind has this name, and entry keys have a colon
_MARK: Final = struct.Struct("<16sq")
_REJECTED: Final = b"rejected/"
# Up to where what was rejected is remembered, and the mark's token: software of earlier days moves the mark alone.
_REMEMBERED_KEY: Final = b"remembered"
_REMEMBERED: Final = struct.Struct("<q16s")
_NO_TOKEN: Final = UUID(int=0)
_REASON_CHARS: Final = 500


class Change(NamedTuple):
    """A row of the change log; ``document`` is ``None`` for a tombstone."""

    sequence: int
    kind: str
    key: str
    document: str | None
    token: UUID | None = None


class Mark(NamedTuple):
    """How far which log has been applied. Committed with what was applied.

    ``token`` is that of the change with this number. One of another history has the number too, but not the token.
    """

    log_id: UUID
    sequence: int
    token: UUID | None = None


class Rejected(NamedTuple):
    """A document that this node does not understand. The last good one stays."""

    change: Change
    reason: str


class Rejection(NamedTuple):
    """What a replica remembers of ``kind`` and ``key``: what was said of it from ``since`` on is not in force here.

    ``sequence`` is the last of these changes, the one to read again.
    """

    since: int
    sequence: int
    kind: str
    key: str
    reason: str


class Step(NamedTuple):
    """What a change comes to: ``value`` is to stand under ``entry``, ``None`` for nothing; or ``problem`` says why not.

    It is found out before the data is touched: who dies of a document has not met damage.
    """

    change: Change
    entry: bytes
    value: bytes | None
    problem: str = ""


class ReplicaWriter:
    """One writer per node. ``mark`` is ``None`` until something sound has been applied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._words = layout.open_state(path)
        self._care = Care(self._words, AGENT)
        self._data: Any = None
        self.mark: Mark | None = None
        #: By entry; another mapping whenever anything about it changes.
        self.rejected: Mapping[bytes, Rejection] = {}
        self.remembers = False  # whether ``rejected`` is all there is
        if self._words[READY] and self._words[DAMAGED] != self._words[GENERATION]:
            self._open_current()

    @property
    def ready(self) -> bool:
        return self.mark is not None and self._words[DAMAGED] != self._words[GENERATION]

    def _open_current(self) -> None:
        try:
            with self._care:
                self._data = self._open(self._words[GENERATION])
                mark = self._read_mark()
                token = self._read_token(mark)
                if token is not None:
                    self.rejected, self.remembers = self._read_rejected(), True
                    mark = mark._replace(token=None if token == _NO_TOKEN else token)
                self.mark = mark
        except ReplicaOutOfReach:
            raise
        except (ReplicaDamaged, lmdb.Error):
            self._words[DAMAGED] = self._words[GENERATION]

    def _open(self, generation: int) -> Any:
        path = layout.data_path(self._path, generation)
        # Read-only first: only then is a file that was cut short refused rather than grown.
        layout.open_data(path, readonly=True).close()
        return layout.open_data(path, readonly=False)

    def _read_mark(self) -> Mark:
        with self._data.begin() as transaction:
            value = transaction.get(_MARK_KEY)
        if value is None:
            raise ReplicaDamaged("the replica does not say how far it is")
        log_id, sequence = _MARK.unpack(layout.unseal(_MARK_KEY, value))
        return Mark(UUID(bytes=log_id), sequence)

    def _read_token(self, mark: Mark) -> UUID | None:
        """The mark's token; ``None`` if other software moved the mark and remembered nothing."""
        with self._data.begin() as transaction:
            value = transaction.get(_REMEMBERED_KEY)
        remembered = b"" if value is None else layout.unseal(_REMEMBERED_KEY, value)
        if len(remembered) != _REMEMBERED.size:
            return None
        sequence, token = _REMEMBERED.unpack(remembered)
        return UUID(bytes=token) if sequence == mark.sequence else None

    def _read_rejected(self) -> dict[bytes, Rejection]:
        found: dict[bytes, Rejection] = {}
        with self._data.begin() as transaction, transaction.cursor() as cursor:
            cursor.set_range(_REJECTED)
            for place, value in cursor:
                if not place.startswith(_REJECTED):
                    break
                rejection = Rejection(*json.loads(layout.unseal(place, value)))
                found[layout.entry_key(rejection.kind, rejection.key)] = rejection
        return found

    def in_touch(self, now: float) -> None:
        """Note that there was nothing newer to apply at ``now``, in Unix seconds."""
        self._words[IN_TOUCH_AT] = int(now)

    @property
    def in_touch_at(self) -> int:
        return self._words[IN_TOUCH_AT]

    def apply(self, mark: Mark, changes: Iterable[Change]) -> list[Rejected]:
        """Read and ``take`` changes."""
        return self.take(mark, [step_of(change) for change in changes])

    def take(self, mark: Mark, steps: list[Step]) -> list[Rejected]:
        """Bring the replica to ``mark`` in one transaction, then move the epochs of what changed.

        Raises ``ReplicaDamaged``, and is not ready from then on.
        """
        remembered = dict(self.rejected)
        try:
            with self._care, self._data.begin(write=True) as transaction:
                rejected = [Rejected(step.change, step.problem) for step in steps if not _put(transaction, step)]
                for step in steps:
                    _remember(transaction, remembered, step)
                _put_mark(transaction, mark)
        except (lmdb.CorruptedError, lmdb.PageNotFoundError) as error:
            self._words[DAMAGED] = self._words[GENERATION]
            raise ReplicaDamaged(str(error)) from error
        self._data.reader_check()  # slots of workers that were killed
        self._know(mark, remembered)
        for kind in {step.change.kind for step in steps if not step.problem}:
            self._words[EPOCH_WORDS[kind]] += 1
        return rejected

    def _know(self, mark: Mark, rejected: dict[bytes, Rejection]) -> None:
        self.mark, self.remembers = mark, True
        if rejected != self.rejected:
            self.rejected = rejected

    def _stored(self, entry: bytes) -> bytes | None:
        """What is served under ``entry`` now, if it is sound."""
        if not self.ready or len(entry) > layout.MAX_KEY_BYTES:
            return None
        try:
            with self._care, self._data.begin() as transaction:
                value: bytes | None = transaction.get(entry)
            if value is not None:
                layout.unseal(entry, value)
        except (ReplicaDamaged, lmdb.Error):
            return None
        return value

    def rebuild(self) -> Rebuild:
        """Begin the next generation aside; nobody reads it before ``Rebuild.finish``."""
        return Rebuild(self, self._words[GENERATION] + 1)

    def _adopt(self, generation: int, mark: Mark, rejected: dict[bytes, Rejection]) -> None:
        if self._data is not None:
            self._data.close()
        self._data = layout.open_data(layout.data_path(self._path, generation), readonly=False)
        self._know(mark, rejected)
        self._words[GENERATION] = generation
        self._words[DEATHS] = 0
        self._words[READY] = 1
        for word in EPOCH_WORDS.values():
            self._words[word] += 1
        for path in self._path.glob("data-*"):
            # Workers that still map a former generation keep its pages until they look again.
            if path != layout.data_path(self._path, generation):
                shutil.rmtree(path, ignore_errors=True)

    def close(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data = None


class Rebuild:
    """The next generation while it is being filled; given up if the ``with`` block is left before it is finished."""

    def __init__(self, writer: ReplicaWriter, generation: int) -> None:
        self._writer = writer
        self._generation = generation
        self._rejected: dict[bytes, Rejection] = {}
        path = layout.data_path(writer._path, generation)
        shutil.rmtree(path, ignore_errors=True)  # left over from a rebuild that was cut off
        self._data = layout.open_data(path, readonly=False, sync=False)

    def add(self, changes: Iterable[Change]) -> list[Rejected]:
        """Read and ``take`` changes."""
        return self.take(map(step_of, changes))

    def take(self, steps: Iterable[Step]) -> list[Rejected]:
        """Put them in. In place of a document this node does not understand, what it served until now is kept."""
        with self._data.begin(write=True) as transaction:
            refused = [step for step in steps if not _put(transaction, step)]
            for step in refused:
                self._keep_former(transaction, step.entry)
                _remember(transaction, self._rejected, step, self._writer.rejected.get(step.entry))
        return [Rejected(step.change, step.problem) for step in refused]

    def _keep_former(self, transaction: Any, entry: bytes) -> None:
        former = self._writer._stored(entry)
        if former is not None:
            transaction.put(entry, former)

    def finish(self, mark: Mark) -> None:
        with self._data.begin(write=True) as transaction:
            _put_mark(transaction, mark)
        self._data.sync(True)  # noqa: FBT003 - all at once: a million documents are five hundred transactions
        self._data.close()
        self._writer._adopt(self._generation, mark, self._rejected)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()  # once more does nothing, as LMDB has it


def step_of(change: Change) -> Step:
    """Read a change; what is wrong with it, if it is to be refused."""
    entry = layout.entry_key(change.kind, change.key)
    if change.kind not in KINDS:
        return Step(change, entry, None, f"unknown kind {change.kind!r}")
    if len(entry) > layout.MAX_KEY_BYTES:
        return Step(change, entry, None, "the key is too long")
    if change.document is None:
        return Step(change, entry, None)
    try:
        document = snapshot.load(change.document)
    except InvalidDocument as error:
        return Step(change, entry, None, str(error))
    if (KIND_OF[type(document)], document.key) != (change.kind, change.key):
        return Step(change, entry, None, f"the document is of {KIND_OF[type(document)]} {document.key!r}")
    return Step(change, entry, layout.seal(entry, change.document.encode()))


def _put(transaction: Any, step: Step) -> bool:
    """Store or delete one entry; false for one that is refused."""
    if step.problem:
        return False
    if step.value is None:
        transaction.delete(step.entry)
    else:
        transaction.put(step.entry, step.value)
    return True


def _remember(transaction: Any, rejected: dict[bytes, Rejection], step: Step, before: Rejection | None = None) -> None:
    """Note that what a step says is not in force, or that nothing of its kind and key is missing any more."""
    change, entry = step.change, step.entry
    former = rejected.get(entry, before)
    # Digested: the key of what was rejected may be longer than one can be.
    place = _REJECTED + blake2b(entry, digest_size=16).hexdigest().encode()
    if step.problem:
        since = change.sequence if former is None else min(former.since, change.sequence)
        reason = step.problem[:_REASON_CHARS]
        rejected[entry] = Rejection(since, change.sequence, change.kind, change.key, reason)
        transaction.put(place, layout.seal(place, json.dumps(rejected[entry]).encode()))
    elif former is not None:
        del rejected[entry]
        transaction.delete(place)


def _put_mark(transaction: Any, mark: Mark) -> None:
    transaction.put(_MARK_KEY, layout.seal(_MARK_KEY, _MARK.pack(mark.log_id.bytes, mark.sequence)))
    remembered = _REMEMBERED.pack(mark.sequence, (mark.token or _NO_TOKEN).bytes)
    transaction.put(_REMEMBERED_KEY, layout.seal(_REMEMBERED_KEY, remembered))
