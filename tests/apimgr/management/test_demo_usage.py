"""The demo's past looks like a past, and is the same each time."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from apimgr.contracts.outcomes import BY_CODE
from apimgr.contracts.usage import UsageRecord, decode, encode
from apimgr.management.demo.usage import DAYS, Caller, Incident, Target, Traffic, calls

UNTIL = datetime(2026, 3, 11, 15, 30, tzinfo=UTC)
TARGET = Target(1, 2, (Traffic(3, "GET", "/get", 3), Traffic(4, "POST", "/post", 1)))


def made(*callers: Caller, incidents: tuple[Incident, ...] = ()) -> list[UsageRecord]:
    return [record for hour in calls(callers, incidents, until=UNTIL) for record in hour]


def at(record: UsageRecord) -> datetime:
    return datetime.fromtimestamp(record.started_at_us / 1_000_000, UTC)


def test_the_same_seed_makes_the_same_past() -> None:
    assert made(Caller(TARGET, 50)) == made(Caller(TARGET, 50))


def test_thirty_days_up_to_now() -> None:
    moments = [at(record) for record in made(Caller(TARGET, 500, "steady"))]
    assert min(moments) > UNTIL - timedelta(days=DAYS, hours=1)
    assert UNTIL - timedelta(minutes=20) < max(moments) < UNTIL
    assert 0.8 < len(moments) / (500 * DAYS) < 1.2


def test_offices_rest_at_night_and_at_weekends() -> None:
    moments = [at(record) for record in made(Caller(TARGET, 500, "office"))]
    by_hour = Counter(moment.hour for moment in moments)
    assert by_hour[13] > 5 * by_hour[3]
    by_day = Counter(moment.weekday() for moment in moments)
    assert by_day[2] > 2 * by_day[6]


def test_growth_is_seen() -> None:
    moments = [at(record) for record in made(Caller(TARGET, 500, "steady", growth=4))]
    middle = UNTIL - timedelta(days=DAYS / 2)
    assert sum(moment > middle for moment in moments) > 1.6 * sum(moment <= middle for moment in moments)


def test_ids_are_unique_and_every_record_is_one_the_gateway_could_write() -> None:
    records = made(Caller(TARGET, 200, limited=0.2), Caller(TARGET, 20, refusal="key_missing"))
    assert len({record.request_id for record in records}) == len(records)
    for record in records[:500]:
        assert [each for _, each in decode(encode(record))] == [record]
    for record in records:
        assert (record.upstream_status == 0) == (record.outcome != BY_CODE["ok"].number)


def test_an_incident_is_where_it_was_said() -> None:
    start, end = UNTIL - timedelta(days=3, hours=2), UNTIL - timedelta(days=3, hours=1)
    incident = Incident(2, start, end, "upstream_unreachable", 1.0)
    failed = [
        at(record) for record in made(Caller(TARGET, 2_000, "steady"), incidents=(incident,)) if record.status == 502
    ]
    assert failed
    assert start <= min(failed) <= max(failed) < end
