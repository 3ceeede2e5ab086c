from __future__ import annotations

from datetime import timedelta

from allauth.account.adapter import get_adapter
from allauth.usersessions.middleware import UserSessionsMiddleware as AllauthMiddleware
from allauth.usersessions.models import UserSession
from django.http import HttpRequest, HttpResponse
from django.utils import timezone


class UserSessionsMiddleware(AllauthMiddleware):
    """Keeps the list of places where one is signed in. allauth's own writes at each request, with seven statements;
    this one asks once whether the list still holds, and writes once a minute or when address or browser change."""

    NOTED_EVERY = timedelta(minutes=1)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.session.session_key and request.user.is_authenticated and self._is_noted(request):
            return self.get_response(request)  # type: ignore[no-any-return]
        return super().__call__(request)  # type: ignore[no-any-return]

    def _is_noted(self, request: HttpRequest) -> bool:
        longest = UserSession._meta.get_field("user_agent").max_length
        found = UserSession.objects.filter(
            session_key=request.session.session_key,
            user=request.user,
            ip=get_adapter().get_client_ip(request),
            user_agent=request.META.get("HTTP_USER_AGENT", "")[:longest],
            last_seen_at__gt=timezone.now() - self.NOTED_EVERY,
        )
        return bool(found.exists())
