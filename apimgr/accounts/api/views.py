"""Organisations, members, tokens and the audit trail over REST."""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast

from django.db.models import QuerySet
from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response

from apimgr.accounts import selectors, services
from apimgr.accounts.access import ROLES, Permission, role_of
from apimgr.accounts.api import serializers
from apimgr.accounts.models import ApiToken, Invitation, Membership, Organisation
from apimgr.audit.models import AuditEntry
from apimgr.core.rest_views import RestView


class _AccountsView(RestView):
    @property
    def token(self) -> ApiToken:
        return cast("ApiToken", self.request.auth)

    def organisation(self, permission: Permission = Permission.MEMBERSHIP_OWN) -> Organisation:
        return selectors.organisation(self.actor, self.kwargs["slug"], permission)


class Me(_AccountsView):
    serializer_class = serializers.MeSerializer

    @extend_schema(operation_id="me_read", summary="Read who your token acts as", tags=["me"])
    def get(self, request: Request) -> Response:
        role = role_of(self.actor, self.token.organisation)
        assert role is not None, "authentication refuses tokens whose owner has left"
        me = {
            "person": self.actor,
            "organisation": self.token.organisation,
            "role": role,
            "permissions": sorted(ROLES[role]),
        }
        return Response(self.get_serializer(me).data)


class OrganisationList(_AccountsView, generics.ListAPIView[Organisation]):
    serializer_class = serializers.OrganisationSerializer

    def get_queryset(self) -> QuerySet[Organisation]:
        return selectors.organisations(self.actor)

    @extend_schema(operation_id="organisations_list", summary="List the organisations your token acts in")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class OrganisationDetail(_AccountsView):
    serializer_class = serializers.OrganisationSerializer

    @extend_schema(operation_id="organisations_read", summary="Read an organisation")
    def get(self, request: Request, slug: str) -> Response:
        return Response(self.get_serializer(self.organisation()).data)


class MemberList(_AccountsView, generics.ListAPIView[Membership]):
    serializer_class = serializers.MemberSerializer

    def get_queryset(self) -> QuerySet[Membership]:
        return selectors.members(self.actor, self.organisation())

    @extend_schema(operation_id="members_list", summary="List the members", tags=["members"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class MemberDetail(_AccountsView):
    serializer_class = serializers.MemberSerializer

    def membership(self) -> Membership:
        return get_object_or_404(selectors.members(self.actor, self.organisation()), pk=self.kwargs["membership_id"])

    @extend_schema(operation_id="members_read", summary="Read a member", tags=["members"])
    def get(self, request: Request, slug: str, membership_id: int) -> Response:
        return Response(self.get_serializer(self.membership()).data)

    @extend_schema(
        operation_id="members_change",
        summary="Give a member another role",
        tags=["members"],
        request=serializers.RoleSerializer,
    )
    def put(self, request: Request, slug: str, membership_id: int) -> Response:
        membership = self.membership()  # before the body is read: a stranger learns nothing from its errors
        given = self.given(serializers.RoleSerializer)
        changed = services.change_role(actor=self.actor, membership=membership, role=given["role"])
        return Response(self.get_serializer(changed).data)

    @extend_schema(operation_id="members_remove", summary="Remove a member", tags=["members"], responses={204: None})
    def delete(self, request: Request, slug: str, membership_id: int) -> Response:
        services.remove_member(actor=self.actor, membership=self.membership())
        return Response(status=status.HTTP_204_NO_CONTENT)


class InvitationList(_AccountsView, generics.ListAPIView[Invitation]):
    serializer_class = serializers.InvitationSerializer

    def get_queryset(self) -> QuerySet[Invitation]:
        return selectors.invitations(self.actor, self.organisation(Permission.MEMBER_MANAGE))

    @extend_schema(operation_id="invitations_list", summary="List open invitations", tags=["members"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="invitations_create",
        summary="Invite someone by e-mail",
        tags=["members"],
        request=serializers.NewInvitationSerializer,
        responses={201: serializers.InvitationSerializer},
    )
    def post(self, request: Request, slug: str) -> Response:
        organisation = self.organisation(Permission.MEMBER_MANAGE)
        given = self.given(serializers.NewInvitationSerializer)
        invitation = services.invite_member(actor=self.actor, organisation=organisation, **given)
        return Response(self.get_serializer(invitation).data, status.HTTP_201_CREATED)


class InvitationDetail(_AccountsView):
    serializer_class = serializers.InvitationSerializer

    @extend_schema(
        operation_id="invitations_withdraw", summary="Withdraw an invitation", tags=["members"], responses={204: None}
    )
    def delete(self, request: Request, slug: str, invitation_id: int) -> Response:
        found = selectors.invitations(self.actor, self.organisation(Permission.MEMBER_MANAGE))
        services.withdraw_invitation(actor=self.actor, invitation=get_object_or_404(found, pk=invitation_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class TokenList(_AccountsView, generics.ListAPIView[ApiToken]):
    serializer_class = serializers.TokenSerializer

    def get_queryset(self) -> QuerySet[ApiToken]:
        return selectors.api_tokens(self.actor, self.organisation())

    @extend_schema(operation_id="tokens_list", summary="List API tokens", tags=["tokens"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="tokens_create",
        summary="Create an API token",
        description="The answer holds `secret`, which no other answer ever shows again.",
        tags=["tokens"],
        request=serializers.NewTokenSerializer,
        responses={201: serializers.IssuedTokenSerializer},
    )
    def post(self, request: Request, slug: str) -> Response:
        organisation = self.organisation(Permission.TOKEN_MANAGE)
        given = self.given(serializers.NewTokenSerializer)
        token, secret = services.issue_api_token(
            actor=self.actor,
            organisation=organisation,
            name=given["name"],
            expires_at=self._bounded(given["expires_at"]),
        )
        token.secret = secret  # type: ignore[attr-defined]  # for the one answer that shows it
        answer = serializers.IssuedTokenSerializer(token).data
        return Response(answer, status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})

    def _bounded(self, wanted: datetime | None) -> datetime | None:
        """A token cannot outlive itself by making another."""
        own = self.token.expires_at
        return min(wanted or own, own) if own else wanted


class TokenDetail(_AccountsView):
    serializer_class = serializers.TokenSerializer

    @extend_schema(operation_id="tokens_revoke", summary="Revoke an API token", tags=["tokens"], responses={204: None})
    def delete(self, request: Request, slug: str, token_id: int) -> Response:
        found = selectors.api_tokens(self.actor, self.organisation())
        services.revoke_api_token(actor=self.actor, token=get_object_or_404(found, pk=token_id))
        return Response(status=status.HTTP_204_NO_CONTENT)


class AuditTrail(_AccountsView, generics.ListAPIView[AuditEntry]):
    serializer_class = serializers.AuditEntrySerializer

    def get_queryset(self) -> QuerySet[AuditEntry]:
        return selectors.audit_trail(self.actor, self.organisation(Permission.AUDIT_VIEW))

    @extend_schema(operation_id="audit_list", summary="List audit entries", tags=["audit"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)
