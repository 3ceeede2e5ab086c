"""Roll up: from stored calls to counts, exactly once.

One transaction claims the batches that wait, adds their calls to every cube at every grain, and marks them rolled. It
commits whole or leaves no trace, so a task delivered twice, two schedulers or a worker killed half-way change nothing.
A late batch adds to its own minutes. Rows are never recounted: merging is adding, and adding needs no order.
"""

# Table and column names below are this module's own constants; values are always parameters.
# ruff: noqa: S608
from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection, transaction

from analytics.histogram import index_sql
from apimgr.contracts.outcomes import BY_CODE, OUTCOMES
from apimgr.contracts.usage import LEDGER_SUMS

log = logging.getLogger(__name__)

# Any number of our own: one roll-up at a time, so that two never wait for each other's rows.
_LOCK: Final = 0x_61_6E_61_02
# Events per transaction: bounds memory and the time a lock is held.
MAX_EVENTS: Final = 400_000

# No status says so, but the caller had no whole answer.
_BROKEN: Final = ", ".join(str(BY_CODE[code].number) for code in ("upstream_aborted", "gateway_aborted"))
_REFUSALS: Final = ", ".join(str(outcome.number) for outcome in OUTCOMES if outcome.refusal)
_MEASURES: Final = ("n", "errors", "refused", "bytes_in", "bytes_out", "total_us", "upstream_us")


@dataclass(frozen=True, slots=True)
class Cube:
    """A set of dimensions calls are counted by. ``number`` is what ``GROUPING`` makes of it in the delta."""

    name: str
    dimensions: tuple[str, ...]


TRAFFIC: Final = Cube("traffic", ("version_id", "operation_id", "method", "status_class", "outcome"))
CONSUMER: Final = Cube("consumer", ("version_id", "application_id", "plan_id", "status_class"))
KEY: Final = Cube("key", ("version_id", "operation_id", "credential_id"))
GRAINS: Final = ("minute", "hour", "day")

# What a pass adds, private to the session and empty between transactions. A row without ``idx`` holds the sums of its
# cell and minute, the rows with one its latency histogram: summing all measures per bucket costs twice as much.
_DELTA: Final = """
CREATE TEMP TABLE IF NOT EXISTS usage_delta (
    cube text, minute timestamptz, version_id bigint, operation_id bigint, method smallint, status_class smallint,
    outcome smallint, application_id bigint, plan_id bigint, credential_id bigint, idx smallint,
    n bigint, errors bigint, refused bigint, bytes_in bigint, bytes_out bigint, total_us bigint, upstream_us bigint,
    last_at timestamptz
) ON COMMIT DELETE ROWS
"""


def _bin(grain: str, column: str) -> str:
    # Unlike date_trunc, date_bin needs no time zone: from the epoch on, a UTC day is 24 hours.
    return f"date_bin('1 {grain}', {column}, '1970-01-01 00:00+00')"


_CALLS: Final = f"""
SELECT {_bin("minute", "started_at")} AS minute, {_bin("hour", "started_at")} AS hour, started_at, version_id,
       operation_id, method, (status / 100)::smallint AS status_class, outcome, application_id, plan_id, credential_id,
       {index_sql("total_us")} AS idx, bytes_in, bytes_out, total_us, upstream_us,
       (status >= 500 OR outcome IN ({_BROKEN}))::int AS error,
       (outcome IN ({_REFUSALS}) AND upstream_us = 0)::int AS refusal
FROM usage_event WHERE batch_id = ANY(%s) AND started_at BETWEEN %s AND %s
"""
_CUBE: Final = (
    "CASE WHEN grouping(outcome) = 0 THEN 'traffic' WHEN grouping(application_id) = 0 THEN 'consumer' ELSE 'key' END"
)
_CELL: Final = "version_id, operation_id, method, status_class, outcome, application_id, plan_id"
# One reading of the calls fills every cube: first per finest cell, of which there are fewer than calls, then GROUPING
# SETS over those.
_SUM: Final = f"""
INSERT INTO usage_delta
SELECT {_CUBE}, coalesce(minute, hour), {_CELL}, credential_id, NULL, {", ".join(f"sum({name})" for name in _MEASURES)},
       max(last_at)
FROM (
    SELECT minute, hour, {_CELL}, credential_id, count(*) AS n, sum(error) AS errors, sum(refusal) AS refused,
           sum(bytes_in) AS bytes_in, sum(bytes_out) AS bytes_out, sum(total_us) AS total_us,
           sum(upstream_us) AS upstream_us, max(started_at) AS last_at
    FROM ({_CALLS}) calls GROUP BY minute, hour, {_CELL}, credential_id
) cells
GROUP BY GROUPING SETS (
    (minute, version_id, operation_id, method, status_class, outcome),
    (minute, version_id, application_id, plan_id, status_class),
    (hour, version_id, operation_id, credential_id)
)
"""
# A refusal takes next to no time and would flatter every percentile: latency is of calls the upstream was asked for
# and whose end somebody saw.
_COUNT_LATENCIES: Final = f"""
INSERT INTO usage_delta (cube, minute, {_CELL}, idx, n)
SELECT {_CUBE}, minute, {_CELL}, idx, count(*)
FROM ({_CALLS}) calls WHERE refusal = 0 AND outcome <> {BY_CODE["gateway_aborted"].number}
GROUP BY GROUPING SETS (
    (minute, version_id, operation_id, method, status_class, outcome, idx),
    (minute, version_id, application_id, plan_id, status_class, idx)
)
"""


def _add(cube: Cube, grain: str) -> str:
    """SQL that adds the delta to one cube at one grain."""
    dimensions = ", ".join(cube.dimensions)
    keys = f"bucket, {dimensions}"
    measures = ", ".join(_MEASURES)
    sums = ", ".join(f"sum({name})::bigint AS {name}" for name in _MEASURES)
    totals = ", ".join(f"max({name}) FILTER (WHERE idx IS NULL)" for name in _MEASURES)
    added = ", ".join(f"{name} = kept.{name} + excluded.{name}" for name in _MEASURES)
    return f"""
    INSERT INTO usage_{cube.name}_{grain} AS kept ({keys}, {measures}, h_idx, h_n)
    SELECT {keys}, {totals}, coalesce(array_agg(idx ORDER BY idx) FILTER (WHERE idx IS NOT NULL), '{{}}'),
           coalesce(array_agg(n::int ORDER BY idx) FILTER (WHERE idx IS NOT NULL), '{{}}')
    FROM (
        SELECT {_bin(grain, "minute")} AS bucket, {dimensions}, idx, {sums}
        FROM usage_delta WHERE cube = '{cube.name}' GROUP BY 1, {dimensions}, idx
    ) per_index
    GROUP BY {keys} ORDER BY {keys}
    ON CONFLICT ({keys}) DO UPDATE SET {added}, (h_idx, h_n) = (
        SELECT coalesce(array_agg(i ORDER BY i), '{{}}'), coalesce(array_agg(c ORDER BY i), '{{}}') FROM (
            SELECT i, sum(c)::int AS c
            FROM unnest(kept.h_idx || excluded.h_idx, kept.h_n || excluded.h_n) AS both_of(i, c) GROUP BY i
        ) merged
    )
    """


_ADD_KEYS: Final = """
INSERT INTO usage_key_hour AS kept
    (bucket, version_id, operation_id, credential_id, n, errors, refused, last_at)
SELECT minute, version_id, operation_id, credential_id, n, errors, refused, last_at
FROM usage_delta WHERE cube = 'key' AND credential_id <> 0
ORDER BY credential_id, minute, version_id, operation_id
ON CONFLICT (credential_id, bucket, version_id, operation_id) DO UPDATE SET
    n = kept.n + excluded.n, errors = kept.errors + excluded.errors, refused = kept.refused + excluded.refused,
    last_at = greatest(kept.last_at, excluded.last_at)
"""
_ADDS: Final = (*(_add(cube, grain) for cube in (TRAFFIC, CONSUMER) for grain in GRAINS), _ADD_KEYS)

# Oldest first, up to MAX_EVENTS, but always at least one.
_CLAIM: Final = """
WITH waiting AS MATERIALIZED (
    SELECT id, events, first_at, last_at FROM usage_batch WHERE rolled_up_at IS NULL
    ORDER BY id LIMIT 5000 FOR UPDATE SKIP LOCKED
), counted AS (SELECT *, sum(events) OVER (ORDER BY id) - events AS before FROM waiting)
SELECT array_agg(id), min(first_at), max(last_at), count(*) FROM counted WHERE before < %s
"""


# The books: what the ledger says of these batches, and how many calls were counted of each.
_COUNTED: Final = "SELECT coalesce(sum(n), 0)::bigint FROM usage_delta WHERE cube = 'traffic' AND idx IS NULL"
_CLAIMED: Final = "SELECT coalesce(sum(events), 0)::bigint FROM usage_batch WHERE id = ANY(%s)"
_BOOK: Final = f"""
INSERT INTO usage_boot AS kept (node, boot, stored, cut_off, quarantined, set_aside_bytes, rolled_up)
SELECT node, boot, sum(stored), sum(cut_off), sum(quarantined), sum(set_aside_bytes), sum(counted) FROM (
    SELECT node, boot, {LEDGER_SUMS}, %(counted)s
    FROM usage_batch WHERE id = ANY(%(batches)s)
) AS ranges (node, boot, stored, cut_off, quarantined, set_aside_bytes, counted)
GROUP BY node, boot ORDER BY node, boot
ON CONFLICT (node, boot) DO UPDATE SET stored = kept.stored + excluded.stored,
    cut_off = kept.cut_off + excluded.cut_off, quarantined = kept.quarantined + excluded.quarantined,
    set_aside_bytes = kept.set_aside_bytes + excluded.set_aside_bytes, rolled_up = kept.rolled_up + excluded.rolled_up
"""
_AS_CLAIMED: Final = "events"
_ONE_BY_ONE: Final = (
    "(SELECT count(*) FROM usage_event WHERE batch_id = usage_batch.id"
    " AND started_at BETWEEN usage_batch.first_at AND usage_batch.last_at)"
)


def roll_up(*, max_events: int = MAX_EVENTS) -> int:
    """Roll up the batches that wait, or leave them to whoever is at it. Returns how many batches were rolled."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute(_CLAIM, [max_events])
        batches, first, last, count = cursor.fetchone()
        if not count:
            return 0
        _add_calls(cursor, batches, first, last)
        _book(cursor, batches)
        cursor.execute("UPDATE usage_batch SET rolled_up_at = now() WHERE id = ANY(%s)", [batches])
        return int(count)


def roll_up_all() -> int:
    """Roll up until nothing waits. Returns how many batches were rolled."""
    total = 0
    while count := roll_up():
        total += count
    return total


def _add_calls(cursor: Any, batches: list[int], first: datetime, last: datetime) -> None:
    # Compiling takes longer than these statements; hashing in memory is what makes them fast.
    cursor.execute("SET LOCAL jit = off; SET LOCAL work_mem = '64MB'")
    cursor.execute(_DELTA)
    cursor.execute("TRUNCATE usage_delta")  # two passes in one transaction do not add twice
    cursor.execute(_SUM, [batches, first, last])
    cursor.execute(_COUNT_LATENCIES, [batches, first, last])
    cursor.execute("ANALYZE usage_delta")
    for add in _ADDS:
        cursor.execute(add)


def _book(cursor: Any, batches: list[int]) -> None:
    """Add to the books of each boot what was counted now: by the counts, not by what the ledger says there was."""
    cursor.execute(_COUNTED)
    counted = cursor.fetchone()[0]
    cursor.execute(_CLAIMED, [batches])
    claimed = cursor.fetchone()[0]
    if counted != claimed:
        log.error("The ledger holds %d calls in %d batches, but %d were found", claimed, len(batches), counted)
    how = _AS_CLAIMED if counted == claimed else _ONE_BY_ONE
    cursor.execute(_BOOK.replace("%(counted)s", how), {"batches": batches})
