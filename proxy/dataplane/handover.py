"""What a supervisor hands to its successor in an upgrade: descriptors, and the rest in one variable beside them.

The descriptors are those of the predecessor itself, so that nothing is let go of in between: callers queue at the same
sockets, and the node's folder stays claimed, since a lock belongs to the open file that both of them hold.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from typing import Final, NamedTuple, Self, TextIO

VARIABLE: Final = "APIMGR_GATEWAY_HANDOVER"
_FORM: Final = re.compile(r"public=(\d+) admin=(\d+) lock=(\d+) ready=(\d+) offset=(\d+) pid=(\d+)")


class Handover(NamedTuple):
    """Descriptors (``ready`` takes a byte once the successor accepts); where among the stats blocks is room; whose."""

    public: int
    admin: int
    lock: int
    ready: int
    stats_offset: int
    pid: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self.public, self.admin, self.lock, self.ready

    def __str__(self) -> str:
        return "public={} admin={} lock={} ready={} offset={} pid={}".format(*self)

    @classmethod
    def found_in(cls, environ: Mapping[str, str]) -> Self | None:
        """What a predecessor left. Raises ``ValueError`` if it says something else than we expect."""
        text = environ.get(VARIABLE)
        if text is None:
            return None
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{VARIABLE}={text!r} is of another version")
        return cls(*map(int, match.groups()))

    @property
    def predecessor_lives(self) -> bool:
        """Whether the predecessor, whose child we are, still has calls to finish."""
        return os.getppid() == self.pid

    def adopt(self) -> tuple[socket.socket, socket.socket, TextIO]:
        """The public and the admin listener and the lock, as our own. Raises ``OSError``."""
        for descriptor in self.descriptors:
            os.set_inheritable(descriptor, False)  # noqa: FBT003
        return socket.socket(fileno=self.public), socket.socket(fileno=self.admin), os.fdopen(self.lock, "w")

    def say_ready(self) -> None:
        """Tell the predecessor to make way. If it died meanwhile there is nobody to tell."""
        try:
            os.write(self.ready, b"1")
        except BrokenPipeError:
            pass
        finally:
            os.close(self.ready)
