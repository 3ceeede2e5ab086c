"""Thirty believable days: how much each application called, what it called, and how it went.

Nothing is random beyond its seed. The calls are usage records, stored by the road the gateway's own take.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

from apimgr.contracts.outcomes import BY_CODE
from apimgr.contracts.usage import METHOD_NUMBERS, UsageRecord

DAYS = 30
_MS = 1_000


@dataclass(frozen=True, slots=True)
class Traffic:
    """An operation as callers use it. ``weight`` is its share, ``ms`` its median time, ``failing`` its 5xx share."""

    operation_id: int
    method: str
    path: str
    weight: float
    ms: float = 30
    failing: float = 0.002
    client_errors: float = 0.01
    bytes_in: int = 0
    bytes_out: int = 900


@dataclass(frozen=True, slots=True)
class Target:
    """A version and what is called on it."""

    api_id: int
    version_id: int
    operations: tuple[Traffic, ...]


@dataclass(frozen=True, slots=True)
class Caller:
    """One application on one version. ``rhythm`` is ``office``, ``evening``, ``steady`` or ``nightly``.

    ``growth`` is the factor from the first day to the last; ``limited`` the share of its busy hours' calls refused for
    the plan's rate. Without an application (``0``) it is somebody who calls with no key, or a wrong one.
    """

    target: Target
    per_day: float
    rhythm: str = "office"
    growth: float = 1.0
    limited: float = 0.0
    application_id: int = 0
    credential_id: int = 0
    plan_id: int = 0
    refusal: str = ""
    address: int = 1


@dataclass(frozen=True, slots=True)
class Incident:
    """An upstream in trouble: ``share`` of the calls between the two moments fail."""

    version_id: int
    start: datetime
    end: datetime
    outcome: str
    share: float


def activity(rhythm: str, moment: datetime) -> float:
    """How busy an hour is, 1 at its usual best."""
    hour, weekend = moment.hour, moment.weekday() >= 5
    match rhythm:
        case "office":
            day = math.exp(-(((hour - 13.5) / 4.2) ** 2)) + 0.04
            return day * (0.18 if weekend else 1)
        case "evening":
            day = 0.25 + 0.75 * math.exp(-(((hour - 19.5) / 3.5) ** 2))
            return day * (1.3 if weekend else 1)
        case "nightly":
            return 1.0 if hour == 2 else 0.01
        case _:
            return 0.85 + 0.15 * math.sin(hour / 24 * math.tau)


def day_total(rhythm: str) -> float:
    """The activity of a usual weekday, which ``per_day`` is spread over."""
    monday = datetime(2024, 1, 1)  # noqa: DTZ001  (a weekday, not a moment)
    return sum(activity(rhythm, monday + timedelta(hours=hour)) for hour in range(24))


def calls(
    callers: Sequence[Caller], incidents: Sequence[Incident], *, until: datetime, days: int = DAYS, seed: int = 8
) -> Iterator[list[UsageRecord]]:
    """The calls of so many calendar days up to ``until``, one list per hour, oldest first."""
    choose = random.Random(seed)
    start = (until - timedelta(days=days - 1)).replace(hour=0, minute=0, second=0, microsecond=0)
    hours = math.ceil((until - start) / timedelta(hours=1))
    for number in range(hours):
        hour = start + timedelta(hours=number)
        records = []
        for caller in callers:
            records += _hour_of(caller, incidents, hour, until, number / hours, choose)
        yield records


def _hour_of(
    caller: Caller,
    incidents: Sequence[Incident],
    hour: datetime,
    until: datetime,
    progress: float,
    choose: random.Random,
) -> list[UsageRecord]:
    share = activity(caller.rhythm, hour) / day_total(caller.rhythm)
    expected = caller.per_day * share * caller.growth**progress / math.sqrt(max(caller.growth, 0.01))
    count = _about(expected * choose.lognormvariate(0, 0.12), choose)
    width = min(3600.0, (until - hour).total_seconds())
    operations = caller.target.operations
    bounds = list(accumulate(operation.weight for operation in operations))
    trouble = [i for i in incidents if i.version_id == caller.target.version_id and i.start < hour + timedelta(hours=1)]
    start_us, count = round(hour.timestamp() * 1_000_000), round(count * width / 3600)
    return [
        _call(caller, operation, start_us + int(choose.random() * width * 1_000_000), trouble, choose)
        for operation in choose.choices(operations, cum_weights=bounds, k=count)
    ]


def _about(expected: float, choose: random.Random) -> int:
    """A whole number with this mean: most hours of a quiet application have no call at all."""
    return int(expected) + (choose.random() < expected % 1)


def _call(
    caller: Caller, operation: Traffic, at_us: int, trouble: Sequence[Incident], choose: random.Random
) -> UsageRecord:
    code, status, upstream_status, upstream_us = _fate(caller, operation, at_us, trouble, choose)
    outcome = BY_CODE[code]
    answered = upstream_status != 0
    own_us = int(choose.lognormvariate(5.7, 0.35))  # About 300 µs of the gateway's own.
    body = 320 if outcome.status else max(60, int(choose.lognormvariate(math.log(operation.bytes_out), 0.4)))
    return UsageRecord(
        request_id=request_id(at_us // _MS, choose),
        started_at_us=at_us,
        api_id=caller.target.api_id,
        version_id=caller.target.version_id,
        operation_id=operation.operation_id,
        application_id=caller.application_id,
        credential_id=caller.credential_id,
        plan_id=caller.plan_id,
        bytes_in=operation.bytes_in,
        bytes_out=0 if answered and status == 204 else body,
        total_us=upstream_us + own_us,
        upstream_us=upstream_us,
        status=status,
        upstream_status=upstream_status,
        outcome=outcome.number,
        method=METHOD_NUMBERS[operation.method],
        flags=0,
        # 203.0.113.0/24 is for documentation (RFC 5737): nobody's address.
        client=bytes(10) + b"\xff\xff" + bytes([203, 0, 113, caller.address]),
        path=operation.path.encode() if outcome.refusal else b"",
    )


def _fate(
    caller: Caller, operation: Traffic, at_us: int, trouble: Sequence[Incident], choose: random.Random
) -> tuple[str, int, int, int]:
    """Outcome code, status, the upstream's status and its microseconds."""
    if caller.refusal:
        return caller.refusal, BY_CODE[caller.refusal].status, 0, 0
    if choose.random() < caller.limited:
        return "rate_limited", 429, 0, 0
    took = int(choose.lognormvariate(math.log(operation.ms * _MS), 0.45))
    for incident in trouble:
        inside = incident.start.timestamp() <= at_us / 1_000_000 < incident.end.timestamp()
        if inside and choose.random() < incident.share:
            outcome = BY_CODE[incident.outcome]
            return incident.outcome, outcome.status, 0, 30_000_000 if outcome.status == 504 else 1_200
    luck = choose.random()
    if luck < operation.failing:
        return "ok", 503, 503, took * 3
    if luck < operation.failing + operation.client_errors:
        status = choose.choice((400, 404, 404, 404, 409, 422))
        return "ok", status, status, took
    status = {"POST": 201, "DELETE": 204}.get(operation.method, 200)
    return "ok", status, status, took


def request_id(at_ms: int, choose: random.Random) -> bytes:
    """A UUIDv7 of that moment (RFC 9562)."""
    bits = choose.getrandbits(74)
    return (at_ms << 80 | 7 << 76 | (bits >> 62) << 64 | 2 << 62 | bits & (1 << 62) - 1).to_bytes(16, "big")
