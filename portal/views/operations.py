"""The operator's side: every organisation, what it calls with, and the switch that stops its calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from apimgr.accounts.models import OrganisationState
from apimgr.accounts.services import resume_organisation, suspend_organisation
from portal import services
from portal.selectors import all_organisations, any_application, any_organisation, applications_of, last_switch
from portal.views.people import person
from portal.views.switches import asked_move, listing

_ORGANISATION_MOVES: Final[dict[str, Callable[..., Any]]] = {
    "suspend": suspend_organisation,
    "resume": resume_organisation,
}
_APPLICATION_MOVES: Final[dict[str, Callable[..., Any]]] = {
    "suspend": services.suspend_application,
    "resume": services.resume_application,
}


@login_required
@require_safe
def organisations(request: HttpRequest) -> HttpResponse:
    context = listing(request, all_organisations, OrganisationState.choices)
    return render(request, "portal/ops_organisations.html", context)


@login_required
@require_safe
def organisation(request: HttpRequest, slug: str) -> HttpResponse:
    """One organisation; ``changed`` names what was just switched, whose receipt is then shown."""
    found = any_organisation(request.user, slug)
    applications = applications_of(request.user, found)
    context = {
        "organisation": found,
        "applications": applications,
        "switched": last_switch(found) if found.state == OrganisationState.SUSPENDED else None,
        "changed": request.GET.get("changed", ""),
        "people": found.memberships.select_related("user").order_by("role", "user__email")[:20],
    }
    return render(request, "portal/ops_organisation.html", context)


@login_required
@require_POST
def organisation_state(request: HttpRequest, slug: str) -> HttpResponse:
    found: Any = any_organisation(request.user, slug)
    switched = asked_move(request, _ORGANISATION_MOVES)(actor=person(request), organisation=found)
    if switched.state == OrganisationState.ACTIVE and not found.is_ownerless:  # of the rest the page itself tells
        messages.success(request, _("%(name)s may call again.") % {"name": switched.name})
    return _back(slug, switched.public_id)


@login_required
@require_POST
def application_state(request: HttpRequest, application_id: int) -> HttpResponse:
    found = any_application(request.user, application_id)
    switched = asked_move(request, _APPLICATION_MOVES)(actor=person(request), application=found)
    if switched.state == "suspended":
        messages.success(request, _("%(name)s is suspended: its calls are refused.") % {"name": switched.name})
    else:
        messages.success(request, _("%(name)s may call again.") % {"name": switched.name})
    return _back(found.organisation.slug, switched.public_id)


def _back(slug: str, changed: str) -> HttpResponse:
    return redirect(f"{reverse('portal:ops-organisation', args=[slug])}?changed={changed}")
