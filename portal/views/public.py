"""What everybody may read: home, catalogue, one API, how to call."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import API, Version
from apimgr.catalog.selectors import public_api, public_apis
from apimgr.contracts.outcomes import BY_CODE, OUTCOMES
from apimgr.core.errors import NotFound
from apimgr.products.selectors import public_api_limits, public_plans
from portal.outcome_pages import text_of
from portal.reference import KEY_HEADER
from portal.samples import KEY_PLACEHOLDER, SampleCall, choosing
from portal.selectors import base_url, choice_of, deployed_operations, needs_key

PER_PAGE = 24


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    apis = public_apis()
    return render(request, "portal/home.html", {"apis": apis[:6], "count": apis.count()})


@require_safe
def catalogue(request: HttpRequest) -> HttpResponse:
    """With ``q`` and ``publisher`` as filters; htmx asks again as one types and gets the list alone."""
    search, publisher = request.GET.get("q", "").strip()[:100], request.GET.get("publisher", "")[:60]
    found = public_apis(search)
    if publisher:
        found = found.filter(organisation__slug=publisher)
    page = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "search": search, "publisher": publisher, "publishers": _publishers()}
    is_partial = getattr(request, "htmx", False)
    return render(request, "portal/_catalogue_results.html" if is_partial else "portal/catalogue.html", context)


@require_safe
def api(request: HttpRequest, slug: str) -> HttpResponse:
    found = public_api(slug)
    versions: list[Version] = found.live_versions  # type: ignore[attr-defined]
    current = next((version for version in versions if version.state == "published"), versions[0])
    operations = list(deployed_operations(current)[:200])
    context = {
        "api": found,
        "versions": [(version, base_url(version), needs_key(version)) for version in versions],
        "needs_key": needs_key(current),
        "offers_keys": any(map(needs_key, versions)),
        "selection": found.selection,
        "current": current,
        "operations": operations[:12],
        "operation_count": len(operations),
        "plans": public_plans(found),
        "api_limits": public_api_limits(found),
        "description": found.description or _document_description(current),
        "sample": _sample(current, operations),
        "key_header": KEY_HEADER,
        "key_placeholder": KEY_PLACEHOLDER,
        "changes": _changes(versions),
    }
    return render(request, "portal/api.html", context)


@require_safe
def docs(request: HttpRequest) -> HttpResponse:
    context = {"outcomes": [outcome for outcome in OUTCOMES if outcome.code != "ok"], "key_header": KEY_HEADER}
    return render(request, "portal/docs.html", {**context, "web_url": settings.WEB_URL})


@require_safe
def outcome(request: HttpRequest, code: str) -> HttpResponse:
    """Where the gateway's problem documents lead (RFC 9457, ``type``)."""
    try:
        found = BY_CODE[code]
    except KeyError:
        raise NotFound(_("There is no outcome “%(code)s”.") % {"code": code}) from None
    return render(request, "portal/outcome.html", {"outcome": found, "text": text_of(found)})


def _publishers() -> list[Organisation]:
    """Who publishes something; a filter only makes sense with more than one."""
    found = Organisation.objects.filter(pk__in=public_apis().order_by().values("organisation")).order_by("name")
    return list(found[:50])


def _document_description(version: Version) -> str:
    """The description in the document, without loading the rest of it."""
    description = (
        API.objects.filter(versions=version).values_list("versions__specification__document__info__description").first()
    )
    return description[0] if description and isinstance(description[0], str) else ""


def _sample(version: Version, operations: list[Any]) -> str:
    """How a call looks, from the operations alone: a plain GET if there is one."""
    plain = [row for row in operations if row.method == "GET" and "{" not in row.path]
    chosen = next(iter(sorted(plain, key=lambda row: row.path == "/") or operations), None)
    if chosen is None:
        return ""
    url = base_url(version) + chosen.path
    call = SampleCall(chosen.method, chosen.path, url, chosen.summary, is_ready=False, needs_key=needs_key(version))
    return choosing(call, choice_of(version)).curl(KEY_PLACEHOLDER)


def _changes(versions: list[Version]) -> list[dict[str, Any]]:
    """What happened to the versions, newest first."""
    moments = [("published", "published_at"), ("deprecated", "deprecated_at")]
    found = [
        {"at": at, "what": what, "version": version}
        for version in versions
        for what, field in moments
        if (at := getattr(version, field)) is not None
    ]
    return sorted(found, key=lambda change: change["at"], reverse=True)[:10]
