"""How fast a dashboard's questions are answered: ``python -m tests.bench.dashboard`` in a database of its own.

Ninety days of rollups of four versions with fifteen operations each and sixty applications, in a transaction that is
rolled back. How many calls they stand for makes no difference: a cell is a row whether it counts one call or a million.
"""

from __future__ import annotations

import time

from tests.bench.database import own_database  # isort: skip  (first: it sets Django up)

from django.db import connection, transaction

from analytics.selectors import usage
from analytics.selectors.cubes import Question
from analytics.selectors.periods import RANGES, period

DAYS = {"minute": 1, "hour": 90, "day": 180}
MEASURES = "1000, 10, 10, 100000, 1000000, 1000000, 900000, h.i, h.c"
HISTOGRAM = """
(SELECT array_agg(i::smallint ORDER BY i) AS i, array_agg(20 + i %% 7 ORDER BY i) AS c
 FROM generate_series(200 + %(spread)s, 235 + %(spread)s) i) h
"""
BUCKETS = (
    "generate_series(date_trunc(%(grain)s, now()) - %(days)s * interval '1 day', now(), ('1 ' || %(grain)s)::interval)"
)
TRAFFIC = f"""
INSERT INTO usage_traffic_{{grain}}
SELECT at, 1 + operation %% 4, operation, 1, status, CASE status WHEN 4 THEN 40 ELSE 0 END, {MEASURES}
FROM {BUCKETS} at, generate_series(1, 60) operation,
     (VALUES (2::smallint), (4::smallint), (5::smallint)) s(status), {HISTOGRAM}
"""
CONSUMER = f"""
INSERT INTO usage_consumer_{{grain}}
SELECT at, 1 + application %% 4, application, 1, status, {MEASURES}
FROM {BUCKETS} at, generate_series(1, 60) application, (VALUES (2::smallint), (4::smallint)) s(status), {HISTOGRAM}
"""


def fill() -> None:
    with connection.cursor() as cursor:
        for grain, days in DAYS.items():
            for sql in (TRAFFIC, CONSUMER):
                cursor.execute(sql.format(grain=grain), {"grain": grain, "days": days, "spread": 0})
        for name in ("traffic", "consumer"):
            for grain in DAYS:
                cursor.execute(f"ANALYZE usage_{name}_{grain}")


def panels(name: str) -> dict[str, float]:
    """Milliseconds for each panel of the overview, every question asked anew."""

    def question() -> Question:
        return Question(period(name)).only(version_id=[1, 2, 3, 4])

    asked = {
        "headline": lambda: usage.headline(question()),
        "traffic": lambda: usage.traffic(question()),
        "latency": lambda: usage.latency(question()),
        "by version": lambda: usage.breakdown(question(), "version_id"),
        "by operation": lambda: usage.breakdown(question(), "operation_id"),
        "by application": lambda: usage.breakdown(question(), "application_id"),
        "movers": lambda: usage.movers(question()),
    }
    times = {}
    for label, ask in asked.items():
        ask()
        start = time.perf_counter()
        ask()
        times[label] = 1000 * (time.perf_counter() - start)
    return times


def main() -> None:
    with own_database(), transaction.atomic():
        fill()
        for name in RANGES:
            print(f"{name:>4}: " + " · ".join(f"{label} {ms:,.0f} ms" for label, ms in panels(name).items()))
        transaction.set_rollback(True)


if __name__ == "__main__":
    main()
