"""The request log and the explanation of one call."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from analytics.selectors import periods, requests, scope, usage
from analytics.selectors.labels import labels
from analytics.views import trail
from analytics.views.shared import id_in, person
from apimgr.catalog.models import API, Operation
from apimgr.contracts.outcomes import OUTCOMES
from apimgr.contracts.usage import FLAG_OLD_SECRET, FLAG_TEST_KEY
from apimgr.core.errors import DomainError
from apimgr.core.ids import encode_id


@login_required
@require_GET
def log(request: HttpRequest) -> HttpResponse:
    viewer = person(request)
    scope.require_usage(viewer)
    slug = request.GET.get("api", "")
    api = scope.api(viewer, slug) if slug else None
    page, problem = _page(request, api)
    context = {
        **rows_context(request, page),
        "problem": problem,
        "api": api,
        "choices": _choices(request, api),
        "chosen": {
            name: request.GET.get(name, "") for name in ("api", "status", "outcome", "application", "operation")
        },
        "is_filtered": any(request.GET.get(name) for name in ("api", "status", "outcome", "application", "operation")),
        "is_live": request.GET.get("live") == "1",
        "live_address": _address(request, live="" if request.GET.get("live") else "1"),
    }
    partial = request.headers.get("HX-Target") == "log"
    return render(request, "analytics/_log.html" if partial else "analytics/requests.html", context)


@login_required
@require_GET
def detail(request: HttpRequest, request_id: UUID) -> HttpResponse:
    """Why a call ended as it did: a sentence, what to do, and what the gateway decided on the way."""
    viewer = person(request)
    event = requests.one(viewer, request_id)
    row = requests.as_row(event, requests.names_of([event]))
    plan = labels("plan_id", [event.plan_id])[event.plan_id] if event.plan_id else ""
    call = trail.Call(
        at=event.started_at,
        outcome=event.verdict.code,
        version=row["version"],
        operation=row["operation"],
        application=row["application"],
        product=requests.product_of(event),
        key_end=requests.key_end(viewer, event),
        is_test_key=bool(event.flags & FLAG_TEST_KEY),
        is_former_secret=bool(event.flags & FLAG_OLD_SECRET),
    )
    context = {**row, "plan": plan, "trail": trail.rows(event.trail, call)}
    reason = trail.with_grouped_numbers(requests.reason(event.trail))
    context |= {"reason": reason, "is_publisher": scope.reads_usage(viewer)}
    return render(request, "analytics/request.html", context)


def rows_context(request: HttpRequest, page: requests.Page) -> dict[str, Any]:
    return {
        "rows": [requests.as_row(event, page.names) for event in page.events],
        "next": _address(request, before=page.next) if page.next else "",
        "is_first": not request.GET.get("before"),
    }


def _page(request: HttpRequest, api: API | None) -> tuple[requests.Page, str]:
    asked = request.GET
    search = requests.Search(
        application_id=_id(asked.get("application", "")),
        operation_id=_id(asked.get("operation", "")),
        version_id=_id(asked.get("version", "")),
        outcome=asked.get("outcome", ""),
        status=asked.get("status", "").strip().lower(),
        before=asked.get("before", ""),
    )
    try:
        return requests.of_apis(person(request), search, api), ""
    except DomainError as error:
        return requests.Page([]), error.message


def _id(text: str) -> int | None:
    return None if not text else 0 if text == "none" else id_in(text)


def _choices(request: HttpRequest, api: API | None) -> dict[str, Any]:
    """What the filters offer: only what calls were seen of, or what the chosen API has."""
    question = usage.of_apis(person(request), periods.period("30d"), api)
    callers = usage.breakdown(question, "application_id", ["requests"])
    operations = Operation.objects.filter(version__api=api, is_current=True).select_related("version") if api else []
    return {
        "apis": scope.apis(person(request)),
        "applications": [(encode_id(row.value) if row.value else "none", row.label) for row in callers],
        "operations": [(op.public_id, f"{op.version.name} {op.method} {op.path}") for op in operations],
        "outcomes": OUTCOMES,
        "statuses": ["2xx", "3xx", "4xx", "5xx", "401", "403", "404", "429", "500", "502", "503", "504"],
    }


def _address(request: HttpRequest, **changes: str) -> str:
    state = request.GET.copy()
    for name, value in changes.items():
        state.pop(name, None)
        if value:
            state[name] = value
    return f"?{state.urlencode()}"
