from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_variables
from django.views.decorators.http import require_http_methods, require_POST

from apimgr.accounts import selectors, services
from apimgr.accounts.access import Permission
from apimgr.accounts.forms.console import TokenForm
from apimgr.accounts.views.common import user_of
from apimgr.core.errors import DomainError
from apimgr.core.forms import show_error


@login_required
@never_cache  # the answer to a POST holds the secret
@sensitive_variables("secret")
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest, slug: str) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug, Permission.TOKEN_MANAGE)
    form = TokenForm(request.POST or None)
    token, secret = None, ""
    if request.method == "POST" and form.is_valid():
        try:
            token, secret = services.issue_api_token(
                actor=user_of(request),
                organisation=organisation,
                name=form.cleaned_data["name"],
                expires_at=form.expires_at(),
            )
            form = TokenForm()
        except DomainError as error:
            show_error(form, error)
    context = {
        "organisation": organisation,
        "tokens": selectors.api_tokens(request.user, organisation),
        "form": form,
        "issued": token,
        "secret": secret,
    }
    return render(request, "accounts/tokens.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def revoke(request: HttpRequest, slug: str, token_id: int) -> HttpResponse:
    organisation = selectors.organisation(request.user, slug, Permission.TOKEN_MANAGE)
    token = get_object_or_404(selectors.api_tokens(request.user, organisation), pk=token_id)
    services.revoke_api_token(actor=user_of(request), token=token)
    messages.success(request, _("Token “%(name)s” revoked: calls with it fail from now on.") % {"name": token.name})
    return redirect("accounts:tokens", slug=slug)
