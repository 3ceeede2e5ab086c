"""Making segments survive a power cut, away from the workers: an ``fsync`` there would stall every call."""

from __future__ import annotations

import os
from pathlib import Path

from proxy.dataplane.usage.segments import find_segments


class Durability:
    """Syncs what has grown since it last looked. Call ``sync`` every 50 ms, from a thread."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._synced: dict[Path, int] = {}

    def sync(self) -> None:
        synced: dict[Path, int] = {}
        for segment in find_segments(self._root):
            try:
                size = segment.path.stat().st_size
                if size != self._synced.get(segment.path, 0):
                    _sync_file(segment.path)
            except FileNotFoundError:  # Shipped in between.
                continue
            synced[segment.path] = size
        self._synced = synced


def _sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)
