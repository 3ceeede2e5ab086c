"""The reference's try-it: the page's own calls, passed on to the gateway and to nowhere else.

It saves publishers from CORS and keys from leaving for another host (security.md P4). It takes no cookie and no CSRF
token; that a call comes from one of our pages is what ``Sec-Fetch-Site`` says, which no page can forge.
"""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_exempt

from apimgr.core.errors import DomainError, NotAllowed
from portal.gateway import MAX_REQUEST_BYTES, Answer, call_gateway

# The browser's own and the connection's: not the caller's to send.
_CONNECTION: Final = "connection keep-alive te trailer transfer-encoding upgrade content-length accept-encoding"
_DROPPED: Final = frozenset(f"{_CONNECTION} host cookie origin referer x-csrftoken forwarded via x-real-ip".split())
_DROPPED_STARTS: Final = ("sec-", "proxy-", "x-forwarded-", "x-scalar-", "hx-")
# An answer is read by the reference's script; it may not set cookies here, navigate, or ask for a password.
_KEPT: Final = frozenset(
    "content-type content-language etag last-modified location retry-after deprecation sunset link allow vary".split()  # noqa: SIM905
)
_KEPT_STARTS: Final = ("ratelimit", "x-")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@csrf_exempt
def relay(request: HttpRequest) -> HttpResponse:
    try:
        _require_own_page(request)
        answer = call_gateway(
            request.method or "GET",
            request.GET.get("scalar_url", ""),
            headers=[(name, value) for name, value in request.headers.items() if _is_forwarded(name)],
            body=request.body,
        )
    except DomainError as error:
        return JsonResponse({"code": error.code, "detail": error.message, "fix": error.fix}, status=error.status)
    return _relayed(answer)


def _require_own_page(request: HttpRequest) -> None:
    sent = request.headers
    if sent.get("Sec-Fetch-Site") != "same-origin" or sent.get("Sec-Fetch-Dest") != "empty":
        raise NotAllowed(_("Only our own reference calls through here."), fix=_("Call the gateway itself."))
    if request.method not in _METHODS:
        raise DomainError(_("This method cannot be tried here."))
    if int(sent.get("Content-Length") or 0) > MAX_REQUEST_BYTES:
        raise DomainError(_("The request is larger than 1 MiB."), fix=_("Send it from your own client."))


def _is_forwarded(name: str) -> bool:
    name = name.lower()
    return name not in _DROPPED and not name.startswith(_DROPPED_STARTS)


def _relayed(answer: Answer) -> HttpResponse:
    response = HttpResponse(answer.body, status=answer.status)
    del response["Content-Type"]
    for name, value in answer.headers:
        if name.lower() in _KEPT or name.lower().startswith(_KEPT_STARTS):
            response[name] = value
    # Should somebody ever open it as a page: it is nobody's origin and runs nothing.
    response["Content-Security-Policy"] = "sandbox; default-src 'none'"
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "no-store"
    if not answer.is_whole:
        response["X-Truncated"] = "true"
    return response
