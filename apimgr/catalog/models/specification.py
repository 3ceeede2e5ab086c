from __future__ import annotations

from django.db import models

from apimgr.accounts.models import User
from apimgr.catalog.models.api import API
from apimgr.core.ids import Entity


class SpecificationSource(models.TextChoices):
    UPLOAD = "upload", "Upload"
    PASTE = "paste", "Paste"
    URL = "url", "URL"


class Specification(Entity):
    """An OpenAPI document as it was given, and what reading it found. Never changed: another import is another row."""

    api = models.ForeignKey(API, on_delete=models.CASCADE, related_name="specifications")
    source = models.CharField(max_length=10, choices=SpecificationSource.choices)
    source_url = models.URLField(max_length=500, blank=True)
    filename = models.CharField(max_length=200, blank=True)
    raw = models.BinaryField()  # the bytes as given, so that a download gives back exactly what came
    syntax = models.CharField(max_length=4, choices=[("json", "JSON"), ("yaml", "YAML")])
    openapi_version = models.CharField(max_length=10)
    document = models.JSONField()  # parsed, not rewritten
    title = models.CharField(max_length=200)
    document_version = models.CharField(max_length=80)  # info.version
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveIntegerField()
    findings = models.JSONField(default=list)  # [{severity, code, message, pointer, line}]
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return f"{self.title} {self.document_version}"
