"""What work costs, in units that mean the same on every machine: seconds are for benchmarks."""

from __future__ import annotations

import copy
import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

T = TypeVar("T")

_COPIES: Final = 5  # of which the shortest counts: the others were disturbed


def in_copies(document: bytes, work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` returns, and as how many copies of ``document``, a JSON text, it took this thread.

    A copy is read in C and copied in Python, which costs about the same in any version; writing JSON takes 3.13 a third
    of the time. It is the processor's time, so that others who are busy do not count.
    """
    with _no_collection():
        unit = min(_seconds(lambda: copy.deepcopy(json.loads(document)))[1] for _ in range(_COPIES))
        result, seconds = _seconds(work)
    return result, seconds / unit


def _seconds(work: Callable[[], T]) -> tuple[T, float]:
    began = time.thread_time()
    result = work()
    return result, time.thread_time() - began


@contextmanager
def _no_collection() -> Iterator[None]:
    """Of garbage: that takes as long as there is much else in memory."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
