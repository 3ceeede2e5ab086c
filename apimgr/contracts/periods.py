"""Quota periods follow the calendar in UTC: the gateway counts by them, the portal says when they end.

Pure: ``now`` is Unix seconds, passed in.
"""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, datetime, timedelta


def period_bounds(period: str, now: float, anchor: int = 0) -> tuple[int, int]:
    """The Unix seconds at which the calendar period around ``now`` starts and ends.

    A ``billing`` month starts at midnight of the day of the month on which ``anchor`` lies, or of the last day of a
    month that is too short for it; without an anchor it is the calendar's month.
    """
    moment = datetime.fromtimestamp(now, UTC).replace(microsecond=0)
    if period == "second":
        start, end = moment, moment + timedelta(seconds=1)
    elif period == "minute":
        start = moment.replace(second=0)
        end = start + timedelta(minutes=1)
    elif period == "hour":
        start = moment.replace(minute=0, second=0)
        end = start + timedelta(hours=1)
    elif period == "day":
        start = moment.replace(hour=0, minute=0, second=0)
        end = start + timedelta(days=1)
    elif period in ("month", "billing"):
        day = datetime.fromtimestamp(anchor, UTC).day if period == "billing" and anchor else 1
        start, end = _month_around(moment, day)
    else:
        raise ValueError(f"a quota cannot have the period {period!r}")
    return int(start.timestamp()), int(end.timestamp())


def _month_around(moment: datetime, day: int) -> tuple[datetime, datetime]:
    year, month = moment.year, moment.month
    start = _on_day(year, month, day)
    if start > moment:
        return _on_day(*_months_later(year, month, -1), day), start
    return start, _on_day(*_months_later(year, month, 1), day)


def _months_later(year: int, month: int, months: int) -> tuple[int, int]:
    years, index = divmod(month - 1 + months, 12)
    return year + years, index + 1


def _on_day(year: int, month: int, day: int) -> datetime:
    """Midnight of that day of the month, or of the month's last day if it is shorter."""
    return datetime(year, month, min(day, monthrange(year, month)[1]), tzinfo=UTC)
