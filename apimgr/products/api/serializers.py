from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import API
from apimgr.contracts.bounds import MAX_AMOUNT
from apimgr.core.rest import IdField
from apimgr.products.models import LimitKind, LimitPeriod, Plan, Product, WithoutGrantor


class ApiLimitSerializer(serializers.Serializer[Any]):
    """``amount`` calls per ``period``: a rate smooths traffic, a quota is a hard count by the calendar in UTC, and
    concurrency is how many calls may be under way, its period ``none``. ``operation`` narrows it to the calls of one.
    """

    kind = serializers.ChoiceField(choices=LimitKind.choices)
    amount = serializers.IntegerField(min_value=1, max_value=MAX_AMOUNT)
    period = serializers.ChoiceField(choices=LimitPeriod.choices, default=LimitPeriod.NONE)
    operation = IdField(
        source="operation_id", required=False, allow_null=True, default=None, help_text="Null for all operations."
    )
    text = serializers.CharField(source="__str__", read_only=True, help_text="In words, as pages show it.")
    is_served = serializers.BooleanField(
        read_only=True, help_text="False while the gateway serves no such operation: it then holds nobody back."
    )


class LimitSerializer(ApiLimitSerializer):
    """As a limit of an API; ``api`` narrows it to the calls of one API of the product."""

    api = serializers.SlugRelatedField[API](
        slug_field="slug", queryset=API.objects.all(), required=False, allow_null=True, default=None
    )


class PlanSerializer(serializers.ModelSerializer[Plan]):
    id = IdField(read_only=True)
    product = serializers.SlugRelatedField[Product](slug_field="slug", read_only=True)
    limits = LimitSerializer(many=True, read_only=True)

    class Meta:
        model = Plan
        fields = [
            "id",
            "product",
            "slug",
            "name",
            "description",
            "is_internal",
            "requires_approval",
            "without_grantor",
            "counts_failures",
            "limits",
        ]
        read_only_fields = fields


class NewPlanSerializer(serializers.Serializer[Any]):
    """``limits`` may be left out (60 per minute and 10,000 per month) or empty (no limits)."""

    name = serializers.CharField(max_length=60)
    description = serializers.CharField(max_length=200, required=False, allow_blank=True)
    is_internal = serializers.BooleanField(required=False)
    requires_approval = serializers.BooleanField(required=False)
    without_grantor = serializers.ChoiceField(
        choices=WithoutGrantor.choices,
        required=False,
        help_text="What becomes of calls while gateway hosts cannot check limits that they share.",
    )
    counts_failures = serializers.BooleanField(
        required=False, help_text="Whether a call that the upstream failed (no answer, or 5xx) counts against quotas."
    )
    limits = LimitSerializer(many=True, required=False)


class PlanChangesSerializer(serializers.Serializer[Any]):
    """``limits`` replaces all limits of the plan."""

    name = serializers.CharField(max_length=60, required=False)
    description = serializers.CharField(max_length=200, required=False, allow_blank=True)
    is_internal = serializers.BooleanField(required=False)
    requires_approval = serializers.BooleanField(required=False)
    without_grantor = serializers.ChoiceField(
        choices=WithoutGrantor.choices,
        required=False,
        help_text="What becomes of calls while gateway hosts cannot check limits that they share.",
    )
    counts_failures = serializers.BooleanField(
        required=False, help_text="Whether a call that the upstream failed (no answer, or 5xx) counts against quotas."
    )
    limits = LimitSerializer(many=True, required=False)


class ApiLimitsSerializer(serializers.Serializer[Any]):
    """All limits for all callers of an API together."""

    limits = ApiLimitSerializer(many=True)


class ProductSerializer(serializers.ModelSerializer[Product]):
    id = IdField(read_only=True)
    organisation = serializers.SlugRelatedField[Organisation](slug_field="slug", read_only=True)
    versions = serializers.SerializerMethodField(help_text="As api/version.")
    plans = PlanSerializer(many=True, read_only=True)

    class Meta:
        model = Product
        fields = ["id", "slug", "organisation", "name", "versions", "plans", "created_at"]
        read_only_fields = fields

    def get_versions(self, product: Product) -> list[str]:
        return [f"{version.api.slug}/{version.name}" for version in product.versions.all()]
