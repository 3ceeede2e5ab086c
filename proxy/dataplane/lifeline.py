"""How the supervisor knows that a child goes on: a pipe, into which the child's event loop puts a byte now and then.

A pipe and no shared memory: it is of this one process, whoever had its place before; it needs no disk; and what was
said while the supervisor itself stood still waits in it.
"""

from __future__ import annotations

import contextlib
import os


class Lifeline:
    """The child's end, ``None`` where nobody listens. The first word also says that the child has started."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        if fd is not None:
            os.set_blocking(fd, False)

    def say(self) -> None:
        """Never waits, never fails: the pipe may be full, or nobody listen any more."""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._fd, b"1")
