from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apimgr.accounts.models import ApiToken, Invitation, Membership, Organisation, Role, User
from apimgr.audit.models import AuditEntry
from apimgr.core.rest import IdField


class PersonSerializer(serializers.ModelSerializer[User]):
    id = IdField(read_only=True)

    class Meta:
        model = User
        fields = ["id", "email", "name"]
        read_only_fields = fields


class OrganisationSerializer(serializers.ModelSerializer[Organisation]):
    id = IdField(read_only=True)

    class Meta:
        model = Organisation
        fields = ["id", "slug", "name", "is_publisher", "state", "created_at"]
        read_only_fields = fields


class MeSerializer(serializers.Serializer[Any]):
    """Who a token acts as, where, and with which permissions there."""

    person = PersonSerializer(read_only=True)
    organisation = OrganisationSerializer(read_only=True)
    role = serializers.ChoiceField(choices=Role.choices, read_only=True)
    permissions = serializers.ListField(child=serializers.CharField(), read_only=True)


class MemberSerializer(serializers.ModelSerializer[Membership]):
    id = IdField(read_only=True)
    person = PersonSerializer(source="user", read_only=True)

    class Meta:
        model = Membership
        fields = ["id", "person", "role", "created_at"]
        read_only_fields = fields


class RoleSerializer(serializers.Serializer[Any]):
    role = serializers.ChoiceField(choices=Role.choices)


class InvitationSerializer(serializers.ModelSerializer[Invitation]):
    id = IdField(read_only=True)
    is_open = serializers.BooleanField(read_only=True, help_text="False once it has expired.")

    class Meta:
        model = Invitation
        fields = ["id", "email", "role", "is_open", "expires_at", "created_at"]
        read_only_fields = fields


class NewInvitationSerializer(serializers.Serializer[Any]):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(choices=Role.choices)


class TokenSerializer(serializers.ModelSerializer[ApiToken]):
    id = IdField(read_only=True)
    person = PersonSerializer(source="user", read_only=True)
    state = serializers.ChoiceField(choices=["active", "expired", "revoked"], read_only=True)

    class Meta:
        model = ApiToken
        fields = ["id", "name", "prefix", "last4", "person", "state", "expires_at", "last_used_at", "created_at"]
        read_only_fields = fields


class NewTokenSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=80)
    expires_at = serializers.DateTimeField(
        required=False, allow_null=True, default=None, help_text="At the latest when the calling token itself expires."
    )


class IssuedTokenSerializer(TokenSerializer):
    """A token at the one moment its secret is readable."""

    secret = serializers.CharField(read_only=True)

    class Meta(TokenSerializer.Meta):
        fields = [*TokenSerializer.Meta.fields, "secret"]
        read_only_fields = fields


class AuditEntrySerializer(serializers.ModelSerializer[AuditEntry]):
    id = IdField(read_only=True)
    actor = PersonSerializer(read_only=True, allow_null=True, help_text="Null for the platform itself.")
    sentence = serializers.CharField(read_only=True)
    target_id = IdField(read_only=True)

    class Meta:
        model = AuditEntry
        fields = ["id", "created_at", "actor", "action", "sentence", "target_type", "target_id", "target_name"]
        read_only_fields = fields
