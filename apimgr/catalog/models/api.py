from __future__ import annotations

from django.db import models

from apimgr.accounts.models import Organisation
from apimgr.core.ids import Entity


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
    # How callers choose a version, where all share one address; null where each version has its own.
    selection = models.OneToOneField(
        "Selection", null=True, blank=True, on_delete=models.SET_NULL, related_name="in_force_for"
    )
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PUBLIC)

    class Meta:
        verbose_name = "API"

    def __str__(self) -> str:
        return self.name
