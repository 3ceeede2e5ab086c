"""Coroutines from tests that are not: in a thread of their own, because a browser's loop may run in this one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(
    work: Callable[[], Coroutine[Any, Any, T]], loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> T:
    """What ``work`` returns."""

    def in_thread() -> T:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(work())

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(in_thread).result()
