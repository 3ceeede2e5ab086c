"""Usage as dashboards tell it: totals against the period before, series for charts, breakdowns, who moved most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from analytics.metrics import METRICS, Metric, change, rounded
from analytics.selectors import scope
from analytics.selectors.cubes import Question, compare, known_to, series
from analytics.selectors.labels import labels
from analytics.selectors.periods import Period
from apimgr.accounts.models import User
from apimgr.catalog.models import API, Version
from apimgr.contracts.outcomes import BY_NUMBER
from portal.models import Application

STATUS_CLASSES: Final = (2, 3, 4, 5, 0)
HEADLINE: Final = ("requests", "success_rate", "p95")
# What every course is drawn from, asked once; and what the list of callers shows.
COURSE: Final = ("requests", "success_rate", "error_rate", "refused", "p50", "p95", "p99")
CALLERS: Final = ("requests", "success_rate")
COLUMNS: Final = ("requests", "success_rate", "error_rate", "p95")
TOP: Final = 50


@dataclass(frozen=True, slots=True)
class Kpi:
    metric: Metric
    value: float | None
    before: float | None
    spark: Sequence[float | None]

    @property
    def text(self) -> str:
        return self.metric.show(self.value)

    @property
    def change(self) -> str:
        return change(self.metric, self.value, self.before)


@dataclass(frozen=True, slots=True)
class Row:
    """One value of a dimension with its numbers, ``share`` its part of all calls in percent."""

    value: int
    label: str
    numbers: dict[str, float | None]
    before: float | None
    share: float

    @property
    def requests(self) -> float:
        return self.numbers["requests"] or 0

    @property
    def change(self) -> str:
        return change(METRICS["requests"], self.requests, self.before)

    def show(self, name: str) -> str:
        return METRICS[name].show(self.numbers[name])


def of_apis(viewer: User, period: Period, api: API | None = None) -> Question:
    """Calls of every API ``viewer`` looks after, or of one of them."""
    seen = scope.apis(viewer) if api is None else scope.apis(viewer).filter(pk=api.pk)
    versions = Version.objects.filter(api__in=seen).values_list("pk", flat=True)
    return Question(period).only(version_id=list(versions))


def of_application(viewer: User, period: Period, application: Application) -> Question:
    """Calls of one of ``viewer``'s own applications, whatever they called."""
    return Question(period).only(application_id=scope.application(viewer, application.pk).pk)


def of_consumer(viewer: User, period: Period, application: Application) -> Question:
    """What one application calls of ``viewer``'s APIs; of all APIs for an operator."""
    question = Question(period) if viewer.is_operator else of_apis(viewer, period)
    return question.only(application_id=scope.consumer(viewer, application.pk).pk)


def of_applications(viewer: User, period: Period, applications: QuerySet[Application]) -> Question:
    """Calls of several applications, which ``scope`` has let ``viewer`` see."""
    return Question(period).only(application_id=list(applications.values_list("pk", flat=True)))


def headline(question: Question, names: Sequence[str] = HEADLINE) -> list[Kpi]:
    """The numbers on top of a dashboard, each against the period before and with its course."""
    now, before = (side.get((), dict.fromkeys(names)) for side in compare(question, names))
    course = series(question, COURSE).get((), {})
    return [Kpi(METRICS[name], _or_none(name, now), _or_none(name, before), course.get(name, [])) for name in names]


def active_applications(question: Question) -> Kpi:
    """How many applications called. No course: a count of different callers does not add up along time."""
    now, before = ({key for key in side if key[0]} for side in compare(question, CALLERS, ["application_id"]))
    return Kpi(METRICS["active_applications"], len(now), len(before), [])


def _or_none(name: str, numbers: dict[str, float | None]) -> float | None:
    value = numbers.get(name)
    return 0.0 if value is None and name == "requests" else value


def traffic(question: Question) -> dict[str, Any]:
    """Requests over time, stacked by status class. Zero is a count; what is not yet complete is a gap."""
    lines = series(question, ["requests"], ["status_class"])
    names = labels("status_class", [value for (value,) in lines])
    shown = [value for value in STATUS_CLASSES if (value,) in lines]
    return _chart(
        question.period,
        [
            {
                "name": names[value],
                "data": filled(question, lines[(value,)]["requests"]),
                **({"color": f"{value}xx"} if value else {}),
            }
            for value in shown
        ],
        METRICS["requests"],
    )


def latency(question: Question) -> dict[str, Any]:
    """Percentiles over time. A bucket without calls has no latency, which is not the same as a latency of zero.

    On a logarithmic axis: one call of 30 s would flatten a course of milliseconds.
    """
    lines = series(question, COURSE).get((), {})
    data = [
        {"name": n, "data": [rounded(METRICS[n], v) for v in lines[n]]} for n in ("p50", "p95", "p99") if n in lines
    ]
    return {**_chart(question.period, data, METRICS["p95"]), "scale": "log"}


def errors(question: Question) -> dict[str, Any]:
    """Calls that did not end with the upstream's own answer, over time, by outcome; the six commonest."""
    lines = {key: line["requests"] for key, line in series(question, ["requests"], ["outcome"]).items() if key != (0,)}
    shown = sorted(lines, key=lambda key: -sum(value or 0 for value in lines[key]))[:6]
    # Codes, not sentences: a legend has little room, and the table of outcomes explains them.
    names = {value: BY_NUMBER[value].code if value in BY_NUMBER else str(value) for (value,) in shown}
    data = [{"name": names[key[0]], "data": filled(question, lines[key])} for key in shown]
    return _chart(question.period, data, METRICS["requests"])


def breakdown(question: Question, dimension: str, names: Sequence[str] = COLUMNS, top: int = TOP) -> list[Row]:
    """The ``top`` values of a dimension by calls, each against the period before."""
    both = compare(question, names, [dimension])
    now, before = ({key[0]: numbers for key, numbers in side.items()} for side in both)
    everything = sum(numbers["requests"] or 0 for numbers in now.values()) or 1
    largest = sorted(now, key=lambda value: (-(now[value]["requests"] or 0), value))[:top]
    called = labels(dimension, largest)
    return [
        Row(
            value,
            called[value],
            now[value],
            before.get(value, {}).get("requests"),
            100 * (now[value]["requests"] or 0) / everything,
        )
        for value in largest
    ]


def movers(question: Question) -> str:
    """One sentence: what moved the number of requests most against the period before."""
    now, before = (side.get((), {}).get("requests") or 0 for side in compare(question, HEADLINE))
    if not now and not before:
        return ""
    gap = question.period.range.before
    if not before:
        return _("First requests in this period: none in %(before)s.") % {"before": gap}
    parts = [
        text for name in ("operation_id", "application_id") if (text := _most(question, name, rising=now >= before))
    ]
    moved = _("Requests %(change)s against %(before)s") % {
        "change": change(METRICS["requests"], now, before),
        "before": gap,
    }
    return f"{moved}, {_('most from')} {_(' and ').join(parts)}." if parts else f"{moved}."


def _most(question: Question, dimension: str, *, rising: bool) -> str:
    """The value of a dimension that rose (or fell) most, with by how much."""
    names = CALLERS if dimension == "application_id" else ["requests"]
    both = compare(question, names, [dimension])
    now, before = ({key[0]: numbers["requests"] or 0 for key, numbers in side.items()} for side in both)
    moved = {value: now.get(value, 0) - before.get(value, 0) for value in now.keys() | before.keys()}
    value = max(moved, key=lambda v: moved[v] if rising else -moved[v], default=None)
    if value is None or not moved[value] or (moved[value] > 0) != rising:
        return ""
    return f"{labels(dimension, [value])[value]} ({'+' if rising else '−'}{abs(moved[value]):,.0f})"


def filled(question: Question, values: Sequence[float | None]) -> list[int | None]:
    """Counts along the buckets: 0 where nothing was called, a gap where it is not known yet."""
    edge = known_to(question) or question.period.start
    return [
        int(value or 0) if value is not None or bucket < edge else None
        for bucket, value in zip(question.period.buckets, values, strict=True)
    ]


def _chart(period: Period, lines: list[dict[str, Any]], metric: Metric) -> dict[str, Any]:
    return {
        "x": [bucket.strftime("%Y-%m-%dT%H:%M:%SZ") for bucket in period.buckets],
        "xlabel": _("Time (UTC)"),
        "unit": metric.unit,
        "series": lines,
        "note": _("No calls in this period."),
    }
