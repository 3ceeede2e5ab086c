"""Inviting people who have no account yet. The link in the mail is the proof, so whoever follows it may sign up."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core import signing
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import transaction
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import Invitation, Membership, Organisation, User
from apimgr.accounts.services.members import enrol, known_role
from apimgr.audit.services import record
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from apimgr.core.ids import decode_id

VALID_FOR: Final = timedelta(days=7)
_signer: Final = signing.Signer(salt="accounts.invitation")


@transaction.atomic
def invite_member(*, actor: User | None, organisation: Organisation, email: str, role: str) -> Invitation:
    """Mail a link that makes whoever owns the address a member. Inviting again sends a new link and ends the old."""
    require(actor, Permission.MEMBER_MANAGE, organisation)
    email = _checked_address(email)
    if Membership.objects.filter(organisation=organisation, user__email=email).exists():
        raise Conflict(_("%(email)s is a member already.") % {"email": email}, code="member_already")
    Invitation.objects.filter(organisation=organisation, email=email, accepted_at=None).delete()
    invitation = Invitation.objects.create(
        organisation=organisation,
        email=email,
        role=known_role(role),
        invited_by=actor,
        expires_at=timezone.now() + VALID_FOR,
    )
    record(actor=actor, action="accounts.member.invited", target=invitation, organisation_id=organisation.pk, role=role)
    transaction.on_commit(lambda: _mail(invitation))
    return invitation


@transaction.atomic
def accept_invitation(*, actor: User, invitation: Invitation) -> Membership:
    """Only the person the mail went to may accept: a forwarded link lets nobody else in."""
    invitation = Invitation.objects.select_for_update().select_related("organisation").get(pk=invitation.pk)
    if not invitation.is_open:
        raise Conflict(
            _("This invitation is no longer valid."), code="invitation_closed", fix=_("Ask for a new invitation.")
        )
    if actor.email != invitation.email:
        raise NotAllowed(
            _("This invitation is for %(email)s.") % {"email": invitation.email},
            fix=_("Sign in with that address, or ask for an invitation to yours."),
        )
    invitation.accepted_at = timezone.now()
    invitation.save(update_fields=["accepted_at"])
    return enrol(actor=actor, organisation=invitation.organisation, user=actor, role=invitation.role)


@transaction.atomic
def withdraw_invitation(*, actor: User | None, invitation: Invitation) -> None:
    require(actor, Permission.MEMBER_MANAGE, invitation.organisation)
    record(
        actor=actor,
        action="accounts.invitation.withdrawn",
        target=invitation,
        organisation_id=invitation.organisation_id,
    )
    invitation.delete()


def invitation_token(invitation: Invitation) -> str:
    return _signer.sign(invitation.public_id)


def invitation_by_token(token: str) -> Invitation:
    """The invitation a link names. Raises ``NotFound`` for a link that we did not make or that was withdrawn."""
    try:
        pk = decode_id(_signer.unsign(token))
        return Invitation.objects.select_related("organisation", "invited_by").get(pk=pk)
    except (signing.BadSignature, Invitation.DoesNotExist):
        raise NotFound(
            _("This invitation does not exist or was withdrawn."), fix=_("Ask for a new invitation.")
        ) from None


def _checked_address(email: str) -> str:
    email = email.strip().lower()
    try:
        validate_email(email)
    except ValidationError:
        raise DomainError(_("This is not an e-mail address."), fields={"email": _("Check the spelling.")}) from None
    return email


def _mail(invitation: Invitation) -> None:
    path = reverse("accounts:invitation", kwargs={"token": invitation_token(invitation)})
    context = {"invitation": invitation, "url": settings.WEB_URL + path}
    subject = render_to_string("emails/invitation_subject.txt", context).strip()
    send_mail(subject, render_to_string("emails/invitation.txt", context), None, [invitation.email])
