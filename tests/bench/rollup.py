"""How fast calls become counts: ``python -m tests.bench.rollup [events]``, in a database of its own.

Works inside one transaction that is rolled back, so it leaves nothing; one database session, so one core.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from tests.bench.database import own_database  # isort: skip  (first: it sets Django up)

from django.db import connection, transaction

from analytics.services import rollups

BATCH = 2_000
# Four versions of fifteen operations, three hundred applications by Zipf, each on one version; latencies bell-shaped
# on a logarithmic scale; one call in twenty refused or failed; in order over five minutes.
CALLS = f"""
WITH shape AS (
    SELECT g, power(15, random())::int AS operation, power(300, random())::int AS application, random() AS dice,
           (random() + random() + random() + random() - 2) * 1.7 AS spread
    FROM generate_series(0, %(count)s - 1) g
)
INSERT INTO usage_event
SELECT 1000000000 + g / {BATCH}, gen_random_uuid(), now() - interval '5 min' + interval '5 min' * g / %(count)s,
       1, 1 + application %% 4, application %% 4 * 15 + operation, application, application, 1 + application %% 3,
       200, 2000,
       (exp(9 + operation / 15.0 + 0.4 * spread))::int, 5000,
       CASE WHEN dice < 0.01 THEN 502 WHEN dice < 0.05 THEN 429 ELSE 200 END, 200,
       CASE WHEN dice < 0.01 THEN 50 WHEN dice < 0.05 THEN 40 ELSE 0 END, 1 + operation %% 2, 0, NULL, NULL, NULL
FROM shape
"""
LEDGER = """
INSERT INTO usage_batch (id, node, boot, worker, segment, from_offset, to_offset, events, first_at, last_at)
SELECT batch_id, 'bench', 1, 0, batch_id, 0, 1, count(*), min(started_at), max(started_at)
FROM usage_event WHERE batch_id >= 1000000000 GROUP BY batch_id
"""


def measure(events: int) -> tuple[float, float]:
    """Seconds, by the clock and of processor, to roll up ``events`` calls in passes of the size the task uses."""
    with connection.cursor() as cursor:
        cursor.execute(CALLS, {"count": events})
        cursor.execute(LEDGER)
        cursor.execute("ANALYZE usage_event, usage_batch")
    rollups.roll_up(max_events=BATCH)  # a first pass makes the rows that later ones add to
    start, used = time.perf_counter(), processor_seconds()
    while rollups.roll_up():
        pass
    return time.perf_counter() - start, processor_seconds() - used


def processor_seconds() -> float:
    """What our database session has used of a core, where it runs on this machine; 0 elsewhere."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        path = Path(f"/proc/{cursor.fetchone()[0]}/stat")
    if not path.exists():
        return 0.0
    user, system = path.read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    events = int(sys.argv[1]) if len(sys.argv) > 1 else 400_000
    with own_database(), transaction.atomic():
        seconds, processor = measure(events)
        transaction.set_rollback(True)
    print(f"rolled up {events:,} calls in {seconds:.2f} s: {events / seconds:,.0f} calls/s")
    if processor:
        print(f"{processor:.2f} s of one core: {events / processor:,.0f} calls/s per core")


if __name__ == "__main__":
    main()
