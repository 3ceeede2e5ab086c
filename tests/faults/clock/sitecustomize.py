"""Python runs this first in a node whose clock is to step (see ``scarcity``): a file says by how many seconds.

Only wall time steps, as when an operator or NTP sets the clock; the monotonic clock goes on.
"""

from __future__ import annotations

import mmap
import os
import time
from pathlib import Path

with Path(os.environ["FAULTS_CLOCK"]).open("r+b") as file:
    steps = memoryview(mmap.mmap(file.fileno(), 8)).cast("q")
true_time, true_time_ns = time.time, time.time_ns
time.time = lambda: true_time() + steps[0]
time.time_ns = lambda: true_time_ns() + steps[0] * 1_000_000_000
