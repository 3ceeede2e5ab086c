from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apimgr.accounts.api import views

_ORGANISATION = "organisations/<slug:slug>"

urlpatterns: list[URLPattern | URLResolver] = [
    path("me", views.Me.as_view(), name="api-me"),
    path("organisations", views.OrganisationList.as_view(), name="api-organisations"),
    path(_ORGANISATION, views.OrganisationDetail.as_view(), name="api-organisation"),
    path(f"{_ORGANISATION}/members", views.MemberList.as_view(), name="api-members"),
    path(f"{_ORGANISATION}/members/<id:membership_id>", views.MemberDetail.as_view(), name="api-member"),
    path(f"{_ORGANISATION}/invitations", views.InvitationList.as_view(), name="api-invitations"),
    path(f"{_ORGANISATION}/invitations/<id:invitation_id>", views.InvitationDetail.as_view(), name="api-invitation"),
    path(f"{_ORGANISATION}/tokens", views.TokenList.as_view(), name="api-tokens"),
    path(f"{_ORGANISATION}/tokens/<id:token_id>", views.TokenDetail.as_view(), name="api-token"),
    path(f"{_ORGANISATION}/audit", views.AuditTrail.as_view(), name="api-audit"),
]
