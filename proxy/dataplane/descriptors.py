"""File descriptors are what a gateway runs out of first: how many there are, and what to do when there are none.

A worker takes callers only while there is a descriptor for each of them and for an upstream's connection besides, and
keeps ``SPARE`` for everything else: the next spool segment, a look-up, the next generation of the replica.
"""

from __future__ import annotations

import errno
import resource
import sys
from pathlib import Path
from typing import Final

SPARE: Final = 16
OWN: Final = 64  # what a worker has open for itself is less
# What a system call says when it lacks descriptors or memory rather than anything else.
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


def raise_limit() -> tuple[int, int]:
    """Allow this process and its children as many open files as it may. Returns the limit before and now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):  # some systems say there is no hard limit, and refuse that
            return _number(soft), _number(soft)
    return _number(soft), _number(hard)


def limit() -> int:
    return _number(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _number(value: int) -> int:
    return sys.maxsize if value == resource.RLIM_INFINITY else value


def in_use() -> int:
    return sum(1 for _ in Path("/dev/fd").iterdir()) - 1  # without the one it is read through


def places(limit: int, taken: int) -> int:
    """How many callers there is room for, each with a connection to an upstream."""
    return max((limit - taken - SPARE) // 2, 1)


def needed(callers: int) -> int:
    """The limit that has room for so many."""
    return 2 * callers + SPARE + OWN
