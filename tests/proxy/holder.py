"""A process that stands still with locks of a limits' table in hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

_HOLDER = """
import fcntl, os, signal, sys, time
from pathlib import Path
from proxy.dataplane.limits.table import Table
table = Table(Path(sys.argv[1]), time.time(), shared=True, counts_calls=False)
locks = table.locked(*map(int, sys.argv[2:])) if sys.argv[2:] else table._index()
with locks:
    print("here", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
print("gone on", flush=True)
time.sleep(60)
"""


class Holder:
    """Holds the locks of some owners, or of the index, and does not move."""

    def __init__(self, table: Path, *owners: int) -> None:
        command = [sys.executable, "-c", _HOLDER, str(table), *map(str, owners)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.pid = self._process.pid
        try:
            self._says("here")
        except AssertionError:
            self.end()
            raise
        while psutil.Process(self.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.01)

    def _says(self, line: str) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == f"{line}\n"

    def go_on(self) -> None:
        psutil.Process(self.pid).resume()
        self._says("gone on")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextmanager
def holding(table: Path, *owners: int) -> Iterator[Holder]:
    holder = Holder(table, *owners)
    try:
        yield holder
    finally:
        holder.end()
