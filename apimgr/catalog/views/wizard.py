"""From a document to a published version, in steps. Each step is the draft itself: leaving loses nothing."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.models import User
from apimgr.catalog import services
from apimgr.catalog.forms import AddressForm, NewApiForm, NewVersionForm, SourceForm, show
from apimgr.catalog.models import API, Specification, Version
from apimgr.catalog.openapi import syntax
from apimgr.catalog.openapi.parse import describe
from apimgr.catalog.selectors import api_for, operations_of, specification_for, specifications_for, version_for
from apimgr.catalog.views.shared import is_editable, permissions, person, require_edit
from apimgr.core.errors import Conflict, DomainError, NotAllowed

MAX_NAME = 120
PREVIEWED = 300  # rows of a table of operations; a document may have thousands


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """Step 1 of a new API. It becomes a draft even when its document cannot be read."""
    user = person(request)
    organisations = organisations_for(user, Permission.API_EDIT)
    if not organisations.exists():
        raise NotAllowed(
            _("Your role does not create APIs."),
            fix=_("An administrator of your organisation can make you a publisher."),
        )
    form = NewApiForm(request.POST or None, request.FILES or None, organisations=organisations)
    if request.method == "POST" and form.is_valid():
        try:
            version, error = _begin(user, form)
        except DomainError as refusal:
            show(form, refusal, None if "name" in refusal.fields or "version" in refusal.fields else form.field)
        else:
            if error is None:
                return redirect("catalog:version-check", version.api.slug, version.name)
            return _source_page(request, version, _refused(request, error))
    return render(request, "catalog/new.html", {"form": form}, status=422 if form.errors else 200)


def _begin(user: User, form: NewApiForm) -> tuple[Version, DomainError | None]:
    """The new draft, and what was wrong with its document."""
    data = form.cleaned_data
    with transaction.atomic():
        api = services.create_api(actor=user, organisation=data["organisation"], name=data["name"] or _title(form))
        try:
            version = services.add_version(actor=user, api=api, name=data["version"])
        except DomainError as error:
            raise DomainError(error.message, code=error.code, fields={"version": error.message}) from error
    try:
        _take(user, version, form)
    except DomainError as error:
        return version, error
    return version, None


def _title(form: NewApiForm) -> str:
    """The name the document gives itself; unreadable, or not fetched yet, its file or host stands in."""
    data = form.cleaned_data
    match data["source"]:
        case "upload":
            content, stand_in = data["document"].read(), PurePath(data["document"].name).stem
            data["document"].seek(0)
        case "paste":
            content, stand_in = data["text"].encode(), ""
        case _:
            content, stand_in = b"", urlsplit(data["url"]).hostname or ""
    try:
        title = describe(syntax.read(content).value).title if content else ""
    except DomainError:
        title = ""
    return (title or stand_in or _("Untitled API"))[:MAX_NAME]


def _take(user: User, version: Version, form: SourceForm) -> Specification:
    """Import what the form holds, and use it."""
    data = form.cleaned_data
    if data["source"] == "url":
        specification = services.fetch_specification(actor=user, api=version.api, url=data["url"])
    else:
        upload = data["document"] if data["source"] == "upload" else None
        if upload is not None and upload.size > syntax.MAX_BYTES:
            size = f"{upload.size / 2**20:.1f}"
            raise DomainError(_("The file has %(size)s MB; a document may have 20.") % {"size": size})
        specification = services.import_specification(
            actor=user,
            api=version.api,
            content=upload.read() if upload is not None else data["text"].encode(),
            source=data["source"],
            filename=upload.name if upload is not None else "",
        )
    if not any(finding["severity"] == "error" for finding in specification.findings):
        services.use_specification(actor=user, version=version, specification=specification)
    return specification


def _refused(request: HttpRequest, error: DomainError) -> SourceForm:
    form = SourceForm(request.POST, request.FILES)
    form.is_valid()
    show(form, error, form.field)
    return form


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def version_new(request: HttpRequest, slug: str) -> HttpResponse:
    """A version beside the others, with its own document, route and upstream."""
    user = person(request)
    api = api_for(user, slug)
    require_edit(user, api)
    form = NewVersionForm(request.POST or None, request.FILES or None, initial={"name": _next_name(api)})
    if request.method == "POST" and form.is_valid():
        try:
            version = services.add_version(actor=user, api=api, name=form.cleaned_data["name"])
        except DomainError as error:
            show(form, error, "name")
        else:
            return _imported(request, version, form)
    return render(request, "catalog/version_new.html", {"api": api, "form": form}, status=422 if form.errors else 200)


def _next_name(api: API) -> str:
    return f"v{api.versions.count() + 1}"


def _imported(request: HttpRequest, version: Version, form: SourceForm) -> HttpResponse:
    try:
        _take(person(request), version, form)
    except DomainError as error:
        return _source_page(request, version, _refused(request, error))
    return redirect("catalog:version-check", version.api.slug, version.name)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def source(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Give a draft its document, or another one."""
    version = _version(request, slug, name)
    form = SourceForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        return _imported(request, version, form)
    return _source_page(request, version, form)


def _source_page(request: HttpRequest, version: Version, form: SourceForm) -> HttpResponse:
    context = {"api": version.api, "version": version, "form": form}
    return render(request, "catalog/source.html", context, status=422 if form.errors else 200)


@login_required
@require_GET
def check(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """What reading the newest document found; one with errors is shown, but the version keeps what it had."""
    version = _version(request, slug, name)
    newest = specifications_for(person(request), version.api).first()
    if newest is None:
        return redirect("catalog:version-source", slug, name)
    # A document that was used is the version's; an unusable newer one is what the person has just tried.
    has_errors = any(finding["severity"] == "error" for finding in newest.findings)
    shown = newest if has_errors or version.specification is None else version.specification
    whole = specification_for(person(request), shown.pk)
    facts = describe(whole.document)
    context = {
        "api": version.api,
        "version": version,
        "specification": whole,
        "facts": facts,
        "operations": facts.operations[:PREVIEWED],
        "errors": sum(finding["severity"] == "error" for finding in whole.findings),
    }
    return render(request, "catalog/check.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def address(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    version = _version(request, slug, name)
    if request.method == "POST":
        form = AddressForm(request.POST)
        if form.is_valid() and save_address(person(request), version, form):
            return redirect("products:version-access", slug, name)
    else:
        form = AddressForm(initial=address_of(version))
    return _address_page(request, version, form)


def _address_page(request: HttpRequest, version: Version, form: AddressForm, **extra: Any) -> HttpResponse:
    context = {"api": version.api, "version": version, "form": form, **extra}
    return render(request, "catalog/address.html", context, status=422 if form.errors else 200)


def address_of(version: Version) -> dict[str, Any]:
    """What the form starts with: the draft's own, else a proposal."""
    route, upstream = getattr(version, "route", None), getattr(version, "upstream", None)
    found: dict[str, Any] = {"base_path": f"/{version.api.slug}/{version.name}"}
    if route:
        found.update(base_path=route.base_path, host=route.host)
    if upstream:
        fields = ("url", "connect_timeout_ms", "read_timeout_ms", "max_connections", "preserve_host")
        found.update({field: getattr(upstream, field) for field in fields})
    return found


def save_address(user: User, version: Version, form: AddressForm) -> bool:
    """Save both halves; one that is refused keeps the other from nothing."""
    data = form.cleaned_data
    try:
        services.set_upstream(
            actor=user,
            version=version,
            url=data["url"],
            connect_timeout_ms=data["connect_timeout_ms"],
            read_timeout_ms=data["read_timeout_ms"],
            max_connections=256 if data["max_connections"] is None else data["max_connections"],
            preserve_host=data["preserve_host"],
        )
    except DomainError as error:
        show(form, error, "url")
    try:
        services.set_route(actor=user, version=version, base_path=data["base_path"], host=data["host"])
    except DomainError as error:
        show(form, error, "base_path")
    return not form.errors


@login_required
@require_POST
def upstream_test(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Call the address in the form, saved or not, and show what came back."""
    version = _version(request, slug, name)
    result = services.test_upstream(actor=person(request), version=version, url=request.POST.get("url", ""))
    if getattr(request, "htmx", False):
        return render(request, "catalog/_upstream_test.html", {"result": result})
    return _address_page(request, version, AddressForm(initial=request.POST.dict()), result=result)


@login_required
@require_GET
def preview(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """The draft as a developer will see it, and what still keeps it from going live."""
    version = _version(request, slug, name)
    context = {
        "api": version.api,
        "version": version,
        "problems": services.publication_problems(version),
        "operations": operations_of(version)[:PREVIEWED],
        "count": operations_of(version).count(),
        **permissions(person(request), version.api),
    }
    return render(request, "catalog/preview.html", context)


def _version(request: HttpRequest, slug: str, name: str) -> Version:
    """A version its viewer may change."""
    user = person(request)
    version = version_for(user, slug, name)
    require_edit(user, version.api)
    if not is_editable(version):
        raise Conflict(_("A retired version cannot be changed."), code="version_retired")
    return version
