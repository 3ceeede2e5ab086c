"""Spans of time people ask about, and the buckets that answer them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_STEPS: Final = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True, slots=True)
class Range:
    """A choice on the range bar: ``count`` buckets of ``grain``, the running one included."""

    name: str
    label: str | Promise
    before: str | Promise
    grain: str
    count: int


RANGES: Final = {
    item.name: item
    for item in (
        Range("1h", _("Last hour"), _("the hour before"), "minute", 60),
        Range("24h", _("24 hours"), _("the 24 hours before"), "hour", 24),
        Range("7d", _("7 days"), _("the 7 days before"), "hour", 168),
        Range("30d", _("30 days"), _("the 30 days before"), "day", 30),
        Range("90d", _("90 days"), _("the 90 days before"), "day", 90),
    )
}
DEFAULT: Final = "7d"


@dataclass(frozen=True, slots=True)
class Period:
    """``start`` up to ``end``, both at the edge of a bucket of ``grain``."""

    range: Range
    start: datetime
    end: datetime

    @property
    def grain(self) -> str:
        return self.range.grain

    @property
    def step(self) -> timedelta:
        return _STEPS[self.grain]

    @property
    def buckets(self) -> list[datetime]:
        return [self.start + self.step * index for index in range(self.range.count)]

    @property
    def previous(self) -> Period:
        return Period(self.range, self.start - (self.end - self.start), self.start)


def period(name: str = DEFAULT, *, now: datetime | None = None) -> Period:
    """The period a name on the range bar stands for; an unknown name is the default one."""
    chosen = RANGES.get(name, RANGES[DEFAULT])
    step = _STEPS[chosen.grain]
    now = now or timezone.now()
    end = now - (now - _EPOCH) % step + step
    return Period(chosen, end - step * chosen.count, end)
