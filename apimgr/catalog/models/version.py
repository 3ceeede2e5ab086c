from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models

from apimgr.catalog.models.api import API
from apimgr.catalog.models.specification import Specification
from apimgr.core.ids import Entity


class VersionState(models.TextChoices):
    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"
    DEPRECATED = "deprecated", "Deprecated"
    RETIRED = "retired", "Retired"


class Version(Entity):
    """One version of an API (``v1``); several are live at once. ``lifecycle.py`` says which state may follow which."""

    api = models.ForeignKey(API, on_delete=models.CASCADE, related_name="versions")
    name = models.CharField(
        max_length=40,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", "Use letters, digits, dots, dashes, underscores.")],
    )
    # What callers choose it by where the API's versions share an address; empty: its name.
    selector = models.CharField(max_length=40, blank=True, default="", db_default="")
    state = models.CharField(max_length=12, choices=VersionState.choices, default=VersionState.DRAFT)
    specification = models.ForeignKey(
        Specification, null=True, blank=True, on_delete=models.PROTECT, related_name="versions"
    )
    # The revision the gateway serves; null until the first publication.
    deployed_revision = models.ForeignKey("Revision", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    published_at = models.DateTimeField(null=True, blank=True)
    deprecated_at = models.DateTimeField(null=True, blank=True)
    sunset_at = models.DateTimeField(null=True, blank=True)  # when a deprecated version is meant to be retired
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["api", "name"], name="version_name_once_per_api")]

    def __str__(self) -> str:
        return f"{self.api} {self.name}"

    @property
    def value(self) -> str:
        """What callers choose it by where the API's versions share an address."""
        return self.selector or self.name

    @property
    def choice(self) -> str:
        """What callers send to get it, such as ``X-Api-Version: v1``; empty where its address is its own."""
        selection = self.api.selection
        return selection.written(self.value) if selection else ""

    @property
    def address(self) -> str:
        """Host and path that callers find it at: shared with other versions where there is a ``choice``."""
        return str(self.api.selection or getattr(self, "route", None) or "")

    @property
    def is_default(self) -> bool:
        """Whether calls get it that name no version, at the address that the API's versions share."""
        selection = self.api.selection
        return selection is not None and selection.default_version_id == self.pk

    @property
    def is_live(self) -> bool:
        """Whether calls are served."""
        return self.state in {VersionState.PUBLISHED, VersionState.DEPRECATED}
