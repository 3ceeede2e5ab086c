from __future__ import annotations

from allauth.account.models import EmailAddress
from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.models import User
from apimgr.audit.services import record
from apimgr.core.errors import Conflict, NotAllowed


@transaction.atomic
def create_user(*, actor: User | None, email: str, password: str, name: str = "", is_operator: bool = False) -> User:
    """A person whose address needs no proof: made by the platform or by an operator, not by signing up."""
    if actor is not None and not actor.is_operator:
        raise NotAllowed(_("Only an operator adds people."), fix=_("Invite them to your organisation instead."))
    if User.objects.filter(email__iexact=email).exists():
        raise Conflict(_("This address has an account already."), fields={"email": _("Use another address.")})
    user = User.objects.create_user(email, password, name=name, is_operator=is_operator)
    EmailAddress.objects.create(user=user, email=user.email, primary=True, verified=True)
    record(actor=actor, action="accounts.user.created", target=user, is_operator=is_operator)
    return user


@transaction.atomic
def rename_user(*, actor: User, name: str) -> User:
    """Nobody names anybody else: ``actor`` is the person."""
    actor.name = name.strip()
    actor.save(update_fields=["name"])
    return actor
