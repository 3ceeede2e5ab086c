from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector
from django.db import models
from django.db.models import F, Func, TextField, Value
from django.db.models.functions import Concat

from apimgr.catalog.models.version import Version
from apimgr.core.ids import Entity

# What an operation is found by. A path is taken apart: PostgreSQL would take /orders/{id} for one word.
OPERATION_WORDS = SearchVector(
    Func(
        Concat(F("path"), Value(" "), F("summary"), Value(" "), F("operation_id"), output_field=TextField()),
        Value("[^[:alnum:]]+"),
        Value(" "),
        Value("g"),
        function="regexp_replace",
        output_field=TextField(),
    ),
    config="english",
)


class Operation(Entity):
    """A method and a path template of a version. Keeps its id when a new document still has it: usage hangs on it."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="operations")
    method = models.CharField(max_length=10)  # upper case
    path = models.CharField(max_length=500)  # OpenAPI path template, below the base path
    operation_id = models.CharField(max_length=200, blank=True)
    summary = models.CharField(max_length=300, blank=True)
    tags = models.JSONField(default=list)
    is_deprecated = models.BooleanField(default=False)
    is_current = models.BooleanField(default=True)  # false once the document no longer has it

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "method", "path"], name="operation_once_per_version")]
        indexes = [GinIndex(OPERATION_WORDS, name="operation_words")]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"
