from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apimgr.accounts.models import Organisation, OrganisationState, User
from apimgr.catalog.models import API
from apimgr.core.rest import IdField
from apimgr.products.models import Limit, Plan, Product
from portal.lifecycle import Side, moves_from
from portal.models import Application, Credential, Subscription, SubscriptionState
from portal.selectors import base_url, needs_key
from portal.services.leaks import MAX_KEYS


class ApplicationSerializer(serializers.ModelSerializer[Application]):
    id = IdField(read_only=True)
    organisation = serializers.SlugRelatedField[Organisation](slug_field="slug", read_only=True)

    class Meta:
        model = Application
        fields = ["id", "organisation", "name", "description", "state", "created_at"]
        read_only_fields = fields


class OwnersQuerySerializer(serializers.Serializer[Any]):
    q = serializers.CharField(
        max_length=100,
        required=False,
        allow_blank=True,
        help_text="Part of a name, or of a member's e-mail address.",
    )
    state = serializers.ChoiceField(choices=OrganisationState.choices, required=False)


class OwnerSerializer(serializers.ModelSerializer[Organisation]):
    """An organisation as operators see it. While it is suspended, or ownerless, its applications' calls are refused."""

    id = IdField(read_only=True)
    members = serializers.IntegerField(read_only=True)
    applications = serializers.IntegerField(source="applications_owned", read_only=True)
    is_ownerless = serializers.BooleanField(
        read_only=True, help_text="Whether every member who may manage its applications is disabled."
    )

    class Meta:
        model = Organisation
        fields = [
            "id",
            "slug",
            "name",
            "is_publisher",
            "state",
            "is_ownerless",
            "members",
            "applications",
            "created_at",
        ]
        read_only_fields = fields


class PeopleQuerySerializer(serializers.Serializer[Any]):
    q = serializers.CharField(
        max_length=100, required=False, allow_blank=True, help_text="Part of a name or an e-mail address."
    )
    state = serializers.ChoiceField(choices=["active", "disabled"], required=False)


class AccountSerializer(serializers.ModelSerializer[User]):
    """A person as operators see them."""

    id = IdField(read_only=True)
    state = serializers.SerializerMethodField()
    organisations = serializers.IntegerField(read_only=True, help_text="How many they belong to.")

    class Meta:
        model = User
        fields = ["id", "email", "name", "state", "is_operator", "organisations", "last_login", "created_at"]
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=["active", "disabled"]))
    def get_state(self, person: User) -> str:
        return "active" if person.is_active else "disabled"


class NewApplicationSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")


class ApplicationChangesSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80, required=False)
    description = serializers.CharField(max_length=300, required=False, allow_blank=True)


class PortalLimitSerializer(serializers.ModelSerializer[Limit]):
    """``api`` and ``operation`` say whose calls it counts; null for all. ``text`` is the whole in words."""

    api = serializers.SlugRelatedField[API](slug_field="slug", read_only=True)
    operation = IdField(source="operation_id", read_only=True)
    text = serializers.CharField(source="__str__", read_only=True)

    class Meta:
        model = Limit
        fields = ["kind", "amount", "period", "api", "operation", "text"]
        read_only_fields = fields


class PortalPlanSerializer(serializers.ModelSerializer[Plan]):
    """A plan as it is offered, with the limits the gateway enforces."""

    id = IdField(read_only=True)
    limits = PortalLimitSerializer(source="served_limits", many=True, read_only=True)

    class Meta:
        model = Plan
        fields = ["id", "name", "description", "requires_approval", "counts_failures", "without_grantor", "limits"]
        read_only_fields = fields


class SubscriptionsQuerySerializer(serializers.Serializer[Any]):
    state = serializers.ChoiceField(
        choices=SubscriptionState.choices,
        required=False,
        help_text="``requested`` is what waits for a decision.",
    )


class SubscriptionSerializer(serializers.ModelSerializer[Subscription]):
    """``moves`` are what the publisher may do to it; a developer may cancel it unless it is suspended."""

    id = IdField(read_only=True)
    application = ApplicationSerializer(read_only=True)
    product = serializers.SlugRelatedField[Product](slug_field="slug", read_only=True)
    plan = PortalPlanSerializer(read_only=True)
    moves = serializers.SerializerMethodField()
    billing_resets_at = serializers.DateTimeField(
        read_only=True, allow_null=True, help_text="When quotas per billing month count anew."
    )

    class Meta:
        model = Subscription
        fields = [
            "id",
            "application",
            "product",
            "plan",
            "state",
            "moves",
            "created_at",
            "decided_at",
            "billing_from",
            "billing_resets_at",
        ]
        read_only_fields = fields

    def get_moves(self, subscription: Subscription) -> list[str]:
        return [move.value for move in moves_from(subscription.state, Side.PUBLISHER)]


class NewSubscriptionSerializer(serializers.Serializer[Any]):
    plan = IdField(help_text="Of a plan the catalogue offers.")


class CredentialSerializer(serializers.ModelSerializer[Credential]):
    """A key without its secret, which nobody has."""

    id = IdField(read_only=True)
    application = IdField(source="application_id", read_only=True)
    standing = serializers.ChoiceField(
        choices=["active", "rotating", "expired", "revoked"],
        read_only=True,
        help_text="Rotating: the key was rolled and its former secret still works, until ``former_until``.",
    )

    class Meta:
        model = Credential
        fields = [
            "id",
            "application",
            "name",
            "prefix",
            "last4",
            "is_test",
            "state",
            "created_at",
            "last_used_at",
            "expires_at",
            "revoked_at",
            "standing",
            "former_prefix",
            "former_last4",
            "former_until",
            "former_used_at",
            "leaked_at",
        ]
        read_only_fields = fields


class LookUpSerializer(serializers.Serializer[Any]):
    key = serializers.CharField(
        max_length=200, help_text="A whole key, or its start: prefix, live or test, and up to six characters."
    )


class FoundKeySerializer(serializers.ModelSerializer[Credential]):
    """A key and whose it is, for those whose APIs it calls."""

    id = IdField(read_only=True)
    application = ApplicationSerializer(read_only=True)

    class Meta:
        model = Credential
        fields = ["id", "prefix", "last4", "is_test", "state", "application", "created_at", "last_used_at"]
        read_only_fields = fields


class NewCredentialSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80, required=False, default="Key")
    is_test = serializers.BooleanField(required=False, default=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True, default=None)


class RollSerializer(serializers.Serializer[Any]):
    overlap_seconds = serializers.IntegerField(
        min_value=0, max_value=30 * 86_400, default=0, help_text="For how long the present secret works on."
    )


class LeakSerializer(serializers.Serializer[Any]):
    keys = serializers.ListField(
        child=serializers.CharField(max_length=200),
        min_length=1,
        max_length=MAX_KEYS,
        help_text="What looked like our keys. It is not kept.",
    )
    found_at = serializers.CharField(max_length=500, required=False, default="", help_text="Where, for the owner.")


class StoppedSerializer(serializers.Serializer[Any]):
    stopped = serializers.IntegerField(help_text="How many of them still worked, and do no more.")


class ExpirySerializer(serializers.Serializer[Any]):
    expires_at = serializers.DateTimeField(allow_null=True, help_text="Null for no end.")


class IssuedCredentialSerializer(CredentialSerializer):
    """With the key itself: only in the answer that makes it."""

    key = serializers.CharField(read_only=True)

    class Meta(CredentialSerializer.Meta):
        fields = [*CredentialSerializer.Meta.fields, "key"]
        read_only_fields = fields


class OfferedVersionSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    state = serializers.CharField()
    base_url = serializers.SerializerMethodField()
    choice = serializers.CharField(
        help_text="What a call carries to get it, such as X-Api-Version: v1; empty where its address is its own."
    )
    needs_key = serializers.SerializerMethodField(help_text="False where anybody may call, without a subscription.")
    sunset_at = serializers.DateTimeField(allow_null=True)

    def get_base_url(self, version: Any) -> str:
        return base_url(version)

    def get_needs_key(self, version: Any) -> bool:
        return needs_key(version)


class CatalogueQuerySerializer(serializers.Serializer[Any]):
    q = serializers.CharField(
        max_length=100, required=False, allow_blank=True, help_text="Words that must be found in name, text or paths."
    )


class OfferedApiSerializer(serializers.ModelSerializer[API]):
    """An API of the catalogue, with its live versions."""

    publisher = serializers.CharField(source="organisation.name", read_only=True)
    versions = OfferedVersionSerializer(source="live_versions", many=True, read_only=True)

    class Meta:
        model = API
        fields = ["slug", "name", "summary", "description", "publisher", "versions"]
        read_only_fields = fields
