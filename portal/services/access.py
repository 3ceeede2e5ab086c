from __future__ import annotations

from typing import NamedTuple

from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import Organisation, User
from apimgr.accounts.services import own_organisation
from apimgr.contracts.credentials import IssuedKey
from apimgr.products.models import Plan
from portal.models import Application, ApplicationState, Credential, CredentialState, Subscription
from portal.services.applications import create_application
from portal.services.credentials import issue_credential
from portal.services.subscriptions import COUNTS, subscribe


class QuickStart(NamedTuple):
    """``key`` only when one was made just now: an older one of the application goes on working and is not shown."""

    application: Application
    subscription: Subscription
    credential: Credential | None
    key: IssuedKey | None


@transaction.atomic
def quick_start(*, actor: User, plan: Plan, application: Application | None = None) -> QuickStart:
    """From "Get access" to a key in one step: application, subscription, key, each made only if it is not there yet.

    Without ``application`` it is the oldest of the person's own organisation, or "My first app".
    """
    application = application or _own_application(actor)
    require(actor, Permission.APPLICATION_MANAGE, application.organisation)
    subscription = application.subscriptions.filter(product=plan.product, state__in=COUNTS).first()
    if subscription is None:
        subscription = subscribe(actor=actor, application=application, plan=plan)
    credential = application.credentials.filter(state=CredentialState.ACTIVE).order_by("id").first()
    if credential is not None:
        return QuickStart(application, subscription, credential, None)
    credential, key = issue_credential(actor=actor, application=application, name=_("First key"))
    return QuickStart(application, subscription, credential, key)


def _own_application(actor: User) -> Application:
    organisation = own_organisation(actor)
    # Two first clicks at once make one application.
    Organisation.objects.select_for_update().get(pk=organisation.pk)
    found = organisation.applications.filter(state=ApplicationState.ACTIVE).order_by("id").first()
    return found or create_application(actor=actor, organisation=organisation, name=_("My first app"))
