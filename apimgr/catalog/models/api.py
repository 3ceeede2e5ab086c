from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import models

from apimgr.accounts.models import Organisation
from apimgr.core.ids import Entity

if TYPE_CHECKING:
    from apimgr.catalog.models.selection import Selection


class Visibility(models.TextChoices):
    PUBLIC = "public", "Public"
    PRIVATE = "private", "Private"


class API(Entity):
    """Something an organisation offers. Its slug is its place in the portal: ``/apis/{slug}``."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="apis")
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    summary = models.CharField(max_length=200, blank=True)
    description = models.TextField(blank=True)  # Markdown
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PUBLIC)

    class Meta:
        verbose_name = "API"

    def __str__(self) -> str:
        return self.name

    @property
    def selection(self) -> Selection | None:
        """How callers choose a version at one address; none where each version has its own."""
        return next((selection for selection in self.selections.all() if selection.is_in_force), None)
