from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.views.common import user_of


@login_required
def home(request: HttpRequest) -> HttpResponse:
    """Where a person's work is: publishers' in the console, operators' in operations, everyone else's in their apps."""
    user = user_of(request)
    if organisations_for(user, Permission.API_VIEW).exists():
        return redirect("catalog:overview")
    if user.is_operator:
        return redirect("proxy:overview")
    return redirect("portal:applications")
