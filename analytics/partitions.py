"""Partitions by time: made ahead, dropped behind. Old data leaves by ``DROP``, never row by row.

Each partitioned table keeps a default partition, so that a call with an odd clock or a late batch is stored whatever
partitions there are; ``ensure_partitions`` moves such rows to where they belong.
"""

# Names and bounds below are this module's own constants and dates; identifiers cannot be parameters.
# ruff: noqa: S608
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import connection, transaction

# Any number of our own: one partition keeper at a time, held to the end of its transaction.
_LOCK: Final = 0x_61_6E_61_01


@dataclass(frozen=True, slots=True)
class Partitioned:
    """A table cut by day or month along ``column``. ``keep`` names its setting, in days."""

    table: str
    column: str
    monthly: bool
    keep: str

    @property
    def keep_days(self) -> int:
        return int(settings.USAGE_RETENTION_DAYS[self.keep])

    def start(self, day: date) -> date:
        """The first day of the partition that holds ``day``."""
        return day.replace(day=1) if self.monthly else day

    def end(self, start: date) -> date:
        """The first day after it."""
        return (start + timedelta(days=31)).replace(day=1) if self.monthly else start + timedelta(days=1)

    def name(self, start: date) -> str:
        return f"{self.table}_{start:%Y%m}" if self.monthly else f"{self.table}_{start:%Y%m%d}"

    def starts(self, first: date, last: date) -> Iterator[date]:
        start = self.start(first)
        while start <= last:
            yield start
            start = self.end(start)


TABLES: Final = (
    Partitioned("usage_event", "started_at", monthly=False, keep="event"),
    Partitioned("usage_traffic_minute", "bucket", monthly=False, keep="minute"),
    Partitioned("usage_consumer_minute", "bucket", monthly=False, keep="minute"),
    Partitioned("usage_traffic_hour", "bucket", monthly=True, keep="hour"),
    Partitioned("usage_consumer_hour", "bucket", monthly=True, keep="hour"),
    Partitioned("usage_key_hour", "bucket", monthly=True, keep="hour"),
)


def today() -> date:
    return datetime.now(tz=UTC).date()


@transaction.atomic
def ensure_partitions(first: date, last: date) -> int:
    """Make every missing partition from ``first`` to ``last``, both included. Returns how many were made."""
    _one_keeper()
    made = 0
    for table in TABLES:
        present = existing(table)
        for start in table.starts(first, last):
            if start not in present:
                _make(table, start)
                made += 1
    return made


@transaction.atomic
def keep_partitions(*, ahead_days: int = 3) -> int:
    """The hourly round: partitions for the days to come, and for whatever fell into a default partition."""
    made = ensure_partitions(today(), today() + timedelta(days=ahead_days))
    for table in TABLES:
        for start in _strays(table):
            if start not in existing(table):
                _make(table, start)
                made += 1
    return made


@transaction.atomic
def drop_expired() -> list[str]:
    """Drop each partition whose last moment is older than its table keeps. Returns their names."""
    _one_keeper()
    dropped = []
    for table in TABLES:
        oldest = today() - timedelta(days=table.keep_days)
        for start in sorted(existing(table)):
            if table.end(start) <= oldest:
                with connection.cursor() as cursor:
                    cursor.execute(f"DROP TABLE {table.name(start)}")
                dropped.append(table.name(start))
    return dropped


def existing(table: Partitioned) -> set[date]:
    """The first days of a table's partitions, the default one apart."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid"
            " WHERE inhparent = %s::regclass",
            [table.table],
        )
        names = [name for (name,) in cursor.fetchall()]
    digits = [match[1] for name in names if (match := re.fullmatch(rf"{table.table}_(\d+)", name))]
    return {date(int(text[:4]), int(text[4:6]), int(text[6:] or 1)) for text in digits}


def _one_keeper() -> None:
    with connection.cursor() as cursor:
        # Whoever waits for a table's lock holds up everyone behind: rather give up and try again next round.
        cursor.execute("SET LOCAL lock_timeout = '5s'")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])


def _strays(table: Partitioned) -> list[date]:
    unit = "month" if table.monthly else "day"
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT DISTINCT date_trunc(%s, {table.column} AT TIME ZONE 'UTC')::date FROM {table.table}_default",
            [unit],
        )
        return [day for (day,) in cursor.fetchall()]


def _make(table: Partitioned, start: date) -> None:
    """Build the partition aside, move what the default one holds of it, and attach it.

    ``CREATE ... PARTITION OF`` alone refuses a range the default partition already has rows of.
    """
    name, end = table.name(start), table.end(start)
    bounds = f"'{start} 00:00+00'", f"'{end} 00:00+00'"
    inside = f"{table.column} >= {bounds[0]} AND {table.column} < {bounds[1]}"
    with connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {table.table}_default IN ACCESS EXCLUSIVE MODE")
        cursor.execute(f"CREATE TABLE {name} (LIKE {table.table} INCLUDING DEFAULTS)")
        cursor.execute(
            f"WITH moved AS (DELETE FROM {table.table}_default WHERE {inside} RETURNING *)"
            f" INSERT INTO {name} SELECT * FROM moved"
        )
        cursor.execute(
            f"ALTER TABLE {table.table} ATTACH PARTITION {name} FOR VALUES FROM ({bounds[0]}) TO ({bounds[1]})"
        )
