from __future__ import annotations

from typing import Final

from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require, require_operator
from apimgr.accounts.models import Organisation, User
from apimgr.audit.services import record
from apimgr.core.errors import Conflict, DomainError
from apimgr.core.events import emit
from apimgr.core.validation import store
from portal.events import ApplicationChanged
from portal.models import Application, ApplicationState

MAX_APPLICATIONS: Final = 100  # per organisation: every one is a document on every gateway


@transaction.atomic
def create_application(
    *, actor: User | None, organisation: Organisation, name: str, description: str = ""
) -> Application:
    require(actor, Permission.APPLICATION_MANAGE, organisation)
    Organisation.objects.select_for_update().get(pk=organisation.pk)
    _check_name(organisation, name)
    if organisation.applications.count() >= MAX_APPLICATIONS:
        raise Conflict(
            _("An organisation has at most %(most)d applications.") % {"most": MAX_APPLICATIONS},
            code="too_many_applications",
            fix=_("Use one you have."),
        )
    application = store(
        Application(organisation=organisation, name=name.strip(), description=description.strip(), created_by=actor)
    )
    _tell(actor, application, "created")
    return application


@transaction.atomic
def update_application(
    *, actor: User | None, application: Application, name: str | None = None, description: str | None = None
) -> Application:
    """Change what is given."""
    require(actor, Permission.APPLICATION_MANAGE, application.organisation)
    application = lock_application(application)
    if name is not None and name.strip() != application.name:
        _check_name(application.organisation, name)
        application.name = name.strip()
    if description is not None:
        application.description = description.strip()
    store(application)
    _tell(actor, application, "updated")
    return application


@transaction.atomic
def suspend_application(*, actor: User | None, application: Application) -> Application:
    """Stop every call of the application, on every API: for the operator alone. A publisher suspends a subscription."""
    return _set_state(actor, application, ApplicationState.SUSPENDED)


@transaction.atomic
def resume_application(*, actor: User | None, application: Application) -> Application:
    return _set_state(actor, application, ApplicationState.ACTIVE)


def lock_application(application: Application) -> Application:
    """The application as it stands now, locked until the transaction ends."""
    return Application.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=application.pk)


def _set_state(actor: User | None, application: Application, state: ApplicationState) -> Application:
    require_operator(actor)
    application = lock_application(application)
    if application.state != state:
        application.state = state
        application.save(update_fields=["state"])
        _tell(actor, application, "suspended" if state == ApplicationState.SUSPENDED else "resumed")
    return application


def _check_name(organisation: Organisation, name: str) -> None:
    if not name.strip():
        raise DomainError(_("An application needs a name."), fields={"name": _("Give it a name.")})
    if organisation.applications.filter(name=name.strip()).exists():
        message = _("There is already an application “%(name)s”.") % {"name": name.strip()}
        raise Conflict(message, code="taken", fix=_("Choose another name."), fields={"name": message})


def _tell(actor: User | None, application: Application, verb: str) -> None:
    record(
        actor=actor,
        action=f"portal.application.{verb}",
        target=application,
        organisation_id=application.organisation_id,
    )
    emit(ApplicationChanged(application.pk))
