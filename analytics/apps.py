from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.db import connection
from django.db.models.signals import post_migrate


class AnalyticsConfig(AppConfig):
    name = "analytics"

    def ready(self) -> None:
        post_migrate.connect(make_first_partitions, sender=self)


def make_first_partitions(**_: Any) -> None:
    """A new installation has its partitions before its first call; beat's hourly round keeps them coming."""
    from analytics import partitions

    # Migrating back to nothing ends here, too.
    if "usage_event" in connection.introspection.table_names():
        partitions.keep_partitions()
