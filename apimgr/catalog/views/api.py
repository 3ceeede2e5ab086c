"""An API's page and its tabs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from apimgr.catalog import services
from apimgr.catalog.forms import AddressForm, ApiForm, DeprecateForm, show
from apimgr.catalog.lifecycle import moves_from
from apimgr.catalog.models import Version
from apimgr.catalog.openapi.parse import describe
from apimgr.catalog.selectors import api_for, operations_of, specification_for, specifications_for
from apimgr.catalog.services.publication import configuration_of
from apimgr.catalog.views.shared import chosen, permissions, person, require_edit, versions
from apimgr.catalog.views.wizard import PREVIEWED, address_of
from apimgr.core.errors import DomainError


def _frame(request: HttpRequest, slug: str, tab: str) -> dict[str, Any]:
    """What every tab shows: the API, its versions, the one looked at, what the viewer may do."""
    user = person(request)
    api = api_for(user, slug)
    found = versions(user, api)
    version = chosen(found, request.GET.get("version", ""))
    return {"api": api, "versions": found, "version": version, "tab": tab, **permissions(user, api)}


def is_ahead(version: Version) -> bool:
    """Whether the draft of a live version differs from what the gateway serves."""
    revision = version.deployed_revision
    if not version.is_live or revision is None or not hasattr(version, "route") or not hasattr(version, "upstream"):
        return False
    is_other_document = version.specification_id != revision.specification_id
    return is_other_document or configuration_of(version) != revision.configuration


@login_required
@require_GET
def overview(request: HttpRequest, slug: str) -> HttpResponse:
    frame = _frame(request, slug, "overview")
    frame["drafts"] = [(v, services.publication_problems(v)) for v in frame["versions"] if v.state == "draft"]
    frame["published"] = next((v for v in frame["versions"] if v.name == request.GET.get("published")), None)
    frame["ahead"] = [version for version in frame["versions"] if is_ahead(version)]
    return render(request, "catalog/api.html", frame)


@login_required
@require_GET
def version_list(request: HttpRequest, slug: str) -> HttpResponse:
    frame = _frame(request, slug, "versions")
    frame["rows"] = [(v, moves_from(v.state), is_ahead(v)) for v in frame["versions"]]
    frame["deprecate_form"] = DeprecateForm()
    return render(request, "catalog/versions.html", frame)


@login_required
@require_GET
def definition(request: HttpRequest, slug: str) -> HttpResponse:
    frame = _frame(request, slug, "definition")
    version = frame["version"]
    frame["documents"] = specifications_for(person(request), frame["api"])[:20]
    if version and version.specification:
        specification = specification_for(person(request), version.specification_id)
        frame.update(specification=specification, facts=describe(specification.document))
    return render(request, "catalog/definition.html", frame)


@login_required
@require_GET
def document(request: HttpRequest, slug: str, specification_id: int) -> HttpResponse:
    """The document exactly as it was given."""
    specification = specification_for(person(request), specification_id)
    api_for(person(request), slug)
    kind = "application/json" if specification.syntax == "json" else "application/yaml"
    name = f"{specification.api.slug}-{specification.public_id}.{specification.syntax}"
    return HttpResponse(
        bytes(specification.raw),
        content_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


@login_required
@require_GET
def operations(request: HttpRequest, slug: str) -> HttpResponse:
    frame = _frame(request, slug, "operations")
    search = request.GET.get("q", "").strip()
    found = operations_of(frame["version"]) if frame["version"] else None
    if found is not None and search:
        found = found.filter(path__icontains=search) | found.filter(summary__icontains=search)
    frame.update(
        search=search,
        operations=found[:PREVIEWED] if found is not None else [],
        count=found.count() if found is not None else 0,
        shown=PREVIEWED,
    )
    return render(request, "catalog/operations.html", frame)


@login_required
@require_GET
def gateway(request: HttpRequest, slug: str) -> HttpResponse:
    frame = _frame(request, slug, "gateway")
    if version := frame["version"]:
        frame.update(form=AddressForm(initial=address_of(version)), is_ahead=is_ahead(version))
    return render(request, "catalog/gateway.html", frame)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, slug: str) -> HttpResponse:
    frame = _frame(request, slug, "settings")
    api, user = frame["api"], person(request)
    require_edit(user, api)
    fields = ("name", "summary", "description", "visibility")
    form = ApiForm(request.POST or None, initial={field: getattr(api, field) for field in fields})
    if request.method == "POST" and form.is_valid():
        try:
            services.update_api(actor=user, api=api, **form.cleaned_data)
        except DomainError as error:
            show(form, error)
        else:
            messages.success(request, _("Settings saved."))
            return redirect("catalog:api-settings", slug)
    return render(request, "catalog/settings.html", {**frame, "form": form}, status=422 if form.errors else 200)
