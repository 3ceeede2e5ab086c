"""Quota periods follow the calendar in UTC."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def period_bounds(period: str, now: float) -> tuple[int, int]:
    """The Unix seconds at which the calendar period around ``now`` starts and ends."""
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
    else:
        start = moment.replace(day=1, hour=0, minute=0, second=0)
        end = (start + timedelta(days=32)).replace(day=1)
    return int(start.timestamp()), int(end.timestamp())
