"""The agent's side of the replica: apply what the change log says, rebuild when there is nothing sound to build on."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterable
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


class Change(NamedTuple):
    """A row of the change log; ``document`` is ``None`` for a tombstone."""

    sequence: int
    kind: str
    key: str
    document: str | None


class Mark(NamedTuple):
    """How far which log has been applied. Committed with what was applied."""

    log_id: UUID
    sequence: int


class Rejected(NamedTuple):
    """A document that this node does not understand. The last good one stays."""

    change: Change
    reason: str


class ReplicaWriter:
    """One writer per node. ``mark`` is ``None`` until something sound has been applied."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._words = layout.open_state(path)
        self._care = Care(self._words, AGENT)
        self._data: Any = None
        self.mark: Mark | None = None
        if self._words[READY] and self._words[DAMAGED] != self._words[GENERATION]:
            self._open_current()

    @property
    def ready(self) -> bool:
        return self.mark is not None and self._words[DAMAGED] != self._words[GENERATION]

    def _open_current(self) -> None:
        try:
            with self._care:
                self._data = self._open(self._words[GENERATION])
                self.mark = self._read_mark()
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

    def in_touch(self, now: float) -> None:
        """Note that there was nothing newer to apply at ``now``, in Unix seconds."""
        self._words[IN_TOUCH_AT] = int(now)

    @property
    def in_touch_at(self) -> int:
        return self._words[IN_TOUCH_AT]

    def apply(self, mark: Mark, changes: Iterable[Change]) -> list[Rejected]:
        """Bring the replica to ``mark`` in one transaction, then move the epochs of what changed.

        Raises ``ReplicaDamaged``, and is not ready from then on.
        """
        kinds: set[str] = set()
        rejected: list[Rejected] = []
        try:
            with self._care, self._data.begin(write=True) as transaction:
                for change in changes:
                    problem = _put(transaction, change)
                    if problem:
                        rejected.append(Rejected(change, problem))
                    else:
                        kinds.add(change.kind)
                _put_mark(transaction, mark)
        except (lmdb.CorruptedError, lmdb.PageNotFoundError) as error:
            self._words[DAMAGED] = self._words[GENERATION]
            raise ReplicaDamaged(str(error)) from error
        self._data.reader_check()  # slots of workers that were killed
        self.mark = mark
        for kind in kinds:
            self._words[EPOCH_WORDS[kind]] += 1
        return rejected

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

    def _adopt(self, generation: int, mark: Mark) -> None:
        if self._data is not None:
            self._data.close()
        self._data = layout.open_data(layout.data_path(self._path, generation), readonly=False)
        self.mark = mark
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
        path = layout.data_path(writer._path, generation)
        shutil.rmtree(path, ignore_errors=True)  # left over from a rebuild that was cut off
        self._data = layout.open_data(path, readonly=False, sync=False)

    def add(self, changes: Iterable[Change]) -> list[Rejected]:
        """Put ``changes`` in. In place of one this node does not understand, what it served until now is kept."""
        with self._data.begin(write=True) as transaction:
            problems = [(change, _put(transaction, change)) for change in changes]
            rejected = [Rejected(change, problem) for change, problem in problems if problem]
            for change, _ in rejected:
                self._keep_former(transaction, change)
        return rejected

    def _keep_former(self, transaction: Any, change: Change) -> None:
        entry = layout.entry_key(change.kind, change.key)
        former = self._writer._stored(entry)
        if former is not None:
            transaction.put(entry, former)

    def finish(self, mark: Mark) -> None:
        with self._data.begin(write=True) as transaction:
            _put_mark(transaction, mark)
        self._data.sync(True)  # noqa: FBT003 - all at once: a million documents are five hundred transactions
        self._data.close()
        self._writer._adopt(self._generation, mark)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()  # once more does nothing, as LMDB has it


def _put(transaction: Any, change: Change) -> str | None:
    """Store or delete one entry; what is wrong with it, if it was refused."""
    if change.kind not in KINDS:
        return f"unknown kind {change.kind!r}"
    entry = layout.entry_key(change.kind, change.key)
    if len(entry) > layout.MAX_KEY_BYTES:
        return "the key is too long"
    if change.document is None:
        transaction.delete(entry)
        return None
    try:
        document = snapshot.load(change.document)
    except InvalidDocument as error:
        return str(error)
    if (KIND_OF[type(document)], document.key) != (change.kind, change.key):
        return f"the document is of {KIND_OF[type(document)]} {document.key!r}"
    transaction.put(entry, layout.seal(entry, change.document.encode()))
    return None


def _put_mark(transaction: Any, mark: Mark) -> None:
    transaction.put(_MARK_KEY, layout.seal(_MARK_KEY, _MARK.pack(mark.log_id.bytes, mark.sequence)))
