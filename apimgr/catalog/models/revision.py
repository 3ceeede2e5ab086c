from __future__ import annotations

from django.db import models
from django.db.models import Q

from apimgr.accounts.models import User
from apimgr.catalog.models.specification import Specification
from apimgr.catalog.models.version import Version
from apimgr.core.ids import Entity


class Revision(Entity):
    """An immutable snapshot of a version's definition and gateway configuration. One is deployed."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    specification = models.ForeignKey(Specification, on_delete=models.PROTECT, related_name="+")
    # {"upstream": {...}, "route": {...}, "gateway": {...}, "operations": [[id, method, path], ...]}: what the compiler
    # needs, frozen. Revisions of earlier days lack what there was no setting for.
    configuration = models.JSONField()
    # The earlier one that it brought back; null when it froze the draft.
    restored_from = models.ForeignKey("self", null=True, editable=False, on_delete=models.PROTECT, related_name="+")
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "number"], name="revision_number_once"),
            models.CheckConstraint(condition=Q(number__gt=0), name="revision_number_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.version} revision {self.number}"
