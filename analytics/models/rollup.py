"""Rollups: counts per minute, hour and day, in cubes just wide enough for the questions asked of them.

One cube over every dimension would be as large as the calls themselves, so there are three. Latency is kept as a
histogram (``analytics.histogram``) whose buckets add up, so percentiles stay right over any span.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models


class Rollup(models.Model):
    """What every cube counts in a bucket of time."""

    bucket = models.DateTimeField()  # its start, UTC
    version_id = models.BigIntegerField()
    n = models.BigIntegerField()
    errors = models.BigIntegerField()  # failures on the serving side: 5xx, or an answer that broke off
    refused = models.BigIntegerField()  # answered by the gateway alone

    class Meta:
        abstract = True


class MeasuredRollup(Rollup):
    status_class = models.SmallIntegerField()  # 2 for 2xx; 0 where nothing was answered
    bytes_in = models.BigIntegerField()
    bytes_out = models.BigIntegerField()
    total_us = models.BigIntegerField()  # sums
    upstream_us = models.BigIntegerField()
    h_idx = ArrayField(models.SmallIntegerField())
    h_n = ArrayField(models.IntegerField())

    class Meta(Rollup.Meta):
        abstract = True


class Traffic(MeasuredRollup):
    """What was called, and how it ended."""

    pk = models.CompositePrimaryKey("version_id", "bucket", "operation_id", "method", "status_class", "outcome")
    operation_id = models.BigIntegerField()
    method = models.SmallIntegerField()
    outcome = models.SmallIntegerField()

    class Meta(MeasuredRollup.Meta):
        abstract = True


class Consumer(MeasuredRollup):
    """Who called, on which plan."""

    pk = models.CompositePrimaryKey("version_id", "bucket", "application_id", "plan_id", "status_class")
    application_id = models.BigIntegerField()
    plan_id = models.BigIntegerField()

    class Meta(MeasuredRollup.Meta):
        abstract = True


class TrafficMinute(Traffic):
    class Meta(Traffic.Meta):
        db_table = "usage_traffic_minute"


class TrafficHour(Traffic):
    class Meta(Traffic.Meta):
        db_table = "usage_traffic_hour"


class TrafficDay(Traffic):
    class Meta(Traffic.Meta):
        db_table = "usage_traffic_day"


class ConsumerMinute(Consumer):
    class Meta(Consumer.Meta):
        db_table = "usage_consumer_minute"


class ConsumerHour(Consumer):
    class Meta(Consumer.Meta):
        db_table = "usage_consumer_hour"


class ConsumerDay(Consumer):
    class Meta(Consumer.Meta):
        db_table = "usage_consumer_day"


class KeyHour(Rollup):
    """Which key calls which operation: who a change would hit, and when a key was last used."""

    pk = models.CompositePrimaryKey("credential_id", "bucket", "version_id", "operation_id")
    operation_id = models.BigIntegerField()
    credential_id = models.BigIntegerField()
    last_at = models.DateTimeField()

    class Meta(Rollup.Meta):
        db_table = "usage_key_hour"
