from __future__ import annotations

from django.db import models

from apimgr.catalog.models.version import Version
from apimgr.core.ids import Entity


class Upstream(Entity):
    """Where a version's calls go."""

    version = models.OneToOneField(Version, on_delete=models.CASCADE, related_name="upstream")
    # Not a URLField: its validator refuses the one-word host names of internal networks. ``core.egress`` checks it.
    url = models.CharField(max_length=500)
    connect_timeout_ms = models.PositiveIntegerField(default=5_000)
    read_timeout_ms = models.PositiveIntegerField(default=30_000)
    preserve_host = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.url
