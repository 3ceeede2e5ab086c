from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import require_operator
from apimgr.accounts.events import UserStateChanged
from apimgr.accounts.models import ApiToken, Organisation, User
from apimgr.audit.services import record
from apimgr.core.errors import Conflict, NotAllowed
from apimgr.core.events import emit


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
def disable_user(*, actor: User | None, user: User) -> User:
    """Shut a person out: for the operator alone. They cannot sign in; their sessions and API tokens end for good.

    Keys are an organisation's, not a person's. While an organisation has another owner (a member who may manage its
    applications) whose account is active, they go on. Where the last one was disabled nobody answers for the keys any
    more: every call of its applications is refused as if it were suspended, until an owner is enabled or comes.
    """
    require_operator(actor)
    user = _lock(user)
    if not user.is_active:
        return user
    if actor is not None and actor.pk == user.pk:
        raise Conflict(_("Nobody disables themself."), code="own_account", fix=_("Ask another operator."))
    if user.is_operator and not User.objects.filter(is_operator=True, is_active=True).exclude(pk=user.pk).exists():
        raise Conflict(
            _("%(user)s is the last operator.") % {"user": user},
            code="last_operator",
            fix=_("Make someone else an operator first."),
        )
    for session in UserSession.objects.filter(user=user):
        session.end()
    ApiToken.objects.filter(user=user, revoked_at=None).update(revoked_at=timezone.now())
    _set_active(actor, user, "disabled", is_active=False)
    return user


@transaction.atomic
def enable_user(*, actor: User | None, user: User) -> User:
    """Let a disabled person sign in again, and the keys that waited for an owner call again."""
    require_operator(actor)
    user = _lock(user)
    if not user.is_active:
        _set_active(actor, user, "enabled", is_active=True)
    return user


def lock_person(user: User) -> None:
    """Nobody disables or enables ``user`` to the end of the transaction: for who makes them a member of something.

    Before the organisation is locked, as in ``disable_user``.
    """
    User.objects.select_for_update(no_key=True).get(pk=user.pk)


def _lock(user: User) -> User:
    """The person as they stand now, with whatever hangs on their state locked until the transaction ends.

    That is every operator, so that two do not disable each other, and the person's organisations, so that of two owners
    who are disabled, or come and go, at once the later one finds the other's change.
    """
    people = User.objects.select_for_update(no_key=True).filter(Q(pk=user.pk) | Q(is_operator=True))
    found = {person.pk: person for person in people.order_by("pk")}
    list(Organisation.objects.select_for_update(of=("self",)).filter(memberships__user=user).order_by("pk"))
    return found[user.pk]


def _set_active(actor: User | None, user: User, verb: str, *, is_active: bool) -> None:
    user.is_active = is_active
    user.save(update_fields=["is_active"])
    record(actor=actor, action=f"accounts.user.{verb}", target=user)
    emit(UserStateChanged(user.pk))


@transaction.atomic
def rename_user(*, actor: User, name: str) -> User:
    """Nobody names anybody else: ``actor`` is the person."""
    actor.name = name.strip()
    actor.save(update_fields=["name"])
    return actor
