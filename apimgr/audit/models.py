from __future__ import annotations

from django.conf import settings
from django.db import models

from apimgr.audit.sentences import sentence
from apimgr.core.ids import Entity


class AuditEntry(Entity):
    """Who did what to which thing, and when. Rows are only ever added."""

    organisation_id = models.BigIntegerField(null=True)  # no foreign key: an entry outlives what it is about
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    action = models.CharField(max_length=80)  # catalog.version.published
    target_type = models.CharField(max_length=40)
    target_id = models.BigIntegerField()
    target_name = models.CharField(max_length=200)
    data = models.JSONField(default=dict)

    class Meta:
        verbose_name_plural = "audit entries"
        indexes = [models.Index(fields=["organisation_id", "-id"]), models.Index(fields=["target_id", "-id"])]

    def __str__(self) -> str:
        return f"{self.action} {self.target_name}"

    @property
    def sentence(self) -> str:
        """What happened, in words."""
        return sentence(self)
