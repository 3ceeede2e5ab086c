"""Whether the time of a refusal tells how much of a key was right: it must not (K5)."""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from pathlib import Path

from apimgr.contracts.credentials import generate_key
from proxy.dataplane.limits.table import Table
from proxy.dataplane.policies.identify import identify
from proxy.dataplane.policies.refusal import Refusal
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.runtime import Runtime
from tests.bench.figures import Figure
from tests.bench.world import PEPPER, USUAL, make_keys, write_replica

TRIES = 10_000


def run(tries: int = TRIES, keys: int = 10_000) -> list[Figure]:
    """Medians of refusing well-formed keys with a prefix that exists, and with one that does not."""
    with tempfile.TemporaryDirectory(prefix="apimgr-bench-") as folder:
        home = Path(folder)
        write_replica(home / "replica", 1, make_keys(keys))
        runtime = Runtime(ReplicaReader(home / "replica"), Table(home / "limits", time.time(), may_be_alone=True))
        runtime.refresh()
        found = runtime.version_at("", b"/api0/v1/items")
        assert found is not None, "the replica holds it"
        version = found[0]
        # In random order, so that neither kind has the warmer cache or the quieter moment.
        asked = [
            (known, generate_key("bench" if known else "other").secret.encode()) for known in (True, False) * tries
        ]
        random.shuffle(asked)
        took: dict[bool, list[int]] = {True: [], False: []}
        for known, key in asked:
            began = time.perf_counter_ns()
            try:
                identify(runtime, version, key, PEPPER.encode(), 0.0)
            except Refusal:
                took[known].append(time.perf_counter_ns() - began)
        runtime.limits.close()
    assert len(took[True]) == len(took[False]) == tries, "all are refused"
    right, wrong = (statistics.median(took[known]) for known in (True, False))
    print(f"\nrefusing {tries:,} unknown keys of each kind beside {USUAL.routes} routes and {keys:,} keys, medians:\n")
    print(f"a prefix that exists        {right / 1000:8.2f} µs")
    print(f"a prefix that does not      {wrong / 1000:8.2f} µs")
    differ = 100 * abs(right - wrong) / max(right, wrong)
    print(f"they differ by              {differ:8.2f} %")
    return [Figure("time of refusing a key whose prefix exists, or not", differ, "%", 5)]
