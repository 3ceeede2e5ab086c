"""A file of a fixed size that one process writes through mapped memory, and whose lock says whether it still does.

Its room is taken from the disk before the first byte, so that a full disk is met there and not in the middle of a call.
The kernel lets go of the lock when the writer dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from pathlib import Path
from typing import Final

HIDDEN: Final = ".new"


class MappedFile:
    """Locked and mapped; hidden from readers until ``show``. ``purpose`` tells the files of one writer apart."""

    def __init__(self, directory: Path, purpose: str, size: int) -> None:
        self._hidden = directory / f".{purpose}-{os.getpid()}{HIDDEN}"
        self._hidden.unlink(missing_ok=True)
        self.fd = os.open(self._hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Locked before it has its name: nobody must ever see it unlocked while it can change.
            fcntl.flock(self.fd, fcntl.LOCK_EX)
            os.posix_fallocate(self.fd, 0, size)
            self.memory = mmap.mmap(self.fd, size)
        except OSError:
            os.close(self.fd)
            self._hidden.unlink()
            raise

    def show(self, path: Path) -> None:
        """Raises ``OSError`` where the folder does not take the name, and then it is hidden as before."""
        self._hidden.rename(path)

    def grow(self, size: int) -> None:
        """Raises ``OSError`` where the disk has no room, and then nothing has changed."""
        os.posix_fallocate(self.fd, 0, size)
        self.memory.resize(size)

    def finish(self, used: int) -> int:
        """Write no more: what was not used goes back to the disk. Returns the descriptor, whose closing lets go."""
        self.memory.close()
        with contextlib.suppress(OSError):  # the rest is zeroes, which readers know
            os.ftruncate(self.fd, used)
        return self.fd

    def close(self, used: int) -> None:
        os.close(self.finish(used))

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # as on a disk that can only be read; ``clear_away`` finds it
            self._hidden.unlink(missing_ok=True)
        self.close(0)


def is_finished(fd: int) -> bool:
    """Whether nobody can write any more: the writer closed the file, or died."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(fd, fcntl.LOCK_UN)
    return True


def clear_away(root: Path) -> None:
    """Remove what killed processes had made ready under ``root`` and not shown."""
    for path in root.glob(f"*/.*{HIDDEN}"):
        try:
            os.kill(int(path.stem.rpartition("-")[2]), 0)
        except (ProcessLookupError, ValueError):
            path.unlink(missing_ok=True)
        except PermissionError:  # it lives, as somebody else
            continue
