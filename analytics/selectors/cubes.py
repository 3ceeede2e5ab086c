"""One closed question about calls, compiled to SQL over the rollups: which metrics, by what, of whom, when.

The seam where another engine could stand in. What it reads grows with time and cells, not with calls.
"""

# Names come from METRICS, DIMENSIONS and the cubes below, never from a request; values are always parameters.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.db import connection
from django.utils.translation import gettext as _

from analytics import histogram
from analytics.metrics import METRICS, Metric
from analytics.selectors.periods import Period
from analytics.services.rollups import CONSUMER, TRAFFIC, Cube
from apimgr.core.errors import DomainError

DIMENSIONS: Final = ("version_id", "operation_id", "method", "status_class", "outcome", "application_id", "plan_id")
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
Key = tuple[Any, ...]
Numbers = dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Question:
    """Of which calls, and when. ``where`` maps a dimension to the values let through.

    A question remembers its answers, and those made from it share them: a page that tells a number twice asks once.
    """

    period: Period
    where: dict[str, Sequence[int]] = field(default_factory=dict)
    known: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def only(self, **where: int | Sequence[int]) -> Question:
        lists = {name: [value] if isinstance(value, int) else list(value) for name, value in where.items()}
        return replace(self, where={**self.where, **lists})


def ask(question: Question, metrics: Sequence[str], by: Sequence[str] = ()) -> dict[Key, Numbers]:
    """The metrics per value of ``by`` (dimensions, or ``bucket`` for time). Nothing counted, no row."""
    return _remembered(question, metrics, by, question.period.start)


def compare(
    question: Question, metrics: Sequence[str], by: Sequence[str] = ()
) -> tuple[dict[Key, Numbers], dict[Key, Numbers]]:
    """The metrics per value of ``by`` in the period, and in the one before."""
    found = _remembered(question, metrics, ("is_now", *by), question.period.previous.start)
    now, before = ({key[1:]: numbers for key, numbers in found.items() if key[0] is side} for side in (True, False))
    return now, before


def total(question: Question, metrics: Sequence[str]) -> Numbers:
    return ask(question, metrics)[()]


def series(
    question: Question, metrics: Sequence[str], by: Sequence[str] = ()
) -> dict[Key, dict[str, list[float | None]]]:
    """Each metric as a list along the period's buckets, per value of ``by``. A bucket without a call holds ``None``."""
    buckets = question.period.buckets
    index = {bucket: at for at, bucket in enumerate(buckets)}
    lines: dict[Key, dict[str, list[float | None]]] = {}
    for (bucket, *key), values in ask(question, metrics, ("bucket", *by)).items():
        line = lines.setdefault(tuple(key), {name: [None] * len(buckets) for name in metrics})
        for name, value in values.items():
            line[name][index[bucket]] = value
    return lines


def _remembered(question: Question, metrics: Sequence[str], by: Sequence[str], since: datetime) -> dict[Key, Numbers]:
    where = tuple((name, tuple(values)) for name, values in sorted(question.where.items()))
    key = (question.period, where, tuple(metrics), tuple(by), since)
    if key not in question.known:
        question.known[key] = _fetch(question, [METRICS[name] for name in metrics], by, since)
    return dict[Key, Numbers](question.known[key])


def _cube(question: Question, metrics: Sequence[Metric], by: Sequence[str]) -> Cube:
    needed = {*question.where, *by, *(name for metric in metrics for name in metric.needs)} - {"bucket", "is_now"}
    for cube in (TRAFFIC, CONSUMER):
        if needed <= set(cube.dimensions):
            return cube
    raise DomainError(
        _("Calls are not counted by %(names)s together.") % {"names": ", ".join(sorted(needed))},
        code="not_combinable",
        fix=_("Ask for applications and plans, or for operations, methods and outcomes."),
    )


def _fetch(question: Question, metrics: Sequence[Metric], by: Sequence[str], since: datetime) -> dict[Key, Numbers]:
    cells, values = _cells(question, metrics, by, since)
    percentiles = [metric for metric in metrics if metric.share]
    sql = f"WITH cells AS NOT MATERIALIZED ({cells}), sums AS ({_sums(metrics, by)})"
    if percentiles:
        sql += f", walked AS ({_percentiles(percentiles, by)})"
        same = " AND ".join(f"sums.{name} = walked.{name}" for name in by) or "true"
        picks = ", ".join(f"walked.{metric.name}" for metric in percentiles)
        sql += f" SELECT sums.*, {picks} FROM sums LEFT JOIN walked ON {same}"
    else:
        sql += " SELECT * FROM sums"
    names = [m.name for m in metrics if not m.share]
    return {tuple(row[: len(by)]): _numbers(names, percentiles, row[len(by) + 1 :]) for row in _run(sql, values)}


def _cells(question: Question, metrics: Sequence[Metric], by: Sequence[str], since: datetime) -> tuple[str, list[Any]]:
    """SQL for the rollup rows a question is about, each marked as of its period or of the one before."""
    cube, period = _cube(question, metrics, by), question.period
    filters = "".join(f" AND {name} = ANY(%s)" for name in question.where)
    allowed = [list(values) for values in question.where.values()]
    parts, values = [], list[Any]()
    for is_now, start, end in ((False, since, period.start), (True, period.start, period.end)):
        for grain, first, last in _pieces(period.grain, start, end, every_bucket="bucket" in by):
            parts.append(
                f"SELECT *, %s AS is_now FROM usage_{cube.name}_{grain} WHERE bucket >= %s AND bucket < %s{filters}"
            )
            values += [is_now, first, last, *allowed]
    return " UNION ALL ".join(parts), values


def _pieces(
    grain: str, start: datetime, end: datetime, *, every_bucket: bool
) -> Iterator[tuple[str, datetime, datetime]]:
    """Spans to read and the grain for each. Whole days inside a span of hours are one row a cell instead of 24."""
    first, last = -(-(start - EPOCH) // DAY) * DAY + EPOCH, (end - EPOCH) // DAY * DAY + EPOCH
    if every_bucket or grain != "hour" or first >= last:
        spans = [(grain, start, end)]
    else:
        spans = [("hour", start, first), ("day", first, last), ("hour", last, end)]
    return (span for span in spans if span[1] < span[2])


def _sums(metrics: Sequence[Metric], by: Sequence[str]) -> str:
    columns = [*by, "1 AS one", *(f"({metric.sql})::float8 AS {metric.name}" for metric in metrics if not metric.share)]
    return f"SELECT {', '.join(columns)} FROM cells {_grouped(by)}"


def _percentiles(metrics: Sequence[Metric], by: Sequence[str]) -> str:
    """Merge the histograms by adding bucket by bucket, then walk up to each percentile's rank."""
    keys = "".join(f"{name}, " for name in by)
    over = f"PARTITION BY {', '.join(by)}" if by else ""
    picks = ", ".join(f"min(i) FILTER (WHERE seen >= ceil({m.share} * calls)) AS {m.name}" for m in metrics)
    return (
        f"SELECT {keys} {picks} FROM ("
        f" SELECT {keys} i, sum(c) OVER ({over} ORDER BY i) AS seen, sum(c) OVER ({over}) AS calls FROM ("
        f"  SELECT {keys} i, sum(c) AS c FROM cells, unnest(h_idx, h_n) AS h(i, c) GROUP BY {keys} i"
        f" ) merged) ranked {_grouped(by)}"
    )


def _grouped(by: Sequence[str]) -> str:
    return f"GROUP BY {', '.join(by)}" if by else ""


def _numbers(names: Sequence[str], percentiles: Sequence[Metric], row: Sequence[Any]) -> Numbers:
    sums = dict(zip(names, row, strict=False))
    picks = zip(percentiles, row[len(names) :], strict=True)
    return sums | {m.name: None if pick is None else histogram.value(pick) / 1000 for m, pick in picks}


def _run(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def known_to(question: Question) -> datetime | None:
    """``complete_to``, asked once for a question and those made from it."""
    if complete_to not in question.known:
        question.known[complete_to] = complete_to()
    known: datetime | None = question.known[complete_to]
    return known


def complete_to() -> datetime | None:
    """Until when every number is whole: the lowest mark of the live nodes, and of what waits for roll-up.

    With no live node it is the last thing stored; with nothing stored, unknown.
    """
    [(live, latest, waiting)] = _run(
        "SELECT (SELECT min(shipped_until) FROM usage_node WHERE seen_at > now() - interval '60 s'),"
        " (SELECT greatest(max(shipped_until), (SELECT last_at FROM usage_batch ORDER BY id DESC LIMIT 1))"
        " FROM usage_node),"
        " (SELECT min(first_at) FROM usage_batch WHERE rolled_up_at IS NULL)",
        [],
    )
    known = [mark for mark in (live or latest, waiting) if mark]
    return min(known, default=None)
