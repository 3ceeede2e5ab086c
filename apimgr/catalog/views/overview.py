"""The console's first page and the list of APIs."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from apimgr.accounts.access import Permission, organisations_for
from apimgr.catalog.models import VersionState
from apimgr.catalog.selectors import apis_for, versions_for
from apimgr.catalog.services import publication_problems
from apimgr.catalog.views.shared import person, require_console

PER_PAGE = 25
SHOWN = 8


@login_required
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    """What needs somebody: drafts and what each still lacks, versions near their sunset."""
    user = person(request)
    require_console(user)
    mine = versions_for(user)
    drafts = list(mine.filter(state=VersionState.DRAFT)[:SHOWN])
    context = {
        "drafts": [(draft, publication_problems(draft)) for draft in drafts],
        "ending": mine.filter(state=VersionState.DEPRECATED).order_by("sunset_at")[:SHOWN],
        "live": mine.filter(state__in=[VersionState.PUBLISHED, VersionState.DEPRECATED])[:SHOWN],
        "has_apis": apis_for(user).exists(),
        "may_edit": organisations_for(user, Permission.API_EDIT).exists(),
    }
    return render(request, "catalog/overview.html", context)


@login_required
@require_GET
def apis(request: HttpRequest) -> HttpResponse:
    user = person(request)
    require_console(user)
    search, state = request.GET.get("q", "").strip(), request.GET.get("state", "")
    found = apis_for(user).prefetch_related("versions__route")
    if search:
        found = found.filter(Q(name__icontains=search) | Q(slug__icontains=search) | Q(summary__icontains=search))
    if state in VersionState.values:
        found = found.filter(versions__state=state).distinct()
    context = {
        "page_obj": Paginator(found, PER_PAGE).get_page(request.GET.get("page")),
        "search": search,
        "state": state,
        "states": VersionState.choices,
        "is_filtered": bool(search or state),
        "may_edit": organisations_for(user, Permission.API_EDIT).exists(),
    }
    return render(request, "catalog/apis.html", context)
