"""Pages that belong to no app: theme, health, the component library, errors."""

from __future__ import annotations

from django.conf import settings
from django.db import connection
from django.db.utils import Error as DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, JsonResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from apimgr.core.context import THEMES
from apimgr.core.errors import DomainError
from apimgr.core.rest import problem_page

YEAR = 365 * 24 * 3600


def _own_address(request: HttpRequest, address: str) -> str:
    safe = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if safe else "/"


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Remembers light, dark or auto in a cookie, so that the next page is drawn right from the first byte."""
    choice = request.POST.get("theme", "")
    if choice not in THEMES:
        return HttpResponseBadRequest("theme is auto, light or dark")
    back = request.POST.get("next", "")
    response: HttpResponse = (
        HttpResponse(status=204) if "fetch" in request.POST else redirect(_own_address(request, back))
    )
    response.set_cookie("theme", choice, max_age=YEAR, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE)
    return response


@require_GET
def healthz(request: HttpRequest) -> JsonResponse:
    """200 while the web process reaches its database, else 503."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        return JsonResponse({"status": "no database"}, status=503)
    return JsonResponse({"status": "ok"})


def error_page(
    request: HttpRequest, status: int, title: str, text: str, fix: str = "", retry: str = ""
) -> HttpResponse:
    if request.path.startswith("/api/"):
        return problem_page(request, status, text, fix)
    context = {
        "status": status,
        "title": title,
        "text": text,
        "fix": fix,
        "retry": retry,
        "request_id": getattr(request, "request_id", ""),
    }
    return render(request, "errors/page.html", context, status=status)


def domain_error(request: HttpRequest, error: DomainError) -> HttpResponse:
    """A service's refusal that no form caught, as a page."""
    titles = {404: _("Nothing here"), 403: _("Not with your role")}
    return error_page(request, error.status, titles.get(error.status, _("Not done")), error.message, error.fix)


def bad_request(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return error_page(request, 400, _("This request cannot be read"), _("The browser sent something we do not accept."))


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return error_page(
        request,
        403,
        _("This form has expired"),
        _("It was opened before you signed in or out, or cookies are blocked for this site. Nothing was changed."),
        _("Go back, reload the page and send the form again."),
    )


def not_allowed(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return error_page(
        request,
        403,
        _("Not with your role"),
        _("You are signed in, but your role does not open this page."),
        _("An administrator of the organisation can give you another role."),
    )


def not_found(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    return error_page(
        request, 404, _("Nothing here"), _("This address leads nowhere, or to something that is not yours to see.")
    )


def server_error(request: HttpRequest) -> HttpResponse:
    return error_page(
        request,
        500,
        _("This page failed"),
        _("The fault is ours and has been logged. What you had saved is kept."),
        _("Try again; if it stays, give your operator the request id below."),
        retry=request.get_full_path() if request.method == "GET" else "",
    )
