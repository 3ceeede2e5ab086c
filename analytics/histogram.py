"""Latency histograms: logarithmic buckets whose width holds every percentile within 2 %.

Bucket ``i`` holds latencies in ``(γ^(i-1), γ^i]`` microseconds and answers with the value in its middle. Two histograms
merge by adding bucket by bucket, in any order, so a percentile over a month is as good as one over a minute; a mean of
percentiles never is. ``index_sql`` is the same arithmetic where the calls are; a test holds the two together.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

MAX_ERROR: Final = 0.02
GAMMA: Final = (1 + MAX_ERROR) / (1 - MAX_ERROR)
_LN_GAMMA: Final = math.log(GAMMA)


def index_sql(column: str) -> str:
    """SQL for the bucket of ``column``, in microseconds. Two hours are bucket 568: a smallint is ample."""
    return f"ceil(ln(greatest({column}, 1)::float8) / {_LN_GAMMA!r})::smallint"


def index(latency_us: int) -> int:
    """The bucket of a latency. Whatever took less than a microsecond took one."""
    return math.ceil(math.log(max(latency_us, 1)) / _LN_GAMMA)


def value(index: int) -> float:
    """The latency, in microseconds, that a bucket stands for: never further than 2 % from what went in."""
    return 2 / (GAMMA + 1) * math.exp(index * _LN_GAMMA)


def merge(histograms: Iterable[Mapping[int, int]]) -> Counter[int]:
    total: Counter[int] = Counter()
    for histogram in histograms:
        total.update(histogram)
    return total


def percentile(histogram: Mapping[int, int], share: float) -> float | None:
    """The nearest-rank percentile (``share`` 0.95 for p95) in microseconds, ``None`` of nothing."""
    rank = max(1, math.ceil(share * sum(histogram.values())))
    seen = 0
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        if seen >= rank:
            return value(bucket)
    return None
