"""From "Get access" to the first call: pick a plan, see the key once, send it."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apimgr.accounts.access import Permission, organisations_for
from apimgr.catalog.models import Version
from apimgr.catalog.selectors import public_api, public_version
from apimgr.contracts.credentials import IssuedKey
from apimgr.core.errors import DomainError
from apimgr.products.selectors import public_plans
from portal.forms import AccessForm, add_error
from portal.gateway import call_gateway
from portal.models import Application, ApplicationState, Credential, Subscription
from portal.samples import KEY_PLACEHOLDER, sample_call
from portal.selectors import (
    OPEN,
    applications_for,
    base_url,
    choice_of,
    credential_for,
    credentials_for,
    document_of,
    needs_key,
    subscriptions_of,
)
from portal.services import quick_start

EXCERPT_BYTES: Final = 16 * 1024


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def get_access(request: HttpRequest, slug: str) -> HttpResponse:
    api = public_api(slug)
    keyed = [version for version in api.live_versions if needs_key(version)]  # type: ignore[attr-defined]
    if not keyed:
        messages.info(request, _("%(api)s needs no key: anybody may call it.") % {"api": api})
        return redirect("portal:api", slug)
    if not request.user.is_authenticated:
        return redirect(f"{reverse('account_signup')}?{urlencode({'next': request.path})}")
    plans = public_plans(api)
    applications = applications_for(request.user).filter(
        state=ApplicationState.ACTIVE,
        organisation__in=organisations_for(request.user, Permission.APPLICATION_MANAGE),
    )
    form = AccessForm(request.POST or None, plans=plans, applications=applications.order_by("id"))
    if request.method == "POST" and form.is_valid():
        try:
            started = quick_start(
                actor=request.user, plan=form.cleaned_data["plan"], application=form.cleaned_data["application"]
            )
        except DomainError as error:
            add_error(form, error)
        else:
            assert started.credential is not None
            # Drawn here and now, not after a redirect: the key lives in this one answer (security.md K6).
            return _start_page(request, started.credential, started.subscription, keyed[0], started.key)
    context = {"api": api, "form": form, "taken": _taken(request, api.pk, form.applications)}
    return render(request, "portal/access.html", context, status=422 if form.errors else 200)


@login_required
@require_safe
def start_anywhere(request: HttpRequest) -> HttpResponse:
    """To the newest key's page, or to the catalogue where the way to one begins."""
    credential = credentials_for(request.user).filter(state="active").first()
    return redirect("portal:start-key", credential.pk) if credential else redirect("portal:catalogue")


@login_required
@never_cache
@require_safe
def start(request: HttpRequest, credential_id: int) -> HttpResponse:
    credential = credential_for(request.user, credential_id)
    for subscription in subscriptions_of(credential.application).filter(state__in=OPEN):
        for version in subscription.product.live_versions:  # type: ignore[attr-defined]
            # Nobody could tell whose a call without a key is: the page would wait for ever.
            if needs_key(version) and request.GET.get("api", version.api.slug) == version.api.slug:
                return _start_page(request, credential, subscription, version, None)
    return redirect("portal:application", credential.application_id)


@login_required
@never_cache
@require_POST
def run(request: HttpRequest, credential_id: int) -> HttpResponse:
    """Send the sample call with the key in the form. The key is passed on and forgotten."""
    credential_for(request.user, credential_id)
    version = public_version(request.POST.get("api", ""), request.POST.get("version", ""))
    call = sample_call(document_of(version), base_url(version), choice_of(version))
    context: dict[str, Any] = {"call": call, "credential_id": credential_id}
    if call is None or not call.is_ready:
        context["error"] = DomainError(_("This API has no operation that can be called without a choice of yours."))
    else:
        try:
            key = request.POST.get("key", "").strip()
            if not key.isascii() or not key.isprintable():
                raise DomainError(_("This is not a key: it has characters a key never has."))
            context["answer"] = call_gateway(call.method, call.url, headers=call.headers(key), keep=EXCERPT_BYTES)
        except DomainError as error:
            context["error"] = error
    return render(request, "portal/_run.html" if getattr(request, "htmx", False) else "portal/run.html", context)


def _start_page(
    request: HttpRequest, credential: Credential, subscription: Subscription, version: Version, key: IssuedKey | None
) -> HttpResponse:
    call = sample_call(document_of(version), base_url(version), choice_of(version))
    shown = key.secret if key else KEY_PLACEHOLDER
    context = {
        "credential": credential,
        "application": credential.application,
        "subscription": subscription,
        "api": version.api,
        "version": version,
        "key": key,
        "call": call,
        "languages": call.languages(shown) if call else [],
        "gateway_url": settings.GATEWAY_URL,
    }
    return render(request, "portal/start.html", context)


def _taken(request: HttpRequest, api_id: int, applications: list[Application]) -> list[Subscription]:
    """What the person's applications already have of this API."""
    found = Subscription.objects.filter(application__in=applications, state__in=OPEN, product__versions__api=api_id)
    return list(found.select_related("application", "plan").distinct())
