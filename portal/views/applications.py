"""The developer's applications."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.models import Organisation
from apimgr.accounts.services import own_organisation
from apimgr.core.errors import DomainError
from apimgr.products.models import LimitPeriod
from apimgr.products.selectors import public_plans
from portal import services
from portal.forms import ApplicationForm, KeyForm, RollForm, add_error
from portal.models import Application, Subscription
from portal.selectors import (
    OPEN,
    application_for,
    application_list,
    applications_for,
    credentials_of,
    may_manage,
    subscriptions_of,
)
from portal.views.people import person


@login_required
@require_safe
def applications(request: HttpRequest) -> HttpResponse:
    return render(request, "portal/applications.html", {"applications": application_list(request.user)[:100]})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    form = ApplicationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            organisation = _home_of_new(request)
            made = services.create_application(actor=person(request), organisation=organisation, **form.cleaned_data)
        except DomainError as error:
            add_error(form, error)
        else:
            return redirect("portal:application", made.pk)
    return render(request, "portal/application_new.html", {"form": form}, status=422 if form.errors else 200)


@login_required
@require_safe
def application(request: HttpRequest, application_id: int) -> HttpResponse:
    return application_page(request, application_for(request.user, application_id))


@login_required
@require_safe
def usage(request: HttpRequest, application_id: int) -> HttpResponse:
    return _panel_page(request, application_id, "usage", _("Usage"), "analytics:application-usage")


@login_required
@require_safe
def requests(request: HttpRequest, application_id: int) -> HttpResponse:
    return _panel_page(request, application_id, "requests", _("Requests"), "analytics:application-requests")


@login_required
@require_safe
def all_requests(request: HttpRequest) -> HttpResponse:
    """The requests of the newest application, with the others a click away."""
    found = list(applications_for(request.user)[:50])
    chosen = next((app for app in found if app.public_id == request.GET.get("application")), None) or next(
        iter(found), None
    )
    return render(request, "portal/requests.html", {"applications": found, "application": chosen})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, application_id: int) -> HttpResponse:
    found = application_for(request.user, application_id)
    initial = {"name": found.name, "description": found.description}
    form = ApplicationForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            services.update_application(actor=person(request), application=found, **form.cleaned_data)
        except DomainError as error:
            if error.status in {403, 404}:
                raise
            add_error(form, error)
        else:
            messages.success(request, _("Saved."))
            return redirect("portal:application-settings", found.pk)
    context = {"application": found, "form": form, "tab": "settings", "may_manage": may_manage(request.user, found)}
    return render(request, "portal/application_settings.html", context, status=422 if form.errors else 200)


def application_page(request: HttpRequest, found: Application, status: int = 200, **extra: Any) -> HttpResponse:
    """The application's page; a key that was made just now comes in ``extra`` and is shown this once."""
    subscriptions = list(subscriptions_of(found))
    context = {
        "application": found,
        "tab": "overview",
        "subscriptions": [_with_plans(one) for one in subscriptions if one.state in OPEN],
        "ended": [one for one in subscriptions if one.state not in OPEN][:20],
        "credentials": credentials_of(found)[:60],
        "may_manage": may_manage(request.user, found),
        "key_form": KeyForm(),
        "overlaps": RollForm.OVERLAPS,
        **extra,
    }
    return render(request, "portal/application.html", context, status=status)


def _with_plans(subscription: Subscription) -> dict[str, Any]:
    """The subscription and the plans it could move to."""
    versions = subscription.product.live_versions  # type: ignore[attr-defined]
    plans = public_plans(versions[0].api) if versions and subscription.state != "suspended" else []
    others = [plan for plan in plans if plan.product_id == subscription.product_id and plan.pk != subscription.plan_id]
    if subscription.state == "active":
        # Waiting for an approval would cut off calls that are served now.
        others = [plan for plan in others if not plan.requires_approval]
    counts_by_billing = any(limit.period == LimitPeriod.BILLING for limit in subscription.plan.served_limits)
    return {
        "row": subscription,
        "plans": others,
        "api": versions[0].api if versions else None,
        "billing_resets_at": subscription.billing_resets_at if counts_by_billing else None,
    }


def _panel_page(request: HttpRequest, application_id: int, tab: str, title: str, panel: str) -> HttpResponse:
    found = application_for(request.user, application_id)
    context = {"application": found, "tab": tab, "title": title, "panel": panel}
    return render(request, "portal/application_panel.html", context)


def _home_of_new(request: HttpRequest) -> Organisation:
    """The organisation a new application belongs to: the first of the person's that owns no APIs."""
    mine = organisations_for(request.user, Permission.APPLICATION_MANAGE).filter(is_publisher=False)
    return mine.order_by("id").first() or own_organisation(person(request))
