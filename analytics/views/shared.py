"""What the pages of insights have in common: what the address asks for, and a chart with its table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, cast

from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from analytics.selectors import periods
from analytics.selectors.cubes import Question, known_to
from analytics.selectors.labels import labels
from apimgr.accounts.models import User
from apimgr.core.errors import NotFound
from apimgr.core.ids import decode_id

# Filters in the address, and the dimension each narrows.
FILTERS: Final = {"version": "version_id", "operation": "operation_id", "application": "application_id"}


def person(request: HttpRequest) -> User:
    """The signed-in person; ``login_required`` stands before."""
    return cast("User", request.user)


def asked_period(request: HttpRequest) -> periods.Period:
    return periods.period(request.GET.get("range", periods.DEFAULT))


@dataclass(frozen=True, slots=True)
class Filter:
    """One narrowing in force, and the address without it."""

    name: str
    label: str
    remove: str


def narrowed(request: HttpRequest, question: Question) -> tuple[Question, list[Filter]]:
    """The question with the address's filters on top, and the filters as chips."""
    chips = []
    for name, dimension in FILTERS.items():
        if text := request.GET.get(name, ""):
            value = 0 if text == "none" else id_in(text)
            allowed = question.where.get(dimension, [value])
            question = question.only(**{dimension: [value] if value in allowed else []})
            rest = request.GET.copy()
            del rest[name]
            chips.append(Filter(name, labels(dimension, [value])[value], f"?{rest.urlencode()}"))
    return question, chips


def id_in(text: str) -> int:
    try:
        return decode_id(text)
    except ValueError:
        raise NotFound(str(_("There is nothing here, or nothing for you."))) from None


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and the table that says the same without a picture or JavaScript."""

    title: str | Promise
    kind: str
    src: str
    data: dict[str, Any]
    hint: str | Promise = ""

    @property
    def rows(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        columns = [line["data"] for line in self.data["series"]]
        for at, *cells in zip(self.data["x"], *columns, strict=True):
            yield at[:16].replace("T", " "), tuple(cells)

    @property
    def is_empty(self) -> bool:
        return not self.data["series"]


def frame(request: HttpRequest, question: Question) -> dict[str, Any]:
    """The sticky bar: the ranges, which one is chosen, and how far the numbers are whole."""
    rest = request.GET.copy()
    rest.pop("range", None)
    kept = f"&{rest.urlencode()}" if rest else ""
    return {
        "ranges": [
            (item, f"?range={item.name}{kept}", item == question.period.range) for item in periods.RANGES.values()
        ],
        "period": question.period,
        "complete_to": known_to(question),
        "query": request.GET.urlencode(),
    }
