"""Load for an hour or so, and what the memory of every process does meanwhile.

Nothing breaks here, but little stays as it is: callers come, leave in the middle and idle, and the configuration moves,
so that whatever is kept for too long adds up. What is judged is memory of a process's own (``RssAnon``): mapped files,
as the spool's segments are, come and go by the megabyte and belong to the kernel.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.faults.checker import Verdict
from tests.faults.faults import leave_early
from tests.faults.stage import Stage

RATE = 100.0
SAMPLES = 120
WARM_UP = 0.25  # of the time: pools fill, code is compiled, the allocator finds its size
MOST_GROWTH_MIB = 1.0  # by the slope, over the rest of the time, or in each hour of that if it is longer
_MIB = 1024 * 1024


@dataclass
class Curve:
    """The memory of one process over time: seconds and bytes."""

    name: str
    points: list[tuple[float, int]] = field(default_factory=list)

    def after(self, seconds: float) -> list[tuple[float, int]]:
        return [point for point in self.points if point[0] >= seconds]


def slope(points: Iterable[tuple[float, int]]) -> float:
    """Bytes a second, by least squares."""
    points = list(points)
    middle = sum(at for at, _ in points) / len(points)
    mean = sum(size for _, size in points) / len(points)
    spread = sum((at - middle) ** 2 for at, _ in points)
    return sum((at - middle) * (size - mean) for at, size in points) / spread if spread else 0.0


def growth_mib(curve: Curve, warm_at: float) -> float:
    """What the process grew by after the warm-up, if its fluctuations are left out."""
    points = curve.after(warm_at)
    return slope(points) * (points[-1][0] - points[0][0]) / _MIB


def own_memory(process: psutil.Process) -> int:
    found = re.search(r"^RssAnon:\s+(\d+) kB$", Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    assert found, "Linux says how much memory is a process's own"
    return int(found[1]) * 1024


def soak(stage: Stage, seconds: float, chance: random.Random) -> tuple[list[Curve], Verdict]:
    processes = {"supervisor": psutil.Process(stage.node.pid), "agent": stage.node.children("agent")[0]}
    processes |= {f"worker {n}": process for n, process in enumerate(stage.node.children("worker"))}
    curves = [Curve(name) for name in processes]
    load = stage.load(connections=32, rate=RATE)
    began = time.monotonic()
    while (now := time.monotonic() - began) < seconds:
        _disturb(stage, chance)
        for curve, process in zip(curves, processes.values(), strict=True):
            if now >= len(curve.points) * seconds / SAMPLES:
                curve.points.append((now, own_memory(process)))
        time.sleep(min(1.0, seconds / SAMPLES))
    return curves, stage.verdict(load)


def _disturb(stage: Stage, chance: random.Random) -> None:
    for _ in range(3):
        leave_early(stage, chance)
    crowd = stage.crowd(10)
    stage.publish(read_timeout_ms=chance.randrange(20_000, 30_000))
    crowd.call_and_leave()


def table(curves: Iterable[Curve], seconds: float) -> str:
    warm_at = seconds * WARM_UP
    lines = [f"{'own memory, MiB':16}{'start':>8}{'warm':>8}{'end':>8}{'most':>8}{'growth':>8}{'an hour':>9}"]
    for curve in curves:
        growth, warm = growth_mib(curve, warm_at), curve.after(warm_at)
        span = warm[-1][0] - warm[0][0]
        sizes = (curve.points[0][1], warm[0][1], warm[-1][1], max(size for _, size in curve.points))
        lines.append(
            f"{curve.name:16}" + "".join(f"{size / _MIB:8.1f}" for size in sizes)
            + f"{growth:8.2f}{growth / span * 3600:9.2f}"
        )  # fmt: skip
    return "\n".join(lines)


def is_flat(curves: Iterable[Curve], seconds: float) -> bool:
    hours = seconds * (1 - WARM_UP) / 3600
    return all(growth_mib(curve, seconds * WARM_UP) < MOST_GROWTH_MIB * max(1.0, hours) for curve in curves)
