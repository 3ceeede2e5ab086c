from __future__ import annotations

from datetime import UTC, datetime

import pytest
from celery.schedules import crontab
from django.core.management import call_command
from django.db import connection

from analytics import partitions, schedules, tasks
from analytics.models import TrafficDay
from apimgr.celery import app, beat_schedule
from tests.analytics.calls import call, store


def test_beat_knows_every_schedule() -> None:
    entries = beat_schedule()
    assert schedules.SCHEDULE.items() <= entries.items()
    assert {entry["task"] for entry in schedules.SCHEDULE.values()} <= app.tasks.keys()


def test_a_missed_run_expires_before_it_piles_up() -> None:
    for entry in schedules.SCHEDULE.values():
        every = 3_600.0 if isinstance(entry["schedule"], crontab) else entry["schedule"]
        assert entry["options"]["expires"] <= max(10, every)


@pytest.mark.django_db
def test_tasks_only_go_and_look() -> None:
    store(call(), call())
    tasks.roll_up()
    tasks.roll_up()
    tasks.keep_partitions()
    tasks.drop_expired()
    assert sum(TrafficDay.objects.values_list("n", flat=True)) == 2


@pytest.mark.django_db
def test_a_new_installation_has_its_partitions() -> None:
    today = datetime.now(tz=UTC).date()
    assert today in partitions.existing(partitions.TABLES[0])


@pytest.mark.django_db(transaction=True)
def test_the_migration_goes_back_and_forth() -> None:
    call_command("migrate", "analytics", "zero", verbosity=0)
    assert not [name for name in connection.introspection.table_names() if name.startswith("usage_")]
    call_command("migrate", "analytics", verbosity=0)
    assert "usage_event" in connection.introspection.table_names()
