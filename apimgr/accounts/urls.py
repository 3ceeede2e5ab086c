from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apimgr.accounts.views import account, mailbox, members, tokens

app_name = "accounts"
_ORGANISATION = "console/organisations/<slug:slug>"
urlpatterns: list[URLPattern | URLResolver] = [
    path("account/", account.account, name="account"),
    path("mailbox/", mailbox.mailbox, name="mailbox"),
    path("invitations/<str:token>/", members.invitation, name="invitation"),
    path(f"{_ORGANISATION}/members/", members.members, name="members"),
    path(f"{_ORGANISATION}/members/invite/", members.invite, name="member-invite"),
    path(f"{_ORGANISATION}/members/<id:membership_id>/role/", members.change_role, name="member-role"),
    path(f"{_ORGANISATION}/members/<id:membership_id>/remove/", members.remove, name="member-remove"),
    path(f"{_ORGANISATION}/invitations/<id:invitation_id>/withdraw/", members.withdraw, name="invitation-withdraw"),
    path(f"{_ORGANISATION}/tokens/", tokens.tokens, name="tokens"),
    path(f"{_ORGANISATION}/tokens/<id:token_id>/revoke/", tokens.revoke, name="token-revoke"),
    path(f"{_ORGANISATION}/audit/", account.audit_trail, name="audit"),
]
