"""One closed question about calls, compiled to SQL over the rollups: which metrics, by what, of whom, when.

The seam where another engine could stand in. What it reads grows with time and cells, not with calls.
"""

# Names come from METRICS, DIMENSIONS and the cubes below, never from a request; values are always parameters.
# ruff: noqa: S608
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from django.db import connection
from django.utils.translation import gettext as _

from analytics import histogram
from analytics.metrics import METRICS, Metric
from analytics.selectors.periods import Period
from analytics.services.rollups import CONSUMER, TRAFFIC, Cube
from apimgr.core.errors import DomainError

DIMENSIONS: Final = ("version_id", "operation_id", "method", "status_class", "outcome", "application_id", "plan_id")
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """Of which calls, and when. ``where`` maps a dimension to the values let through."""

    period: Period
    where: dict[str, Sequence[int]] = field(default_factory=dict)

    def only(self, **where: int | Sequence[int]) -> Question:
        lists = {name: [value] if isinstance(value, int) else list(value) for name, value in where.items()}
        return replace(self, where={**self.where, **lists})

    def before(self) -> Question:
        return replace(self, period=self.period.previous)


def ask(question: Question, metrics: Sequence[str], by: Sequence[str] = ()) -> dict[Key, dict[str, float | None]]:
    """The metrics per value of ``by`` (dimensions, or ``bucket`` for time). Nothing counted, no row."""
    wanted = [METRICS[name] for name in metrics]
    cube = _cube(question, wanted, by)
    rows: dict[Key, dict[str, float | None]] = _sums(cube, question, [m for m in wanted if not m.share], by)
    if percentiles := [metric for metric in wanted if metric.share]:
        found = _percentiles(cube, question, percentiles, by)
        nothing = dict.fromkeys((metric.name for metric in percentiles), None)
        for key in rows:
            rows[key].update(found.get(key, nothing))
    return rows


def total(question: Question, metrics: Sequence[str]) -> dict[str, float | None]:
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


def _cube(question: Question, metrics: Sequence[Metric], by: Sequence[str]) -> Cube:
    needed = {*question.where, *by, *(name for metric in metrics for name in metric.needs)} - {"bucket"}
    for cube in (TRAFFIC, CONSUMER):
        if needed <= set(cube.dimensions):
            return cube
    raise DomainError(
        _("Calls are not counted by %(names)s together.") % {"names": ", ".join(sorted(needed))},
        code="not_combinable",
        fix=_("Ask for applications and plans, or for operations, methods and outcomes."),
    )


def _from(cube: Cube, question: Question) -> tuple[str, list[Any]]:
    period = question.period
    conditions, values = ["bucket >= %s", "bucket < %s"], [period.start, period.end]
    for name, allowed in question.where.items():
        conditions.append(f"{name} = ANY(%s)")
        values.append(list(allowed))  # type: ignore[arg-type]
    return f"FROM usage_{cube.name}_{period.grain} WHERE {' AND '.join(conditions)}", list[Any](values)


def _sums(cube: Cube, question: Question, metrics: Sequence[Metric], by: Sequence[str]) -> dict[Key, dict[str, Any]]:
    source, values = _from(cube, question)
    columns = ", ".join([*by, *(f"({metric.sql})::float8" for metric in metrics), "1"])
    grouped = f"GROUP BY {', '.join(by)}" if by else ""
    rows = _run(f"SELECT {columns} {source} {grouped}", values)
    names = [metric.name for metric in metrics]
    return {_key(row, by): dict(zip(names, row[len(by) : -1], strict=True)) for row in rows}


def _percentiles(
    cube: Cube, question: Question, metrics: Sequence[Metric], by: Sequence[str]
) -> dict[Key, dict[str, Any]]:
    """Merge the histograms by adding bucket by bucket, then walk up to each percentile's rank."""
    source, values = _from(cube, question)
    keys = "".join(f"{name}, " for name in by)
    over = f"PARTITION BY {', '.join(by)}" if by else ""
    picks = ", ".join(f"min(i) FILTER (WHERE seen >= ceil({metric.share} * calls))" for metric in metrics)
    rows = _run(
        f"SELECT {keys} {picks} FROM ("
        f" SELECT {keys} i, sum(c) OVER ({over} ORDER BY i) AS seen, sum(c) OVER ({over}) AS calls FROM ("
        f"  SELECT {keys} i, sum(c) AS c FROM (SELECT {keys} h_idx, h_n {source}) kept, unnest(h_idx, h_n) AS h(i, c)"
        f"  GROUP BY {keys} i) merged) walked {'GROUP BY ' + ', '.join(by) if by else ''}",
        values,
    )
    return {_key(row, by): _milliseconds(metrics, row[len(by) :]) for row in rows}


def _milliseconds(metrics: Sequence[Metric], picks: Sequence[int | None]) -> dict[str, float | None]:
    found = zip(metrics, picks, strict=True)
    return {metric.name: None if pick is None else histogram.value(pick) / 1000 for metric, pick in found}


def _key(row: Sequence[Any], by: Sequence[str]) -> Key:
    return tuple(row[: len(by)])


def _run(sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


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
