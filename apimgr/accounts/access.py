"""Who may do what: one table, two questions. Every service and every page asks here and nowhere else."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from django.contrib.auth.models import AnonymousUser
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from apimgr.accounts.models import Membership, Organisation, Role, User
from apimgr.core.errors import NotAllowed, NotFound


class Permission(StrEnum):
    API_VIEW = "api.view"  # the console's pages, drafts included
    API_EDIT = "api.edit"  # create, import, change drafts
    API_PUBLISH = "api.publish"  # publish, deprecate, retire
    PLAN_EDIT = "plan.edit"
    SUBSCRIPTION_DECIDE = "subscription.decide"
    USAGE_VIEW = "usage.view"  # insights of the organisation's APIs
    APPLICATION_VIEW = "application.view"
    APPLICATION_MANAGE = "application.manage"  # applications, subscriptions, keys
    MEMBER_MANAGE = "member.manage"
    TOKEN_MANAGE = "token.manage"  # noqa: S105
    AUDIT_VIEW = "audit.view"
    MEMBERSHIP_OWN = "membership.own"  # see who else is in, and leave


_VIEW: Final = {
    Permission.API_VIEW,
    Permission.USAGE_VIEW,
    Permission.APPLICATION_VIEW,
    Permission.MEMBERSHIP_OWN,
}
ROLES: Final[dict[str, frozenset[Permission]]] = {
    Role.ADMINISTRATOR: frozenset(Permission),
    Role.PUBLISHER: frozenset(Permission) - {Permission.MEMBER_MANAGE},
    Role.PRODUCT_OWNER: frozenset(
        _VIEW | {Permission.PLAN_EDIT, Permission.SUBSCRIPTION_DECIDE, Permission.AUDIT_VIEW}
    ),
    Role.DEVELOPER: frozenset(
        {
            Permission.APPLICATION_VIEW,
            Permission.APPLICATION_MANAGE,
            Permission.TOKEN_MANAGE,
            Permission.MEMBERSHIP_OWN,
        }
    ),
    Role.VIEWER: frozenset(_VIEW),
}
# What an organisation that owns no APIs has no use for, whoever asks.
_PUBLISHERS_ONLY: Final = frozenset(
    {
        Permission.API_VIEW,
        Permission.API_EDIT,
        Permission.API_PUBLISH,
        Permission.PLAN_EDIT,
        Permission.SUBSCRIPTION_DECIDE,
        Permission.USAGE_VIEW,
    }
)


def organisations_for(user: User | AnonymousUser, permission: Permission) -> QuerySet[Organisation]:
    """The organisations in which ``user`` holds ``permission``: the first filter of every selector."""
    if not isinstance(user, User) or not user.is_active:
        return Organisation.objects.none()
    roles = [role for role, permissions in ROLES.items() if permission in permissions]
    found = Organisation.objects.filter(memberships__user_id=user.pk, memberships__role__in=roles)
    if user.acting_in is not None:
        found = found.filter(pk=user.acting_in)
    return found.filter(is_publisher=True) if permission in _PUBLISHERS_ONLY else found


def owners() -> QuerySet[Membership]:
    """Who answers for what an organisation calls with: the members who may manage its applications."""
    roles = [role for role, permissions in ROLES.items() if Permission.APPLICATION_MANAGE in permissions]
    return Membership.objects.filter(role__in=roles)


def is_ownerless() -> Q:
    """True of an organisation whose owners are all disabled. One that never had an owner is the platform's own."""
    its = owners().filter(organisation=OuterRef("pk"))
    return Q(Exists(its)) & ~Q(Exists(its.filter(user__is_active=True)))


def role_of(user: User | AnonymousUser, organisation: Organisation) -> str | None:
    """The user's role in ``organisation``; ``None`` for a stranger, and for a token made for another organisation."""
    if not isinstance(user, User) or not user.is_active or user.acting_in not in {None, organisation.pk}:
        return None
    return Membership.objects.filter(user_id=user.pk, organisation=organisation).values_list("role", flat=True).first()


def require(actor: User | AnonymousUser | None, permission: Permission, organisation: Organisation) -> None:
    """Let ``actor`` pass, or raise: ``NotFound`` for a stranger, ``NotAllowed`` for a member whose role lacks it.

    ``None`` is the platform itself (seeding, scheduled work) and passes.
    """
    if actor is None:
        return
    role = role_of(actor, organisation)
    if role is None:
        raise NotFound(_("There is nothing here, or nothing for you."))
    if permission not in ROLES[role] or (permission in _PUBLISHERS_ONLY and not organisation.is_publisher):
        raise NotAllowed(
            _("Your role in %(organisation)s does not allow this.") % {"organisation": organisation.name},
            fix=_("Ask an administrator of %(organisation)s for another role.") % {"organisation": organisation.name},
        )


def is_operator(actor: User | AnonymousUser) -> bool:
    return isinstance(actor, User) and actor.is_active and actor.is_operator


def require_operator(actor: User | AnonymousUser | None) -> None:
    """Let an operator of the platform pass. To everyone else the operators' side does not exist."""
    if actor is not None and not is_operator(actor):
        raise NotFound(_("There is nothing here, or nothing for you."))
