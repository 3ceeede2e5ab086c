"""Who belongs to an organisation, and as what. An organisation always keeps an administrator."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.events import MemberAdded, MemberRemoved, RoleChanged
from apimgr.accounts.models import ApiToken, Membership, Organisation, Role, User
from apimgr.accounts.services.users import lock_person
from apimgr.audit.services import record
from apimgr.core.errors import Conflict, DomainError
from apimgr.core.events import emit


@transaction.atomic
def add_member(*, actor: User | None, organisation: Organisation, user: User, role: str) -> Membership:
    require(actor, Permission.MEMBER_MANAGE, organisation)
    return enrol(actor=actor, organisation=organisation, user=user, role=role)


def enrol(*, actor: User | None, organisation: Organisation, user: User, role: str) -> Membership:
    """Make the membership; the caller has checked the right to (a role's, or an invitation's)."""
    lock_person(user)
    _lock(organisation.pk)
    membership, created = Membership.objects.get_or_create(
        organisation=organisation, user=user, defaults={"role": known_role(role)}
    )
    if not created:
        raise Conflict(_("%(user)s is a member already.") % {"user": user}, code="member_already")
    _record(actor, "accounts.member.added", membership, role=role)
    emit(MemberAdded(organisation_id=organisation.pk, user_id=user.pk))
    return membership


@transaction.atomic
def change_role(*, actor: User | None, membership: Membership, role: str) -> Membership:
    require(actor, Permission.MEMBER_MANAGE, membership.organisation)
    membership = _locked(membership)
    before = membership.role
    if known_role(role) == before:
        return membership
    _keep_an_administrator(membership)
    membership.role = role
    membership.save(update_fields=["role"])
    _record(actor, "accounts.member.role_changed", membership, role=role, before=before)
    emit(RoleChanged(organisation_id=membership.organisation_id, user_id=membership.user_id))
    return membership


@transaction.atomic
def remove_member(*, actor: User | None, membership: Membership) -> None:
    """End a membership and every token that acts in its name. Whoever is in may also leave."""
    if actor is None or actor.pk != membership.user_id:
        require(actor, Permission.MEMBER_MANAGE, membership.organisation)
    else:
        require(actor, Permission.MEMBERSHIP_OWN, membership.organisation)
    membership = _locked(membership)
    _keep_an_administrator(membership)
    tokens = ApiToken.objects.filter(organisation=membership.organisation, user=membership.user, revoked_at=None)
    tokens.update(revoked_at=timezone.now())
    _record(actor, "accounts.member.removed", membership, role=membership.role)
    membership.delete()
    emit(MemberRemoved(organisation_id=membership.organisation_id, user_id=membership.user_id))


def known_role(role: str) -> str:
    if role not in Role.values:
        raise DomainError(_("There is no role of this name."), fields={"role": ", ".join(Role.values)})
    return role


def _locked(membership: Membership) -> Membership:
    """The membership as it stands now, with its organisation locked: two administrators cannot remove each other."""
    _lock(membership.organisation_id)
    found = Membership.objects.select_related("organisation", "user").filter(pk=membership.pk).first()
    if found is None:
        raise Conflict(_("This person is no longer a member."), code="member_gone")
    return found


def _lock(organisation_id: int) -> None:
    """Members come, go and are disabled one after the other, so that each finds who owns the organisation by then."""
    Organisation.objects.select_for_update().get(pk=organisation_id)


def _keep_an_administrator(membership: Membership) -> None:
    others = Membership.objects.filter(
        organisation=membership.organisation, role=Role.ADMINISTRATOR, user__is_active=True
    ).exclude(pk=membership.pk)
    if membership.role == Role.ADMINISTRATOR and not others.exists():
        raise Conflict(
            _("%(user)s is the last administrator.") % {"user": membership.user},
            code="last_administrator",
            fix=_("Make someone else an administrator first."),
        )


def _record(actor: User | None, action: str, membership: Membership, **data: str) -> None:
    record(actor=actor, action=action, target=membership.user, organisation_id=membership.organisation_id, **data)
