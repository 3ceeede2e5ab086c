"""What is offered: a product holds one or more API versions; a plan says on which terms."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.db import models
from django.db.models import BooleanField, Case, Exists, F, OuterRef, Q, QuerySet, Value, When
from django.db.models.functions import JSONArray, JSONObject
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import API, Operation, Revision, Version
from apimgr.catalog.selectors import LIVE
from apimgr.core.ids import Entity


class Product(Entity):
    """One or more API versions offered together. Each API has one of its own from the start."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="products")
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    versions = models.ManyToManyField(Version, related_name="products")

    def __str__(self) -> str:
        return self.name


class WithoutGrantor(models.TextChoices):
    """What becomes of calls under limits that several hosts share while nobody can grant more."""

    OPEN = "open", gettext_lazy("Let calls through")
    CLOSED = "closed", gettext_lazy("Refuse calls")


class Plan(Entity):
    """Limits of a product. An internal plan is never offered in the portal; a publisher grants it."""

    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="plans")
    name = models.CharField(max_length=60)
    slug = models.SlugField(max_length=60)
    description = models.CharField(max_length=200, blank=True)
    is_internal = models.BooleanField(default=False)
    requires_approval = models.BooleanField(default=False)
    position = models.PositiveSmallIntegerField(default=0)
    without_grantor = models.CharField(
        max_length=8, choices=WithoutGrantor.choices, default=WithoutGrantor.OPEN, db_default=WithoutGrantor.OPEN
    )
    # Whether a call that the upstream failed (no answer, or 5xx) counts against quotas. Refusals of ours never do.
    counts_failures = models.BooleanField(default=True, db_default=True)

    class Meta:
        ordering = ["position", "id"]
        constraints = [models.UniqueConstraint(fields=["product", "slug"], name="plan_slug_once_per_product")]

    def __str__(self) -> str:
        return f"{self.product} {self.name}"

    @property
    def served_limits(self) -> list[Limit]:
        """The limits that hold somebody back: what developers are shown."""
        return [limit for limit in self.limits.all() if limit.is_served]

    @property
    def rules(self) -> list[str]:
        """What else the gateway does by this plan, in sentences."""
        found = []
        if any(limit.kind == LimitKind.QUOTA for limit in self.served_limits):
            found.append(
                _("A call that the API fails counts against the quota.")
                if self.counts_failures
                else _("A call that the API fails does not count against the quota.")
            )
        if self.without_grantor == WithoutGrantor.CLOSED and self.served_limits:
            found.append(_("While limits cannot be checked, calls are refused."))
        return found


class LimitKind(models.TextChoices):
    RATE = "rate", gettext_lazy("Rate limit")
    QUOTA = "quota", gettext_lazy("Quota")
    CONCURRENCY = "concurrency", gettext_lazy("Calls at once")


class LimitPeriod(models.TextChoices):
    SECOND = "second", gettext_lazy("second")
    MINUTE = "minute", gettext_lazy("minute")
    HOUR = "hour", gettext_lazy("hour")
    DAY = "day", gettext_lazy("day")
    MONTH = "month", gettext_lazy("month")
    BILLING = "billing", gettext_lazy("billing month")
    NONE = "none", gettext_lazy("at once")


class LimitRows(models.Manager[Any]):
    """Limits with what they are narrowed to, and whether callers can run into them (``is_served``)."""

    def get_queryset(self) -> QuerySet[Any]:
        # An operation is served if the deployed revision of a live version has it: as [id, method, path].
        serving = Revision.objects.filter(
            pk=OuterRef("operation__version__deployed_revision"),
            version__state__in=LIVE,
            configuration__contains=JSONObject(operations=JSONArray(JSONArray(OuterRef("operation_id")))),
        )
        is_served = Case(
            When(operation=None, then=Value(value=True)), default=Exists(serving), output_field=BooleanField()
        )
        rows = super().get_queryset().select_related("api", "operation__version")
        return cast("QuerySet[Any]", rows.annotate(is_served=is_served))


class BaseLimit(Entity):
    """``amount`` calls per ``period``, of one operation if it names one.

    A rate smooths traffic; a quota is a hard count per day, month or billing month, UTC; concurrency is how many calls
    may be under way, its period ``none``. An operation keeps its row when the document loses it: the limit then holds
    nobody back, and never anybody else, until the operation is served again.
    """

    kind = models.CharField(max_length=12, choices=LimitKind.choices)
    amount = models.PositiveBigIntegerField()
    period = models.CharField(max_length=8, choices=LimitPeriod.choices)
    operation = models.ForeignKey(Operation, null=True, blank=True, on_delete=models.PROTECT, related_name="+")

    # Of rows that were read; one that was just made is not looked up.
    is_served: bool = True
    objects: ClassVar[models.Manager[Any]] = LimitRows()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        where = self.where
        return f"{where}: {self.words}" if where else self.words

    @property
    def words(self) -> str:
        if self.kind == LimitKind.CONCURRENCY:
            return _("%(amount)s at once") % {"amount": f"{self.amount:,}"}
        period = LimitPeriod(self.period).label
        if self.kind == LimitKind.RATE and self.period == LimitPeriod.DAY:
            return _("%(amount)s per day, spread over it") % {"amount": f"{self.amount:,}"}
        return _("%(amount)s per %(period)s") % {"amount": f"{self.amount:,}", "period": period}

    @property
    def where(self) -> str:
        """What it is narrowed to; empty for all calls."""
        if self.operation is None:
            return ""
        return _("%(operation)s in %(version)s") % {"operation": self.operation, "version": self.operation.version.name}

    @property
    def narrowed_api_id(self) -> int | None:
        """Of a limit that holds for one API among several."""
        return None


class Limit(BaseLimit):
    """A limit of a plan: holds for each subscription. May be narrowed to one API of the product, too."""

    plan = models.ForeignKey(Plan, on_delete=models.CASCADE, related_name="limits")
    api = models.ForeignKey(API, null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    # The limit, of whichever plan of the product, that was first to count these calls by this period; it may be gone.
    # What is spent of one is spent of all of them: who moves between plans has no new quota. None is itself.
    counts_as = models.BigIntegerField(null=True, editable=False)

    class Meta:
        ordering = [F("api_id").asc(nulls_first=True), F("operation_id").asc(nulls_first=True), "-kind", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["plan", "kind", "period", "api", "operation"], name="limit_once", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="limit_amount_positive"),
            models.CheckConstraint(condition=Q(api=None) | Q(operation=None), name="limit_narrowed_once"),
            models.CheckConstraint(
                condition=Q(kind="rate", period__in=["second", "minute", "hour", "day"])
                | Q(kind="quota", period__in=["day", "month", "billing"])
                | Q(kind="concurrency", period="none"),
                name="limit_period_fits_kind",
            ),
        ]

    @property
    def where(self) -> str:
        return self.api.name if self.api else super().where

    @property
    def narrowed_api_id(self) -> int | None:
        return self.api_id

    @property
    def counted_by(self) -> int:
        """The id by which gateways count it."""
        return self.counts_as or self.pk


class ApiLimit(BaseLimit):
    """A limit of an API: for all of its callers together, whatever their plan, also those without a key."""

    api = models.ForeignKey(API, on_delete=models.CASCADE, related_name="limits")

    class Meta:
        ordering = [F("operation_id").asc(nulls_first=True), "-kind", "id"]
        constraints = [
            models.UniqueConstraint(
                fields=["api", "kind", "period", "operation"], name="api_limit_once", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(amount__gt=0), name="api_limit_amount_positive"),
            # Nobody's subscription: nothing that a billing month could begin with.
            models.CheckConstraint(
                condition=Q(kind="rate", period__in=["second", "minute", "hour", "day"])
                | Q(kind="quota", period__in=["day", "month"])
                | Q(kind="concurrency", period="none"),
                name="api_limit_period_fits_kind",
            ),
        ]
