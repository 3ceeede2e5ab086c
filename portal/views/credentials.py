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
from portal.forms import KeyForm, add_error
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
@require_POST
def revoke(request: HttpRequest, credential_id: int) -> HttpResponse:
    credential = services.revoke_credential(
        actor=person(request), credential=credential_for(request.user, credential_id)
    )
    messages.success(request, _("%(key)s is revoked. Calls with it are refused.") % {"key": credential})
    return redirect("portal:application", credential.application_id)
