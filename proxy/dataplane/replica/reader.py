"""A worker's side of the replica: look up one document, see whether anything of a kind changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import lmdb

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import Document
from proxy.dataplane.replica import layout
from proxy.dataplane.replica.layout import (
    DAMAGED,
    EPOCH_WORDS,
    GENERATION,
    IN_TOUCH_AT,
    READY,
    WORKERS,
    Care,
    ReplicaDamaged,
    ReplicaOutOfReach,
)


class ReplicaReader:
    """Reads what the agent last committed; follows it to the next generation by itself.

    Damage is never served: whoever meets it marks the generation, and the node is not ready until the agent has built
    another. ``place`` tells readers of one node apart that live at the same time.
    """

    def __init__(self, path: Path, place: int = 0) -> None:
        self._path = path
        self._words = layout.open_state(path)
        self._care = Care(self._words, WORKERS + place)
        self._watched = self._words[: 1 + max(EPOCH_WORDS.values())]
        self._generation = 0
        self._data: Any = None

    @property
    def ready(self) -> bool:
        """Whether a full synchronisation ever completed, and what it left is sound."""
        return bool(self._words[READY]) and self._words[DAMAGED] != self._words[GENERATION]

    @property
    def in_touch_at(self) -> int:
        """Unix seconds at which the replica was last known to be up to date; 0 for never."""
        return self._words[IN_TOUCH_AT]

    def fingerprint(self) -> bytes:
        """Moves when readiness or any epoch does: one look per call tells a worker that nothing changed."""
        return self._watched.tobytes()

    def epoch(self, kind: str) -> int:
        """Moves with every change of that kind. One read of mapped memory."""
        return self._words[EPOCH_WORDS[kind]]

    def get(self, kind: str, key: str) -> Document | None:
        """The document, or ``None``. Raises ``ReplicaDamaged`` or ``InvalidDocument``: the caller must not pass."""
        return self.get_other(kind, key, b"")[0]

    def get_other(self, kind: str, key: str, known: bytes) -> tuple[Document | None, bytes]:
        """The document and a digest of it, or ``None`` and ``known`` where that is its digest: then it is not read.

        ``None`` and no digest where there is no document. Raises as ``get``.
        """
        entry = layout.entry_key(kind, key)
        if len(entry) > layout.MAX_KEY_BYTES or not self.ready:
            return None, b""
        with self._reading() as transaction:
            value = transaction.get(entry)
            if value is None:
                return None, b""
            digest = blake2b(value, digest_size=16).digest()
            if digest == known:
                return None, known
            document = layout.unseal(entry, value)
        # After the data was let go: to read a document takes long, and who is killed meanwhile has met no damage.
        return snapshot.load(document), digest

    def holds_under(self, kind: str, prefix: str) -> bool:
        """Whether the key of any document starts with ``prefix``. Raises ``ReplicaDamaged``."""
        start = layout.entry_key(kind, prefix)
        if len(start) > layout.MAX_KEY_BYTES or not self.ready:
            return False
        with self._reading() as transaction, transaction.cursor() as cursor:
            return bool(cursor.set_range(start)) and cursor.key().startswith(start)

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        try:
            with self._care:
                if self._generation != self._words[GENERATION]:
                    self._reopen()
                with self._data.begin() as transaction:
                    yield transaction
        except ReplicaOutOfReach:
            raise
        except (ReplicaDamaged, lmdb.Error) as error:
            self._words[DAMAGED] = self._words[GENERATION]
            raise ReplicaDamaged(str(error)) from error

    def _reopen(self) -> None:
        self.close()
        generation = self._words[GENERATION]
        self._data = layout.open_data(layout.data_path(self._path, generation), readonly=True)
        self._generation = generation

    def close(self) -> None:
        if self._data is not None:
            self._data.close()
            self._data, self._generation = None, 0
