from __future__ import annotations

from django.db import models

from apimgr.catalog.models.gateway_settings import within
from apimgr.catalog.models.version import Version
from apimgr.core.ids import Entity


class Upstream(Entity):
    """Where a version's calls go."""

    version = models.OneToOneField(Version, on_delete=models.CASCADE, related_name="upstream")
    # Not a URLField: its validator refuses the one-word host names of internal networks. ``core.egress`` checks it.
    url = models.CharField(max_length=500)
    connect_timeout_ms = models.PositiveIntegerField(default=5_000, validators=within("connect_timeout_ms"))
    read_timeout_ms = models.PositiveIntegerField(default=30_000, validators=within("read_timeout_ms"))
    # Of one worker of the gateway at a time; calls beyond wait for one to be free.
    max_connections = models.PositiveIntegerField(default=256, db_default=256, validators=within("max_connections"))
    preserve_host = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.url
