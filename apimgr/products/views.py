"""Plans in the console, and the wizard's step about access."""

from __future__ import annotations

from typing import cast

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from apimgr.accounts.access import Permission, organisations_for, require
from apimgr.accounts.models import Organisation, User
from apimgr.catalog import services as catalog
from apimgr.catalog.selectors import api_for, version_for
from apimgr.core.errors import DomainError, NotAllowed, NotFound
from apimgr.products import services
from apimgr.products.forms import AccessForm, ApiLimitsForm, PlanForm
from apimgr.products.models import Plan
from apimgr.products.selectors import plan_for, plans_of, product_for, products_for


def _person(request: HttpRequest) -> User:
    return cast("User", request.user)


def _may_edit(user: User, organisation: Organisation) -> bool:
    return organisations_for(user, Permission.PLAN_EDIT).filter(pk=organisation.pk).exists()


def _show(form: forms.Form, error: DomainError) -> None:
    """A refusal that belongs to the person's role is a page; every other one stands in the form."""
    if isinstance(error, NotAllowed | NotFound):
        raise error
    named = {name: message for name, message in error.fields.items() if name in form.fields}
    for name, message in named.items():
        form.add_error(name, message)
    if not named:
        form.add_error(None, " ".join(part for part in (error.message, error.fix) if part))


@login_required
@require_GET
def plans(request: HttpRequest) -> HttpResponse:
    user = _person(request)
    if not organisations_for(user, Permission.API_VIEW).exists():
        raise NotAllowed(_("Plans belong to organisations that publish APIs; you are in none."))
    context = {
        "products": products_for(user),
        "editable": set(organisations_for(user, Permission.PLAN_EDIT).values_list("pk", flat=True)),
    }
    return render(request, "products/plans.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def plan_new(request: HttpRequest, slug: str) -> HttpResponse:
    user = _person(request)
    product = product_for(user, slug)
    require(user, Permission.PLAN_EDIT, product.organisation)
    free = {"rate_minute": 60, "quota_month": 10_000}
    form = PlanForm(request.POST or None, initial=free, versions=product.versions.all())
    if request.method == "POST" and form.is_valid():
        try:
            plan = services.create_plan(actor=user, product=product, limits=form.terms, **form.own_data)
        except DomainError as error:
            _show(form, error)
        else:
            messages.success(request, _("Plan %(plan)s is there.") % {"plan": plan.name})
            return redirect("products:plans")
    context = {"product": product, "form": form, "may_edit": True}
    return render(request, "products/plan.html", context, status=422 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def plan(request: HttpRequest, plan_id: int) -> HttpResponse:
    user = _person(request)
    found = plan_for(user, plan_id)
    own = {name: getattr(found, name) for name in (*PlanForm.OWN, *PlanForm.RULES)}
    versions = found.product.versions.all()
    form = PlanForm(request.POST or None, initial=own, rows=found.limits.all(), versions=versions)
    if request.method == "POST":
        require(user, Permission.PLAN_EDIT, found.product.organisation)
        if form.is_valid() and _save(request, found, form):
            return redirect(f"{reverse('products:plan', args=[plan_id])}?saved=1")
    context = {
        "plan": found,
        "product": found.product,
        "form": form,
        "saved": "saved" in request.GET and not form.is_bound,
        "may_edit": _may_edit(user, found.product.organisation),
    }
    return render(request, "products/plan.html", context, status=422 if form.errors else 200)


def _save(request: HttpRequest, plan: Plan, form: PlanForm) -> bool:
    user = _person(request)
    try:
        with transaction.atomic():
            services.update_plan(actor=user, plan=plan, **form.own_data)
            services.change_limits(actor=user, plan=plan, limits=form.terms)
    except DomainError as error:
        _show(form, error)
        return False
    return True


@login_required
@require_GET
def api_plans(request: HttpRequest, slug: str) -> HttpResponse:
    """The plans and limits of an API: a tab of its page, and a panel of the wizard's preview."""
    user = _person(request)
    api = api_for(user, slug)
    context = {
        "api": api,
        "plans": plans_of(api),
        "limits": api.limits.all(),
        "product": products_for(user).filter(versions__api=api).first(),
        "may_edit": _may_edit(user, api.organisation),
        "edits_api": organisations_for(user, Permission.API_EDIT).filter(pk=api.organisation_id).exists(),
    }
    is_panel = getattr(request, "htmx", False)
    return render(request, "products/_api_plans.html" if is_panel else "products/api_plans.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def api_limits(request: HttpRequest, slug: str) -> HttpResponse:
    """What holds for all callers of an API together."""
    user = _person(request)
    api = api_for(user, slug)
    require(user, Permission.PLAN_EDIT, api.organisation)
    form = ApiLimitsForm(request.POST or None, rows=api.limits.all(), versions=api.versions.all())
    if request.method == "POST" and form.is_valid():
        try:
            services.change_api_limits(actor=user, api=api, limits=form.terms)
        except DomainError as error:
            _show(form, error)
        else:
            messages.success(request, _("Limits saved. The gateway enforces them from now on."))
            return redirect("products:api-plans", slug)
    context = {
        "api": api,
        "form": form,
        "edits_api": organisations_for(user, Permission.API_EDIT).filter(pk=api.organisation_id).exists(),
    }
    return render(request, "products/api_limits.html", context, status=422 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def version_access(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """The wizard's step: visibility, and the limits when the API has one plan."""
    user = _person(request)
    version = version_for(user, slug, name)
    api = version.api
    require(user, Permission.API_EDIT, api.organisation)
    found = list(plans_of(api))
    only = found[0] if len(found) == 1 else None
    rows = only.limits.all() if only else ()
    form = AccessForm(request.POST or None, initial={"visibility": api.visibility}, rows=rows)
    if request.method == "POST" and form.is_valid():
        try:
            catalog.update_api(actor=user, api=api, visibility=form.cleaned_data["visibility"])
            if only:
                services.change_limits(actor=user, plan=only, limits=form.terms)
        except DomainError as error:
            _show(form, error)
        else:
            return redirect("catalog:version-preview", slug, name)
    context = {"api": api, "version": version, "form": form, "plans": found, "only": only, "may_edit": True}
    return render(request, "products/access.html", context, status=422 if form.errors else 200)
