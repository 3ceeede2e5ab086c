"""What every REST view shares: problem documents, ids, paging."""

from __future__ import annotations

from http import HTTPStatus
from math import ceil
from typing import Any, ClassVar, Final

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, JsonResponse
from django.utils.translation import gettext, gettext_lazy
from drf_spectacular.utils import extend_schema_field
from rest_framework import exceptions, pagination, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apimgr.core.errors import DomainError
from apimgr.core.ids import PATTERN, decode_id, encode_id

PROBLEM_TYPE: Final = "application/problem+json"
# What to do about an error that does not say so itself.
_FIXES: Final = {
    400: gettext_lazy("Send a request as /docs/rest/ describes it."),
    401: gettext_lazy("Send Authorization: Bearer with an API token that is neither expired nor revoked."),
    403: gettext_lazy("Ask an administrator of the organisation for a role that allows it."),
    404: gettext_lazy("Check the address, and that your token acts in the organisation it belongs to."),
    405: gettext_lazy("Use a method that the Allow field names."),
    406: gettext_lazy("Accept application/json."),
    409: gettext_lazy("Read its present state and decide again."),
    413: gettext_lazy("Send less."),
    415: gettext_lazy("Send application/json."),
    422: gettext_lazy("Correct what is named here and send it again."),
    429: gettext_lazy("Wait as long as Retry-After says."),
    500: gettext_lazy("Try again; if it stays, tell the operator the request id."),
}


@extend_schema_field({"type": "string", "pattern": f"^{PATTERN}$"})
class IdField(serializers.Field[int, str, str, Any]):
    """An id: 13 characters outside, 64 bits inside."""

    default_error_messages = {"invalid": "Not an id: 13 characters of 0-9 and a-z are expected."}

    def to_representation(self, value: int) -> str:
        return encode_id(value)

    def to_internal_value(self, data: str) -> int:
        try:
            return decode_id(str(data))
        except ValueError:
            self.fail("invalid")


class KeysetPagination(pagination.CursorPagination):
    """Newest first, by id: an id is time-ordered, so a page never shifts under a reader."""

    ordering = "-id"
    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    #: what an address may ask of a list in pages
    parameters: ClassVar[tuple[str, ...]] = ("cursor", "limit")

    def get_page_size(self, request: Request) -> int | None:
        asked = request.query_params.get("limit", str(self.page_size))
        if not (asked.isascii() and asked.isdigit() and asked.strip("0")):
            raise exceptions.ValidationError({"limit": [gettext("Give a whole number from 1 to 200.")]})
        return min(int(asked.lstrip("0")[:9]), self.max_page_size)

    def decode_cursor(self, request: Request) -> pagination.Cursor | None:
        try:
            cursor = super().decode_cursor(request)
            if cursor == (0, False, None):
                raise ValueError("nothing that this list has written")
            if cursor is not None and cursor.position is not None:
                self._check_position(str(cursor.position))
        except (exceptions.NotFound, ValueError) as error:
            sentence = gettext("It is no cursor of this list: take next or previous as an answer gives it.")
            raise exceptions.ValidationError({"cursor": [sentence]}) from error
        return cursor

    def _check_position(self, position: str) -> None:
        """Raises ``ValueError`` where the database would choke on it."""
        if not 0 <= int(position) < 1 << 63:
            raise ValueError("no id")


def problem(status: int, code: str, detail: str, *, request_id: str = "", **extra: Any) -> dict[str, Any]:
    """An RFC 9457 problem document. Its type is ``about:blank``: ``code`` is what programs go by."""
    title = HTTPStatus(status).phrase
    if not extra.get("fix") and status in _FIXES:
        extra["fix"] = str(_FIXES[status])
    body = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    return {**body, **extra, "request_id": request_id}


def problem_page(request: HttpRequest, status: int, detail: str, fix: str = "") -> JsonResponse:
    """The problem document for an error that Django met before or behind a REST view."""
    code = {400: "bad_request", 403: "not_allowed", 404: "not_found", 500: "internal_error"}.get(status, "error")
    extra = {"fix": fix} if fix else {}
    body = problem(status, code, detail, request_id=getattr(request, "request_id", ""), **extra)
    return JsonResponse(body, status=status, content_type=PROBLEM_TYPE)


def problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every error of a REST view as ``application/problem+json``. ``None`` lets a bug become a 500."""
    told = _told(error)
    if told is None:
        return None
    status, code, detail, extra = told
    headers: dict[str, str] = {}
    if auth := getattr(error, "auth_header", None):
        headers["WWW-Authenticate"] = auth
    if wait := getattr(error, "wait", None):
        headers["Retry-After"] = str(ceil(wait))
    body = problem(status, code, detail, request_id=getattr(context["request"], "request_id", ""), **extra)
    return Response(body, status=status, headers=headers, content_type=PROBLEM_TYPE)


def _told(error: Exception) -> tuple[int, str, str, dict[str, Any]] | None:
    """``(status, code, sentence, more members)``, or ``None`` for an error nobody foresaw."""
    match error:
        case DomainError():
            more = {"fix": error.fix, "fields": error.fields}
            return error.status, error.code, error.message, {name: value for name, value in more.items() if value}
        case Http404():
            return 404, "not_found", gettext("There is nothing here, or nothing for you."), {}
        case PermissionDenied():
            return 403, "not_allowed", gettext("Your role does not allow this."), {}
        case exceptions.ValidationError(detail=dict() as fields):
            return 422, "invalid", gettext("Some fields are not right."), {"fields": fields}
        case exceptions.ValidationError(detail=sentences):
            return 422, "invalid", " ".join(str(sentence) for sentence in sentences), {}
        case exceptions.APIException():
            return error.status_code, error.default_code, str(error.detail), {}
    return None
