from __future__ import annotations

from django.db import models

from apimgr.catalog.models.api import API
from apimgr.catalog.models.version import Version
from apimgr.core.ids import Entity


class SelectBy(models.TextChoices):
    HEADER = "header", "Header field"
    QUERY = "query", "Query parameter"


class Selection(Entity):
    """How callers choose a version where all of an API share one address: the API says which one is in force.

    One whose address another took the place of is kept: callers may still call there, so nobody else is given it.
    """

    api = models.ForeignKey(API, on_delete=models.CASCADE, related_name="selections")
    select_by = models.CharField(max_length=6, choices=SelectBy.choices)
    name = models.CharField(max_length=60)  # of the field or parameter; contracts.selection says which will do
    host = models.CharField(max_length=253, blank=True, default="")
    base_path = models.CharField(max_length=200)
    # What calls get that name no version; none: they are refused.
    default_version = models.ForeignKey(Version, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["api", "host", "base_path"], name="selection_once_per_address"),
        ]

    def __str__(self) -> str:
        return f"{self.host}{self.base_path}"

    def written(self, value: str) -> str:
        """What a caller sends to get the version of this value."""
        return f"{self.name}: {value}" if self.select_by == SelectBy.HEADER else f"?{self.name}={value}"
