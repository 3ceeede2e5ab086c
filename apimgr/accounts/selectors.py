from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from apimgr.accounts.access import ROLES, Permission, organisations_for, require, role_of
from apimgr.accounts.models import ApiToken, Invitation, Membership, Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.core.errors import NotFound

Viewer = User | AnonymousUser


def organisations(viewer: Viewer) -> QuerySet[Organisation]:
    return organisations_for(viewer, Permission.MEMBERSHIP_OWN).order_by("name")


def organisation(viewer: Viewer, slug: str, permission: Permission = Permission.MEMBERSHIP_OWN) -> Organisation:
    """The organisation of that slug, if ``viewer`` holds ``permission`` there; else raises as ``require`` does."""
    found = Organisation.objects.filter(slug=slug).first()
    if found is None:
        raise NotFound(_("There is nothing here, or nothing for you."))
    require(viewer, permission, found)
    return found


def may(viewer: Viewer, permission: Permission, organisation: Organisation) -> bool:
    """Whether to offer something at all; the service that does it asks again."""
    role = role_of(viewer, organisation)
    return role is not None and permission in ROLES[role]


def members(viewer: Viewer, organisation: Organisation) -> QuerySet[Membership]:
    require(viewer, Permission.MEMBERSHIP_OWN, organisation)
    return organisation.memberships.select_related("user", "organisation").order_by("user__name", "user__email")


def invitations(viewer: Viewer, organisation: Organisation) -> QuerySet[Invitation]:
    """Invitations nobody has accepted yet, for those who may withdraw them."""
    if not may(viewer, Permission.MEMBER_MANAGE, organisation):
        return Invitation.objects.none()
    return organisation.invitations.filter(accepted_at=None).select_related("organisation").order_by("-id")


def api_tokens(viewer: Viewer, organisation: Organisation) -> QuerySet[ApiToken]:
    """One's own tokens; an administrator sees everybody's, to be able to end them."""
    require(viewer, Permission.TOKEN_MANAGE, organisation)
    found = organisation.api_tokens.select_related("user", "organisation").order_by("-id")
    return found if may(viewer, Permission.MEMBER_MANAGE, organisation) else found.filter(user=viewer)


def audit_trail(viewer: Viewer, organisation: Organisation) -> QuerySet[AuditEntry]:
    require(viewer, Permission.AUDIT_VIEW, organisation)
    return AuditEntry.objects.filter(organisation_id=organisation.pk).select_related("actor").order_by("-id")
