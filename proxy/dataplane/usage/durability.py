"""Making segments survive a power cut, away from the workers: an ``fsync`` there would stall every call."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.dataplane.usage.mapped import is_finished
from proxy.dataplane.usage.segments import find_segments


class Durability:
    """Syncs what may have grown since it last looked. Call ``sync`` every 50 ms, from a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._settled: set[Path] = set()  # finished and synced

    def sync(self) -> None:
        settled: set[Path] = set()
        for segment in find_segments(self._root):
            try:
                if segment.path in self._settled or _sync_file(segment.path):
                    settled.add(segment.path)
            except FileNotFoundError:  # Shipped in between.
                continue
        self._settled = settled


def _sync_file(path: Path) -> bool:
    """Sync it. True if it cannot have grown since. Where nothing was written this costs next to nothing."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        finished = is_finished(fd)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    return finished
