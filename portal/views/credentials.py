from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from apimgr.core.errors import DomainError
from portal import services
from portal.forms import ExpiryForm, KeyForm, RollForm, add_error
from portal.selectors import application_for, credential_for
from portal.views.applications import application_page
from portal.views.people import person


@login_required
@never_cache
@require_POST
def issue(request: HttpRequest, application_id: int) -> HttpResponse:
    """Drawn here and now, not after a redirect: the key lives in this one answer (security.md K6)."""
    application = application_for(request.user, application_id)
    form = KeyForm(request.POST)
    if form.is_valid():
        try:
            name = form.cleaned_data["name"]
            credential, key = services.issue_credential(actor=person(request), application=application, name=name)
        except DomainError as error:
            if error.status in {403, 404}:
                raise
            add_error(form, error)
        else:
            return application_page(request, application, key=key, new_credential=credential)
    return application_page(request, application, status=422, key_form=form)


@login_required
@never_cache
@require_POST
def roll(request: HttpRequest, credential_id: int) -> HttpResponse:
    """The new secret lives in this one answer, as that of a new key does."""
    credential = credential_for(request.user, credential_id)
    form = RollForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Choose when the old key stops."))
        return redirect("portal:application", credential.application_id)
    rolled, key = services.roll_credential(
        actor=person(request), credential=credential, overlap=form.cleaned_data["overlap"]
    )
    return application_page(request, rolled.application, key=key, new_credential=rolled)


@login_required
@require_POST
def end_former(request: HttpRequest, credential_id: int) -> HttpResponse:
    credential = services.end_former_secret(
        actor=person(request), credential=credential_for(request.user, credential_id)
    )
    messages.success(request, _("%(key)s has stopped. Calls with it are refused.") % {"key": credential.former})
    return redirect("portal:application", credential.application_id)


@login_required
@require_POST
def expiry(request: HttpRequest, credential_id: int) -> HttpResponse:
    credential, form = credential_for(request.user, credential_id), ExpiryForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Give a date and time such as 2027-01-31 12:00, or nothing."))
        return redirect("portal:application", credential.application_id)
    ends = form.cleaned_data["expires_at"]
    services.set_expiry(actor=person(request), credential=credential, expires_at=ends)
    messages.success(request, _("%(key)s ends as you said.") % {"key": credential} if ends else _("It has no end now."))
    return redirect("portal:application", credential.application_id)


@login_required
@require_POST
def revoke(request: HttpRequest, credential_id: int) -> HttpResponse:
    credential = services.revoke_credential(
        actor=person(request), credential=credential_for(request.user, credential_id)
    )
    messages.success(request, _("%(key)s is revoked. Calls with it are refused.") % {"key": credential})
    return redirect("portal:application", credential.application_id)
