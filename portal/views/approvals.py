"""The publisher's side of subscriptions: who asks, who uses, whose key is this."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apimgr.accounts.access import Permission
from apimgr.catalog.selectors import api_for
from apimgr.core.errors import Conflict, DomainError
from portal import services
from portal.lifecycle import Move, Side, moves_from
from portal.models import Subscription
from portal.selectors import (
    KEYS_SHOWN,
    approvals_for,
    consumer_for,
    consumers_of,
    decided_for,
    decides,
    keys_like,
    require_anywhere,
)

_WAITING_SHOWN: Final = 4
_VERBS: Final[dict[str, Callable[..., Subscription]]] = {
    Move.APPROVE: services.approve_subscription,
    Move.REJECT: services.reject_subscription,
    Move.SUSPEND: services.suspend_subscription,
    Move.RESUME: services.resume_subscription,
    Move.CANCEL: services.cancel_subscription,
}


@login_required
@require_safe
def approvals(request: HttpRequest) -> HttpResponse:
    require_anywhere(request.user, Permission.SUBSCRIPTION_DECIDE)
    context = {"waiting": approvals_for(request.user)[:100], "decided": decided_for(request.user)[:10]}
    return render(request, "portal/approvals.html", context)


@login_required
@require_safe
def panel(request: HttpRequest) -> HttpResponse:
    """Who has waited longest, for the console's first page. Nobody waits for somebody who does not decide."""
    waiting = approvals_for(request.user)
    context = {"waiting": waiting[:_WAITING_SHOWN], "count": waiting.count()}
    return render(request, "portal/_approvals_panel.html", context)


@login_required
@require_POST
def decide(request: HttpRequest, subscription_id: int) -> HttpResponse:
    subscription = consumer_for(request.user, subscription_id)
    verb = _VERBS.get(request.POST.get("move", ""))
    if verb is None:
        raise DomainError(_("There is no such decision."))
    try:
        after = verb(actor=request.user, subscription=subscription)
    except Conflict as error:
        messages.error(request, error.in_full)
    else:
        messages.success(request, _("%(subscription)s is %(state)s.") % {"subscription": after, "state": after.state})
    back = request.POST.get("next", "")
    safe = back.startswith("/") and url_has_allowed_host_and_scheme(back, allowed_hosts=None)
    return redirect(back if safe else "portal:approvals")


@login_required
@require_safe
def consumers(request: HttpRequest, slug: str) -> HttpResponse:
    """Who uses an API: a page of its own, and a panel of the API's page."""
    api = api_for(request.user, slug)
    rows = [(row, moves_from(row.state, Side.PUBLISHER)) for row in consumers_of(request.user, api)[:200]]
    context = {"api": api, "rows": rows, "may_decide": decides(request.user, api.organisation_id)}
    is_panel = getattr(request, "htmx", False)
    return render(request, "portal/_consumers.html" if is_panel else "portal/consumers.html", context)


@login_required
@sensitive_post_parameters("key")
@require_http_methods(["GET", "HEAD", "POST"])
def key_lookup(request: HttpRequest) -> HttpResponse:
    """Whose key is this? Asked by POST: a whole key may be pasted, and an address ends up in logs."""
    text = request.POST.get("key", "")
    found = keys_like(request.user, text)
    context = {"asked": bool(text.strip()), "keys": found[:KEYS_SHOWN]}
    return render(request, "portal/key_lookup.html", context)
