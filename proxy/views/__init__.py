"""The operators' side of the gateway, and the receipts that publishers and developers get."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_POST

from apimgr.accounts.models import User
from apimgr.core.errors import Conflict
from proxy import selectors, services
from proxy.books import totals
from proxy.selectors import Rollout

CHANGES_PER_PAGE = 50
BOOTS_PER_PAGE = 50


@login_required
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    nodes, last = selectors.nodes(request.user), selectors.last_sequence()
    context = {
        "nodes": nodes,
        "rollout": selectors.rollout(last),
        "last_sequence": last,
        "changes": selectors.rollouts(selectors.changes(request.user)[:8]),
        "totals": totals([standing.books for standing in nodes]) if nodes else None,
    }
    return render(request, "proxy/overview.html", context)


@login_required
@require_GET
def nodes(request: HttpRequest) -> HttpResponse:
    return render(request, "proxy/nodes.html", {"nodes": selectors.nodes(request.user)})


@login_required
@require_POST
def remove_node(request: HttpRequest, name: str) -> HttpResponse:
    assert isinstance(request.user, User)
    try:
        removal = services.remove_node(actor=request.user, name=name)
    except Conflict as error:
        messages.error(request, error.in_full)
        return redirect("proxy:nodes")
    if removal.lost:
        said = ngettext(
            "%(name)s is removed. %(lost)d call of it counts as lost.",
            "%(name)s is removed. %(lost)d calls of it count as lost.",
            removal.lost,
        )
        messages.warning(request, said % {"name": name, "lost": removal.lost})
        return redirect("proxy:books")
    messages.success(request, _("%(name)s is removed. Each of its calls is stored.") % {"name": name})
    return redirect("proxy:nodes")


@login_required
@require_GET
def books(request: HttpRequest) -> HttpResponse:
    """Where every call is: generated, spooled, stored, rolled up, and what lies between."""
    boots = selectors.boots(request.user)
    page = Paginator(boots, BOOTS_PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "totals": totals(boots), "counted": selectors.counted_calls(request.user)}
    return render(request, "proxy/books.html", context)


@login_required
@require_POST
def give_up_boot(request: HttpRequest, node: str, boot: int) -> HttpResponse:
    assert isinstance(request.user, User)
    try:
        books = services.give_up_boot(actor=request.user, node=node, boot=boot)
    except Conflict as error:
        messages.error(request, error.in_full)
    else:
        said = ngettext(
            "The books are closed. %(lost)d call of %(name)s counts as lost.",
            "The books are closed. %(lost)d calls of %(name)s count as lost.",
            books.lost,
        )
        messages.warning(request, said % {"name": node, "lost": books.lost})
    return redirect("proxy:books")


@login_required
@require_GET
def changes(request: HttpRequest) -> HttpResponse:
    pages = Paginator(selectors.changes(request.user), CHANGES_PER_PAGE)
    page = pages.get_page(request.GET.get("page"))
    return render(request, "proxy/changes.html", {"page": page, "changes": selectors.rollouts(page.object_list)})


@login_required
@require_GET
def receipt(request: HttpRequest, version_id: int) -> HttpResponse:
    """Where the last change of a version is enforced: a panel of the console's pages."""
    return _receipt(request, selectors.version_rollout(request.user, version_id))


@login_required
@require_GET
def credential_receipt(request: HttpRequest, credential_id: int) -> HttpResponse:
    return _receipt(request, selectors.credential_rollout(request.user, credential_id))


@login_required
@require_GET
def plan_receipt(request: HttpRequest, plan_id: int) -> HttpResponse:
    return _receipt(request, selectors.plan_rollout(request.user, plan_id))


@login_required
@require_GET
def organisation_receipt(request: HttpRequest, organisation_id: int) -> HttpResponse:
    return _receipt(request, selectors.organisation_rollout(request.user, organisation_id))


@login_required
@require_GET
def application_receipt(request: HttpRequest, application_id: int) -> HttpResponse:
    return _receipt(request, selectors.application_rollout(request.user, application_id))


def _receipt(request: HttpRequest, rollout: Rollout | None) -> HttpResponse:
    if rollout is None:
        raise Http404
    return render(request, "proxy/_receipt.html", {"rollout": rollout})
