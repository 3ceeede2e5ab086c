"""The developer's side: applications, what they are subscribed to, and the keys they call with."""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone

from apimgr.accounts.models import Organisation, User
from apimgr.contracts.periods import period_bounds
from apimgr.core.ids import Entity
from apimgr.products.models import Plan, Product


class ApplicationState(models.TextChoices):
    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended"


class Application(Entity):
    """A developer's client."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="applications")
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=300, blank=True)
    state = models.CharField(max_length=12, choices=ApplicationState.choices, default=ApplicationState.ACTIVE)
    created_by = models.ForeignKey(User, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organisation", "name"], name="application_name_once_per_organisation")
        ]

    def __str__(self) -> str:
        return self.name


class SubscriptionState(models.TextChoices):
    REQUESTED = "requested", "Requested"
    ACTIVE = "active", "Active"
    SUSPENDED = "suspended", "Suspended"
    CANCELLED = "cancelled", "Cancelled"
    REJECTED = "rejected", "Rejected"


class Subscription(Entity):
    """An application on a plan. At most one that counts per product: the gateway must never have to choose."""

    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="subscriptions")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT, related_name="subscriptions")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="subscriptions")  # the plan's own
    state = models.CharField(max_length=12, choices=SubscriptionState.choices, default=SubscriptionState.REQUESTED)
    decided_at = models.DateTimeField(null=True, blank=True)
    # When it first became active: its billing months begin on that day of the month (UTC). Suspensions do not move it.
    billing_from = models.DateTimeField(null=True, blank=True)
    # The application's first one to this product: what was spent of limits goes on when it cancels and comes back.
    counts_as = models.ForeignKey("self", null=True, on_delete=models.RESTRICT, related_name="+", editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["application", "product"],
                condition=Q(state__in=["requested", "active", "suspended"]),
                name="subscription_one_per_product",
            )
        ]

    def __str__(self) -> str:
        return f"{self.application} on {self.plan}"

    @property
    def billing_resets_at(self) -> datetime | None:
        """When its next billing month begins, and with it a new count of each quota per billing month."""
        if self.billing_from is None:
            return None
        _start, end = period_bounds("billing", timezone.now().timestamp(), int(self.billing_from.timestamp()))
        return datetime.fromtimestamp(end, UTC)


class CredentialState(models.TextChoices):
    ACTIVE = "active", "Active"
    REVOKED = "revoked", "Revoked"


class Credential(Entity):
    """An API key of an application. The key itself is shown once and never stored: only its digest is.

    A key that was rolled has a former secret beside its present one until ``former_until``; both open the same doors.
    """

    application = models.ForeignKey(Application, on_delete=models.CASCADE, related_name="credentials")
    name = models.CharField(max_length=80, default="Key")
    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    prefix = models.CharField(max_length=24)  # ak_live_AbCdEf
    last4 = models.CharField(max_length=4)
    is_test = models.BooleanField(default=False)
    state = models.CharField(max_length=12, choices=CredentialState.choices, default=CredentialState.ACTIVE)
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    former_digest = models.BinaryField(max_length=32, null=True, unique=True, editable=False)
    former_prefix = models.CharField(max_length=24, blank=True, default="", db_default="")
    former_last4 = models.CharField(max_length=4, blank=True, default="", db_default="")
    former_until = models.DateTimeField(null=True, blank=True)
    former_used_at = models.DateTimeField(null=True, blank=True)
    leaked_at = models.DateTimeField(null=True, blank=True)  # when a secret of it was reported as found in public

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(former_digest=None, former_until=None)
                | Q(former_digest__isnull=False, former_until__isnull=False),
                name="credential_former_secret_ends",
            )
        ]

    def __str__(self) -> str:
        return f"{self.prefix}…{self.last4}"

    @property
    def standing(self) -> str:
        """``active``, ``rotating`` while a former secret still works, ``expired`` or ``revoked``."""
        if self.state == CredentialState.REVOKED:
            return "revoked"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "rotating" if self.is_rotating else "active"

    @property
    def is_rotating(self) -> bool:
        return self.former_until is not None and self.former_until > timezone.now()

    @property
    def former(self) -> str:
        """The former secret as it may be shown."""
        return f"{self.former_prefix}…{self.former_last4}"


class LeakNotice(Entity):
    """A mail that one owner of a leaked key is to get. It is deleted when it has been sent."""

    credential = models.ForeignKey(Credential, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="+")
    secret = models.CharField(max_length=40)  # as it may be shown: ak_live_AbCdEf…wxyz
    was_former = models.BooleanField()  # it had been rolled already: the key itself works on
    found_at = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"{self.secret} to {self.user}"
