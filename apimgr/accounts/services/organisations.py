from __future__ import annotations

from django.db import transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from apimgr.accounts.access import require_operator
from apimgr.accounts.events import OrganisationCreated, OrganisationStateChanged
from apimgr.accounts.models import Membership, Organisation, OrganisationState, Role, User
from apimgr.accounts.services.users import lock_person
from apimgr.audit.services import record
from apimgr.core.errors import DomainError, NotAllowed
from apimgr.core.events import emit
from apimgr.core.ids import encode_id, new_id


@transaction.atomic
def create_organisation(*, actor: User | None, name: str, is_publisher: bool = False) -> Organisation:
    """A new organisation; whoever makes it becomes its first administrator.

    Only an operator or the platform may make one that owns APIs: an API names upstreams that the gateway then calls.
    """
    if is_publisher and actor is not None and not actor.is_operator:
        raise NotAllowed(_("Only an operator creates publishers."), fix=_("Ask the operator of this platform."))
    name = name.strip()
    if not name:
        raise DomainError(_("An organisation needs a name."), fields={"name": _("Give it a name.")})
    organisation = Organisation.objects.create(name=name[:120], slug=_free_slug(name), is_publisher=is_publisher)
    if actor is not None:
        lock_person(actor)
        Membership.objects.create(organisation=organisation, user=actor, role=Role.ADMINISTRATOR)
    record(
        actor=actor,
        action="accounts.organisation.created",
        target=organisation,
        organisation_id=organisation.pk,
        is_publisher=is_publisher,
    )
    emit(OrganisationCreated(organisation_id=organisation.pk))
    return organisation


def suspend_organisation(*, actor: User | None, organisation: Organisation) -> Organisation:
    """Stop every call of every application it owns: for the operator alone. Its people keep their way in."""
    return _set_state(actor, organisation, OrganisationState.SUSPENDED)


def resume_organisation(*, actor: User | None, organisation: Organisation) -> Organisation:
    return _set_state(actor, organisation, OrganisationState.ACTIVE)


@transaction.atomic
def _set_state(actor: User | None, organisation: Organisation, state: OrganisationState) -> Organisation:
    require_operator(actor)
    organisation = Organisation.objects.select_for_update().get(pk=organisation.pk)
    if organisation.state != state:
        organisation.state = state
        organisation.save(update_fields=["state"])
        verb = "suspended" if state == OrganisationState.SUSPENDED else "resumed"
        record(
            actor=actor,
            action=f"accounts.organisation.{verb}",
            target=organisation,
            organisation_id=organisation.pk,
        )
        emit(OrganisationStateChanged(organisation.pk))
    return organisation


def own_organisation(user: User) -> Organisation:
    """The organisation a developer's applications start in: the first one they administer that owns no APIs.

    Made at sign-up; made here for people who never signed up themselves.
    """
    found = _first_own(user)
    if found is not None:
        return found
    with transaction.atomic():
        # Two first clicks at once must not make two: the person's row is the lock.
        lock_person(user)
        name = user.name or user.email.partition("@")[0]
        return _first_own(user) or create_organisation(actor=user, name=name)


def _first_own(user: User) -> Organisation | None:
    memberships = Membership.objects.filter(user=user, role=Role.ADMINISTRATOR, organisation__is_publisher=False)
    membership = memberships.select_related("organisation").order_by("id").first()
    return membership.organisation if membership else None


def _free_slug(name: str) -> str:
    """The name as it may stand in an address; with a random tail when it is taken, so that it cannot be guessed."""
    slug = slugify(name)[:40].strip("-") or "organisation"
    return f"{slug}-{encode_id(new_id())[-5:]}" if Organisation.objects.filter(slug=slug).exists() else slug
