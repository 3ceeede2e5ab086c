"""Usage by REST: the same questions, the same metrics, the same guards as the pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.fields import DateTimeField
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from analytics.api.renderers import CsvRenderer, LinesRenderer
from analytics.api.serializers import (
    NAMES,
    ExplainedRequestSerializer,
    RequestPageSerializer,
    RequestQuerySerializer,
    RequestSerializer,
    UsageQuerySerializer,
    UsageSerializer,
)
from analytics.export import csv_response, lines_response
from analytics.metrics import METRICS, rounded
from analytics.selectors import requests, scope, usage
from analytics.selectors.cubes import Question, ask, complete_to
from analytics.selectors.labels import labels
from analytics.selectors.periods import period
from apimgr.accounts.models import User
from apimgr.core.errors import DomainError
from apimgr.core.rest import IdField
from apimgr.core.rest_views import RestView

DEFAULT_METRICS: Final = ("requests", "success_rate", "p95")
MAX_ROWS: Final = 50_000


class UsageView(RestView):
    query = UsageQuerySerializer
    pagination_class = None
    renderer_classes = [JSONRenderer, CsvRenderer, LinesRenderer]

    @extend_schema(
        operation_id="usage_read",
        summary="Read metrics over a period, by time or by what was called",
        description="As JSON, or the rows alone: as CSV, or as one JSON object a line.",
        responses={
            (200, "application/json"): UsageSerializer,
            (200, "text/csv"): OpenApiTypes.STR,
            (200, "application/x-ndjson"): OpenApiTypes.STR,
        },
        tags=["usage"],
    )
    def get(self, request: Request) -> HttpResponse:
        asked = self.asked
        question = _question(self.actor, asked)
        by = ["bucket" if name == "time" else NAMES[name] for name in asked.get("by", ())]
        metrics = asked.get("metrics", DEFAULT_METRICS)
        found = ask(question, metrics, by)
        _refuse_many(found)
        name = "-".join(["usage", *asked.get("by", ()), question.period.range.name])
        match request.accepted_renderer.format:
            case "csv":
                return csv_response(name, *_table(found, by, metrics))
            case "ndjson":
                return lines_response(name, _rows(found, by))
        body = {
            "range": question.period.range.name,
            "since": question.period.start,
            "until": question.period.end,
            "grain": question.period.grain,
            "complete_to": complete_to(),
            "metrics": [METRICS[name] for name in metrics],
            "rows": list(_rows(found, by)),
        }
        return Response(UsageSerializer(body).data)


class RequestsView(RestView):
    query = RequestQuerySerializer
    pagination_class = None  # its pages are the event table's own

    @extend_schema(
        operation_id="requests_list",
        summary="List calls, newest first, refused ones included",
        responses=RequestPageSerializer,
        tags=["usage"],
    )
    def get(self, request: Request) -> Response:
        page = _page(self.actor, self.asked)
        address = request.build_absolute_uri()
        body = {
            "next": _with_cursor(address, page.next) if page.next else None,
            "results": RequestSerializer(page.events, many=True).data,
        }
        return Response(body)


class RequestView(RestView):
    @extend_schema(
        operation_id="requests_explain",
        summary="Explain one call to the owners of its API and of its application",
        description="By its `X-Request-Id`, with or without dashes.",
        parameters=[OpenApiParameter("request_id", UUID, OpenApiParameter.PATH)],
        responses=ExplainedRequestSerializer,
        tags=["usage"],
    )
    def get(self, request: Request, request_id: UUID) -> Response:
        return Response(self._explained(request, request_id).data)

    def _explained(self, request: Request, request_id: UUID) -> ExplainedRequestSerializer:
        event = requests.one(self.actor, request_id)
        return ExplainedRequestSerializer(event, context={"request": request})


def _side(viewer: User, asked: dict[str, Any]) -> str:
    return str(asked.get("of") or ("apis" if scope.reads_usage(viewer) else "applications"))


def _question(viewer: User, asked: dict[str, Any]) -> Question:
    span = period(asked["range"])
    if _side(viewer, asked) == "apis":
        scope.require_usage(viewer)
        question = usage.of_apis(viewer, span, scope.api(viewer, asked["api"]) if "api" in asked else None)
    else:
        _no_api(asked)
        mine = scope.applications(viewer).values_list("pk", flat=True)
        question = Question(span).only(application_id=list(mine))
    for name in ("version", "operation", "application"):
        if name in asked:
            question = _narrow(question, f"{name}_id", asked[name])
    return question


def _narrow(question: Question, dimension: str, value: int) -> Question:
    """Never wider than before: a filter cannot reach what the scope leaves out."""
    allowed = question.where.get(dimension, [value])
    return question.only(**{dimension: [value] if value in allowed else []})


def _page(viewer: User, asked: dict[str, Any]) -> requests.Page:
    search = requests.Search(
        version_id=asked.get("version"),
        operation_id=asked.get("operation"),
        application_id=asked.get("application"),
        outcome=asked.get("outcome", ""),
        status=asked.get("status", ""),
        since=asked.get("since"),
        before=asked.get("cursor", ""),
        limit=asked["limit"],
    )
    if _side(viewer, asked) == "apis":
        scope.require_usage(viewer)
        api = scope.api(viewer, asked["api"]) if "api" in asked else None
        return requests.of_apis(viewer, search, api)
    _no_api(asked)
    return requests.of_applications(viewer, search)


def _no_api(asked: dict[str, Any]) -> None:
    if "api" in asked:
        sentence = _("An application's calls are narrowed by version, not by API.")
        raise DomainError(sentence, fields={"api": sentence})


def _rows(found: dict[tuple[Any, ...], dict[str, float | None]], by: list[str]) -> Iterator[dict[str, Any]]:
    names = {
        dimension: labels(dimension, {key[at] for key in found})
        for at, dimension in enumerate(by)
        if dimension != "bucket"
    }
    for key, numbers in sorted(found.items()):
        row: dict[str, Any] = {}
        for dimension, value in zip(by, key, strict=True):
            row |= _told(dimension, value, names.get(dimension, {}))
        yield row | {name: rounded(METRICS[name], value) for name, value in numbers.items()}


def _refuse_many(found: dict[tuple[Any, ...], Any]) -> None:
    if len(found) > MAX_ROWS:
        raise DomainError(
            _("These are %(count)s rows; an answer has up to %(most)s.") % {"count": len(found), "most": MAX_ROWS},
            code="too_many_rows",
            fix=_("Ask for a shorter range, for one API, or by less."),
        )


def _table(
    found: dict[tuple[Any, ...], dict[str, float | None]], by: list[str], metrics: Sequence[str]
) -> tuple[list[str], Iterator[list[Any]]]:
    """Head and body; without rows there is still a head."""
    head = [column for dimension in by for column in _columns(dimension)] + list(metrics)
    return head, ([_cell(row[column]) for column in head] for row in _rows(found, by))


def _columns(dimension: str) -> list[str]:
    """What ``_told`` calls a dimension and its label."""
    name = dimension.removesuffix("_id")
    return ["time"] if dimension == "bucket" else [name, f"{name}_label"]


def _cell(value: Any) -> Any:
    return DateTimeField().to_representation(value) if isinstance(value, datetime) else value


def _told(dimension: str, value: Any, names: Any) -> dict[str, Any]:
    """A dimension's value as REST says it: the id, or the word, and its label."""
    if dimension == "bucket":
        return {"time": value}
    name = dimension.removesuffix("_id")
    outside = (IdField().to_representation(value) if value else None) if dimension.endswith("_id") else value
    return {name: outside, f"{name}_label": names[value]}


def _with_cursor(address: str, cursor: str) -> str:
    return str(replace_query_param(address, "cursor", cursor))
