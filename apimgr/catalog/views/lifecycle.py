"""Moves of a version: one POST each, and back to where its state is seen."""

from __future__ import annotations

from datetime import UTC, datetime, time

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from apimgr.catalog import services
from apimgr.catalog.forms import DeprecateForm
from apimgr.catalog.selectors import version_for
from apimgr.catalog.views.shared import person
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound


@login_required
@require_POST
def publish(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """Publish, or show what is missing on the preview step."""
    user = person(request)
    version = version_for(user, slug, name)
    try:
        services.publish_version(actor=user, version=version)
    except (NotAllowed, NotFound, Conflict):
        raise
    except DomainError as error:
        messages.error(request, error.in_full)
        return redirect("catalog:version-preview", slug, name)
    return redirect(f"{reverse('catalog:api', args=[slug])}?published={name}")


@login_required
@require_POST
def deprecate(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    user = person(request)
    version = version_for(user, slug, name)
    form = DeprecateForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("This is no date. Nothing was changed."))
        return redirect("catalog:api-versions", slug)
    day = form.cleaned_data["sunset_at"]
    sunset_at = datetime.combine(day, time.min, UTC) if day else None
    try:
        services.deprecate_version(actor=user, version=version, sunset_at=sunset_at)
    except (NotAllowed, NotFound):
        raise
    except DomainError as error:
        messages.error(request, error.in_full)
    else:
        messages.success(
            request, _("%(version)s is deprecated. Callers are told in every answer.") % {"version": version}
        )
    return redirect("catalog:api-versions", slug)


@login_required
@require_POST
def restore(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    version = version_for(person(request), slug, name)
    services.restore_version(actor=person(request), version=version)
    messages.success(request, _("%(version)s is published again.") % {"version": version})
    return redirect("catalog:api-versions", slug)


@login_required
@require_POST
def retire(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    version = version_for(person(request), slug, name)
    services.retire_version(actor=person(request), version=version)
    messages.success(request, _("%(version)s is retired. Calls to it are answered 410.") % {"version": version})
    if version.is_default:
        messages.warning(
            request, _("Calls that name no version are answered 410, too. Choose another default in the settings.")
        )
    return redirect("catalog:api-versions", slug)
