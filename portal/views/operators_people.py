"""The operator's side: every person, what hangs on them, and the switch that shuts them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from apimgr.accounts.models import Role, User
from apimgr.accounts.services import disable_user, enable_user
from apimgr.core.errors import Conflict
from portal.selectors import all_people, any_person, last_switch, organisations_of
from portal.views.people import person as signed_in
from portal.views.switches import asked_move, listing

_MOVES: Final[dict[str, Callable[..., User]]] = {"disable": disable_user, "enable": enable_user}
_STATES: Final = (("active", gettext_lazy("Active")), ("disabled", gettext_lazy("Disabled")))


@login_required
@require_safe
def people(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/ops_people.html", listing(request, all_people, _STATES))


@login_required
@require_safe
def person(request: HttpRequest, user_id: int) -> HttpResponse:
    """One person; ``changed`` asks for the receipts of what was just switched."""
    found = any_person(request.user, user_id)
    organisations: list[Any] = list(organisations_of(request.user, found))
    for item in organisations:
        item.role_label = Role(item.role).label
    context = {
        "person": found,
        "organisations": organisations,
        "at_stake": [item for item in organisations if item.hangs_on_them and item.applications_owned],
        "sessions": UserSession.objects.filter(user=found).count(),
        "tokens": found.api_tokens.filter(revoked_at=None).count(),
        "switched": None if found.is_active else last_switch(found),
        "changed": bool(request.GET.get("changed")),
        "is_me": found.pk == signed_in(request).pk,
    }
    return render(request, "portal/ops_person.html", context)


@login_required
@require_POST
def person_state(request: HttpRequest, user_id: int) -> HttpResponse:
    found = any_person(request.user, user_id)
    page = reverse("portal:ops-person", args=[user_id])
    move = asked_move(request, _MOVES)
    try:
        switched = move(actor=signed_in(request), user=found)
    except Conflict as error:
        messages.error(request, error.in_full)
        return redirect(page)
    if switched.is_active:  # of one who is disabled the page itself tells
        messages.success(request, _("%(person)s may sign in again.") % {"person": switched})
    return redirect(f"{page}?changed=1")
