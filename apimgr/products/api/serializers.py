from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apimgr.accounts.models import Organisation
from apimgr.core.rest import IdField
from apimgr.products.models import Limit, LimitKind, LimitPeriod, Plan, Product


class LimitSerializer(serializers.ModelSerializer[Limit]):
    """``amount`` calls per ``period``: a rate smooths traffic, a quota is a hard count per day or month, UTC."""

    kind = serializers.ChoiceField(choices=LimitKind.choices)
    amount = serializers.IntegerField(min_value=1)
    period = serializers.ChoiceField(choices=LimitPeriod.choices)

    class Meta:
        model = Limit
        fields = ["kind", "amount", "period"]


class PlanSerializer(serializers.ModelSerializer[Plan]):
    id = IdField(read_only=True)
    product = serializers.SlugRelatedField[Product](slug_field="slug", read_only=True)
    limits = LimitSerializer(many=True, read_only=True)

    class Meta:
        model = Plan
        fields = ["id", "product", "slug", "name", "description", "is_internal", "requires_approval", "limits"]
        read_only_fields = fields


class NewPlanSerializer(serializers.Serializer[Any]):
    """``limits`` may be left out (60 per minute and 10,000 per month) or empty (no limits)."""

    name = serializers.CharField(max_length=60)
    description = serializers.CharField(max_length=200, required=False, allow_blank=True)
    is_internal = serializers.BooleanField(required=False)
    requires_approval = serializers.BooleanField(required=False)
    limits = LimitSerializer(many=True, required=False)


class PlanChangesSerializer(serializers.Serializer[Any]):
    """``limits`` replaces all limits of the plan."""

    name = serializers.CharField(max_length=60, required=False)
    description = serializers.CharField(max_length=200, required=False, allow_blank=True)
    is_internal = serializers.BooleanField(required=False)
    requires_approval = serializers.BooleanField(required=False)
    limits = LimitSerializer(many=True, required=False)


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
