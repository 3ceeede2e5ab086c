from __future__ import annotations

from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods

from apimgr.accounts import selectors, services
from apimgr.accounts.access import Permission
from apimgr.accounts.forms.console import ProfileForm
from apimgr.accounts.views.common import user_of
from apimgr.core.paging import page_before


@login_required
@require_http_methods(["GET", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    user = user_of(request)
    form = ProfileForm(request.POST or None, initial={"name": user.name})
    if request.method == "POST" and form.is_valid():
        services.rename_user(actor=user, name=form.cleaned_data["name"])
        messages.success(request, _("Profile saved."))
        return redirect("accounts:account")
    context = {
        "form": form,
        "addresses": EmailAddress.objects.filter(user=user).order_by("-primary", "email"),
        "memberships": user.memberships.select_related("organisation").order_by("organisation__name"),
        "sessions": UserSession.objects.filter(user=user).count(),
    }
    return render(request, "accounts/account.html", context, status=422 if form.errors else 200)


@login_required
@require_GET
def audit_trail(request: HttpRequest, slug: str) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug, Permission.AUDIT_VIEW)
    entries, older = page_before(selectors.audit_trail(request.user, organisation), request.GET.get("before", ""))
    context = {"organisation": organisation, "entries": entries, "older": older}
    return render(request, "accounts/audit.html", context)
