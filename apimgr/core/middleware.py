from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse

from apimgr.core.errors import DomainError
from apimgr.core.views import bad_request, domain_error


class RequestIdMiddleware:
    """Gives every request of the web process an id, for its log lines, audit entries and error pages."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.request_id = uuid4().hex  # type: ignore[attr-defined]
        response = self.get_response(request)
        # A call relayed to the gateway keeps the id the gateway gave it.
        response.setdefault("X-Request-Id", request.request_id)  # type: ignore[attr-defined]
        return response


class SessionAgeMiddleware:
    """Ends a session after 12 idle hours and after 7 days, whatever its cookie says (security.md P6).

    The two times live in the session itself; sign-in makes a new session and so starts both anew.
    """

    NOTED_EVERY = 300  # seconds: not every page view writes the session

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        # An API call carries no session cookie; a page without one has nothing to end.
        if request.session.session_key and request.user.is_authenticated:
            self._check(request, int(time.time()))
        return self.get_response(request)

    def _check(self, request: HttpRequest, now: int) -> None:
        began = request.session.setdefault("began", now)
        seen = request.session.setdefault("seen", now)
        if now - seen > settings.SESSION_IDLE_SECONDS or now - began > settings.SESSION_ABSOLUTE_SECONDS:
            logout(request)
        elif now - seen > self.NOTED_EVERY:
            request.session["seen"] = now


class NulMiddleware:
    """Refuses NUL in an address or a form: the database cannot store it, and nobody types it.

    REST bodies are no forms; their parser has the same rule (core.rest_formats).
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: Callable[..., HttpResponse], *args: Any) -> HttpResponse | None:
        found = "\0" in request.path_info or "%00" in request.META.get("QUERY_STRING", "")
        # A view without a check of its form's origin reads what comes as it likes; the check has read all others.
        if not found and request.method == "POST" and not getattr(view, "csrf_exempt", False):
            found = any("\0" in value for values in request.POST.lists() for value in (values[0], *values[1]))
        return bad_request(request) if found else None


class DomainErrorMiddleware:
    """A service's refusal that no view caught becomes a page with its own status, sentence and way out."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        return domain_error(request, exception) if isinstance(exception, DomainError) else None
