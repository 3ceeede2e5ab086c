"""From a declarative file into the replica: the node's configuration where there is no control plane."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from uuid import UUID

from apimgr.contracts import snapshot
from proxy.dataplane.replica import declaration
from proxy.dataplane.replica.declaration import InvalidDeclaration
from proxy.dataplane.replica.writer import Change, Mark, ReplicaWriter

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 5.0
# Not a change log's: a node that is moved to or from a control plane starts over instead of mixing the two.
FILE_LOG: Final = UUID(int=0xF11E)

Stamp = tuple[int, int, int]


class FileFeed:
    """Follows one file. ``rejected`` counts the times it could not be taken; the last good one goes on being served."""

    def __init__(self, writer: ReplicaWriter, path: Path) -> None:
        self._writer = writer
        self._path = path
        self._seen: Stamp | None = None
        self.is_current = False  # whether what is served is what the file says
        self.rejected = 0

    async def follow(self, applied: Callable[[], None]) -> None:
        """Take the file now and whenever it changes, for ever."""
        while True:
            try:
                # In a thread: a file of megabytes takes minutes, and the agent has more to do.
                if await asyncio.to_thread(self.look):
                    applied()
            except Exception:
                # A full disk, say: what is served stays, and the file is not forgotten.
                self._seen = None
                self.is_current = False
                log.exception("The configuration could not be taken; trying again")
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if self.is_current:
                self._writer.in_touch(time.time())
            await asyncio.sleep(LOOK_SECONDS)

    def look(self) -> bool:
        """Take the file if it is not the one last looked at, or if what was made of that is damaged.

        Returns whether the replica changed.
        """
        stamp = self._stamp()
        if stamp == self._seen and (self._writer.ready or not self.is_current):
            return False
        self._seen = stamp
        try:
            documents = declaration.read(self._path)
        except InvalidDeclaration as error:
            self.rejected += 1
            self.is_current = False
            kept = "the last good configuration stays" if self._writer.ready else "there is nothing to serve yet"
            log.error("The configuration was not taken, %s: %s", kept, error)
            return False
        self._replace(documents)
        self.is_current = True
        log.info("The configuration in %s was taken: %d documents", self._path, len(documents))
        return True

    def _replace(self, documents: list[snapshot.Document]) -> None:
        mark = self._writer.mark
        sequence = mark.sequence + 1 if mark is not None and mark.log_id == FILE_LOG else 1
        with self._writer.rebuild() as rebuild:
            rebuild.add(
                Change(sequence, snapshot.KIND_OF[type(document)], document.key, snapshot.dump(document).decode())
                for document in documents
            )
            rebuild.finish(Mark(FILE_LOG, sequence))

    def _stamp(self) -> Stamp:
        try:
            found = self._path.stat()
        except OSError:
            return 0, 0, 0
        return found.st_mtime_ns, found.st_size, found.st_ino
