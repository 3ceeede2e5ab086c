"""An API's page and its tabs."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.catalog import services
from apimgr.catalog.forms import ApiForm, DeprecateForm, GatewayForm, SelectionForm, show
from apimgr.catalog.lifecycle import moves_from
from apimgr.catalog.models import API, Version
from apimgr.catalog.openapi.parse import describe
from apimgr.catalog.selectors import api_for, operations_of, specification_for, specifications_for
from apimgr.catalog.services.publication import is_ahead
from apimgr.catalog.views.shared import chosen, permissions, person, require_edit, versions
from apimgr.catalog.views.wizard import PREVIEWED, address_of, save_address
from apimgr.core.errors import DomainError


def _frame(request: HttpRequest, slug: str, tab: str) -> dict[str, Any]:
    """What every tab shows: the API, its versions, the one looked at, what the viewer may do."""
    user = person(request)
    api = api_for(user, slug)
    found = versions(user, api)
    version = chosen(found, request.GET.get("version", ""))
    return {"api": api, "versions": found, "version": version, "tab": tab, **permissions(user, api)}


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
@require_http_methods(["GET", "HEAD", "POST"])
def gateway(request: HttpRequest, slug: str) -> HttpResponse:
    """What the gateway does with a version's calls; a retired version's can only be read."""
    frame = _frame(request, slug, "gateway")
    version = frame["version"]
    if request.method == "POST":
        require_edit(person(request), frame["api"])
    if version is None:
        return render(request, "catalog/gateway.html", frame)
    settings = services.gateway_settings_of(version)
    initial = address_of(version) | GatewayForm.initial_of(settings)
    form = GatewayForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid() and _save_gateway(person(request), version, form):
        messages.success(request, _("Saved."))
        return redirect(f"{reverse('catalog:api-gateway', args=[slug])}?version={version.name}")
    frame.update(form=form, is_ahead=is_ahead(version), settings=settings)
    return render(request, "catalog/gateway.html", frame, status=422 if form.errors else 200)


def _save_gateway(user: User, version: Version, form: GatewayForm) -> bool:
    """Save all of it or nothing; every reason against it is on the form then."""
    with transaction.atomic():
        save_address(user, version, form)
        try:
            services.set_gateway_settings(actor=user, version=version, **form.settings())
        except DomainError as error:
            show(form, error)
        transaction.set_rollback(bool(form.errors))
    return not form.errors


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, slug: str) -> HttpResponse:
    frame = _frame(request, slug, "settings")
    api, user = frame["api"], person(request)
    require_edit(user, api)
    form = _api_form(request.POST or None, api)
    if request.method == "POST" and form.is_valid():
        try:
            services.update_api(actor=user, api=api, **form.cleaned_data)
        except DomainError as error:
            show(form, error)
        else:
            messages.success(request, _("Settings saved."))
            return redirect("catalog:api-settings", slug)
    selection_form = SelectionForm(api=api, versions=frame["versions"])
    return _settings_page(request, frame, form, selection_form)


@login_required
@require_POST
def selection(request: HttpRequest, slug: str) -> HttpResponse:
    """How versions are told apart: on the settings page, but live at once, so with a button of its own."""
    frame = _frame(request, slug, "settings")
    api, user = frame["api"], person(request)
    require(user, Permission.API_PUBLISH, api.organisation)
    form = SelectionForm(request.POST, api=api, versions=frame["versions"])
    if form.is_valid():
        try:
            if form.cleaned_data["select_by"]:
                services.set_selection(actor=user, api=api, **form.selection())
            else:
                services.remove_selection(actor=user, api=api)
        except DomainError as error:
            show(form, error)
        else:
            return redirect(f"{reverse('catalog:api-settings', args=[slug])}?selection=set#selection")
    return _settings_page(request, frame, _api_form(None, api), form)


def _api_form(data: Any, api: API) -> ApiForm:
    fields = ("name", "summary", "description", "visibility")
    return ApiForm(data, initial={field: getattr(api, field) for field in fields})


def _settings_page(
    request: HttpRequest, frame: dict[str, Any], form: ApiForm, selection_form: SelectionForm
) -> HttpResponse:
    live = next((version for version in frame["versions"] if version.deployed_revision_id), None)
    context = {
        **frame,
        "form": form,
        "selection_form": selection_form,
        "live": live,
        "is_set": live is not None and request.GET.get("selection") == "set",
    }
    has_errors = form.errors or selection_form.errors
    return render(request, "catalog/settings.html", context, status=422 if has_errors else 200)
