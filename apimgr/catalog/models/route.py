from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

from apimgr.catalog.models.version import Version
from apimgr.core.ids import Entity


class Route(Entity):
    """Where callers find a version: public host (empty for any) and base path. One owner, for ever of its life."""

    version = models.OneToOneField(Version, on_delete=models.CASCADE, related_name="route")
    host = models.CharField(max_length=253, blank=True, default="")
    base_path = models.CharField(
        max_length=200,
        validators=[
            RegexValidator(r"^(/[A-Za-z0-9._~-]+)+$", "Start with / and use letters, digits, . _ ~ - between.")
        ],
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "base_path"], name="route_once")]

    def __str__(self) -> str:
        return f"{self.host}{self.base_path}"
