"""What is offered: a product holds one or more API versions; a plan says on which terms."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import Version
from apimgr.core.ids import Entity


class Product(Entity):
    """One or more API versions offered together. Each API has one of its own from the start."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="products")
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    versions = models.ManyToManyField(Version, related_name="products")

    def __str__(self) -> str:
        return self.name


class Plan(Entity):
    """Limits of a product. An internal plan is never offered in the portal; a publisher grants it."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="plans")
    name = models.CharField(max_length=60)
    slug = models.SlugField(max_length=60)
    description = models.CharField(max_length=200, blank=True)
    is_internal = models.BooleanField(default=False)
    requires_approval = models.BooleanField(default=False)
    position = models.PositiveSmallIntegerField(default=0)

    class Meta:
        ordering = ["position", "id"]
        constraints = [models.UniqueConstraint(fields=["product", "slug"], name="plan_slug_once_per_product")]

    def __str__(self) -> str:
        return f"{self.product} {self.name}"


class LimitKind(models.TextChoices):
    RATE = "rate", "Rate limit"
    QUOTA = "quota", "Quota"


class LimitPeriod(models.TextChoices):
    SECOND = "second", "second"
    MINUTE = "minute", "minute"
    HOUR = "hour", "hour"
    DAY = "day", "day"
    MONTH = "month", "month"


class Limit(Entity):
    """``amount`` calls per ``period``. A rate smooths traffic; a quota is a hard count per day or month, UTC."""

    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="limits")
    kind = models.CharField(max_length=8, choices=LimitKind.choices)
    amount = models.PositiveBigIntegerField()
    period = models.CharField(max_length=8, choices=LimitPeriod.choices)

    class Meta:
        ordering = ["kind", "id"]
        constraints = [
            models.UniqueConstraint(fields=["plan", "kind", "period"], name="limit_once_per_period"),
            models.CheckConstraint(condition=Q(amount__gt=0), name="limit_amount_positive"),
            models.CheckConstraint(
                condition=Q(kind="rate", period__in=["second", "minute", "hour", "day"])
                | Q(kind="quota", period__in=["day", "month"]),
                name="limit_period_fits_kind",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.amount:,} per {self.period}"
