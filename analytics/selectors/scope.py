"""Whose numbers a person may see: the APIs of organisations they look after, the applications of their own."""

from __future__ import annotations

from typing import TypeVar

from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, organisations_for, require_operator
from apimgr.accounts.models import User
from apimgr.catalog.models import API
from apimgr.core.errors import NotAllowed, NotFound
from portal.models import Application, Credential
from portal.selectors import OPEN, consumers_for

T = TypeVar("T", bound=Model)


def apis(viewer: User) -> QuerySet[API]:
    """The APIs whose usage ``viewer`` may read."""
    return API.objects.filter(organisation__in=organisations_for(viewer, Permission.USAGE_VIEW)).order_by("name")


def applications(viewer: User) -> QuerySet[Application]:
    """The applications of ``viewer``'s own organisations."""
    mine = organisations_for(viewer, Permission.APPLICATION_VIEW)
    return Application.objects.filter(organisation__in=mine).order_by("name")


def reads_usage(viewer: User) -> bool:
    return organisations_for(viewer, Permission.USAGE_VIEW).exists()


def require_usage(viewer: User) -> None:
    """Insights open to whoever may read the usage of some organisation's APIs, even if it has none yet."""
    if not reads_usage(viewer):
        raise NotAllowed(
            _("Insights show how your organisation's APIs are used, and your role does not include that."),
            fix=_("Ask an administrator of the organisation for the role Product owner or Viewer."),
        )


def api(viewer: User, slug: str) -> API:
    return _one(apis(viewer).filter(slug=slug))


def application(viewer: User, application_id: int) -> Application:
    return _one(applications(viewer).filter(pk=application_id))


def consumer(viewer: User, application_id: int) -> Application:
    """An application that calls ``viewer``'s APIs; an operator finds every one."""
    found = Application.objects.filter(pk=application_id)
    if not viewer.is_operator:
        mine = organisations_for(viewer, Permission.USAGE_VIEW)
        found = found.filter(subscriptions__product__organisation__in=mine).distinct()
    return _one(found)


def applications_of(viewer: User, slug: str) -> QuerySet[Application]:
    """All of an organisation, whoever's it is: for operators."""
    require_operator(viewer)
    return Application.objects.filter(organisation__slug=slug)


def credential(viewer: User, credential_id: int) -> Credential:
    found = Credential.objects.filter(pk=credential_id, application__in=applications(viewer))
    return _one(found.select_related("application"))


def recognisable(viewer: User, credential_id: int) -> Credential | None:
    """A key of ``viewer``'s own, or of a consumer of theirs, as "Whose key is this?" shows it, too."""
    consumers = consumers_for(viewer).filter(state__in=OPEN).order_by().values("application")
    seen = Q(application__in=applications(viewer)) | Q(application__in=consumers)
    return Credential.objects.filter(seen, pk=credential_id).first()


def _one(found: QuerySet[T]) -> T:
    row = found.first()
    if row is None:
        raise NotFound(_("There is nothing here, or nothing for you."))
    return row
