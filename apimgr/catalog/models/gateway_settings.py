from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from apimgr.catalog.models.version import Version
from apimgr.contracts.bounds import BOUNDS
from apimgr.core.ids import Entity


class UnknownOperation(models.TextChoices):
    REFUSE = "refuse", "Refuse them (404)"
    PASS = "pass", "Forward them"


class Authentication(models.TextChoices):
    KEY = "key", "Callers with a key"
    NONE = "none", "Anybody, without a key"


class WhenUnrecordable(models.TextChoices):
    REFUSE = "refuse", "Refuse them (503)"
    PASS = "pass", "Forward them, without a record"


def within(name: str) -> list[Any]:
    """Validators for a number that the gateway bounds."""
    least, most = BOUNDS[name]
    return [MinValueValidator(least), MaxValueValidator(most)]


class GatewaySettings(Entity):
    """How the gateway treats a version's calls. A version without a row has what a new row has."""

    version = models.OneToOneField(Version, on_delete=models.CASCADE, related_name="gateway_settings")
    # Without keys nobody is known: no plan or subscription holds, only what the API's own limits say.
    authentication = models.CharField(
        max_length=4, choices=Authentication.choices, default=Authentication.KEY, db_default=Authentication.KEY
    )
    # Of calls to a path or with a method that the document does not have.
    unknown_operation = models.CharField(
        max_length=6, choices=UnknownOperation.choices, default=UnknownOperation.REFUSE
    )
    max_body_bytes = models.PositiveBigIntegerField(default=10 * 2**20, validators=within("max_body_bytes"))
    upgrades = ArrayField(models.CharField(max_length=40), blank=True, default=list)
    websocket_origins = ArrayField(models.CharField(max_length=300), blank=True, default=list)  # none: any
    tunnel_idle_ms = models.PositiveIntegerField(default=300_000, validators=within("tunnel_idle_ms"))
    max_message_bytes = models.PositiveIntegerField(default=2**20, validators=within("max_message_bytes"))

    # Of calls while a gateway's spool is full.
    when_unrecordable = models.CharField(
        max_length=6,
        choices=WhenUnrecordable.choices,
        default=WhenUnrecordable.REFUSE,
        db_default=WhenUnrecordable.REFUSE,
    )

    class Meta:
        verbose_name_plural = "gateway settings"

    def __str__(self) -> str:
        return f"{self.version} at the gateway"

    def as_configuration(self) -> dict[str, Any]:
        """As a revision keeps it, under the names of the gateway's documents."""
        return {field: getattr(self, field) for field in FIELDS}


FIELDS = (
    "authentication", "unknown_operation", "max_body_bytes", "upgrades", "websocket_origins", "tunnel_idle_ms",
    "max_message_bytes", "when_unrecordable",
)  # fmt: skip
