"""What every REST view shares: problem documents, ids, paging."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404
from rest_framework import exceptions, pagination, serializers
from rest_framework.response import Response

from apimgr.core.errors import DomainError
from apimgr.core.ids import decode_id, encode_id


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


def _problem(status: int, code: str, detail: str, **extra: Any) -> dict[str, Any]:
    return {"type": "about:blank", "status": status, "code": code, "detail": detail, **extra}


def problem_response(error: Exception, context: dict[str, Any]) -> Response | None:
    """Every error of the REST API as RFC 9457 ``application/problem+json``. ``None`` lets a bug become a 500."""
    headers: dict[str, str] = {}
    match error:
        case DomainError():
            extra: dict[str, Any] = {"fix": error.fix} if error.fix else {}
            if error.fields:
                extra["fields"] = error.fields
            body = _problem(error.status, error.code, error.message, **extra)
        case Http404():
            body = _problem(404, "not_found", "There is nothing here, or nothing for you.")
        case PermissionDenied():
            body = _problem(403, "not_allowed", "Your role does not allow this.")
        case exceptions.ValidationError():
            body = _problem(422, "invalid", "Some fields are not right.", fields=error.detail)
        case exceptions.APIException():
            body = _problem(error.status_code, error.default_code, str(error.detail))
            if getattr(error, "auth_header", None):
                headers["WWW-Authenticate"] = error.auth_header  # type: ignore[attr-defined]
            if getattr(error, "wait", None):
                headers["Retry-After"] = str(int(error.wait))  # type: ignore[attr-defined]
        case _:
            return None
    body["request_id"] = getattr(context["request"], "request_id", "")
    return Response(body, status=body["status"], headers=headers, content_type="application/problem+json")
