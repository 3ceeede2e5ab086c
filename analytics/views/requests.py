"""The request log and the explanation of one call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from analytics.selectors import periods, requests, scope, usage
from analytics.selectors.labels import labels
from analytics.views.shared import id_in, person
from apimgr.catalog.models import API, Operation
from apimgr.contracts.outcomes import OUTCOMES
from apimgr.core.errors import DomainError
from apimgr.core.ids import encode_id

STEPS: Final[dict[str, str | Promise]] = {
    "route": _("Route"),
    "operation": _("Operation"),
    "credential": _("Key"),
    "application": _("Application"),
    "subscription": _("Subscription"),
    "plan": _("Plan"),
    "limit": _("Limit"),
    "upstream": _("Upstream"),
    "tunnel": _("Tunnel"),
    "refused": _("Refused"),
    "ended": _("Ended"),
}

CONNECTIONS: Final[dict[str, str | Promise]] = {"kept": _("kept connection"), "new": _("new connection")}
# How far it had come when it ended.
STAGES: Final[dict[str, str | Promise]] = {
    "wait": _("gave up while it waited for a connection"),
    "resolve": _("gave up while the name was looked up"),
    "connect": _("gave up while it connected"),
    "answer": _("ended before anything was heard"),
    "head": _("ended in the middle of the answer's head"),
    "body": _("ended in the middle of the answer's body"),
    "whole": _("answered in full"),
}
LIMITS: Final[dict[str, str | Promise]] = {
    "connect_timeout_ms": _("limit for connecting"),
    "read_timeout_ms": _("limit for each part of the answer"),
}


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
    context = {**row, "plan": plan, "trail": steps(event.trail, row["operation"])}
    context |= {"reason": requests.reason(event.trail), "is_publisher": scope.reads_usage(viewer)}
    return render(request, "analytics/request.html", context)


def rows_context(request: HttpRequest, page: requests.Page) -> dict[str, Any]:
    return {
        "rows": [requests.as_row(event, page.names) for event in page.events],
        "next": _address(request, before=page.next) if page.next else "",
        "is_first": not request.GET.get("before"),
    }


def steps(trail: Any, operation: str = "") -> list[tuple[str, str]]:
    """A decision trail (``proxy.dataplane.trail``) as lines to read: what each step looked at, and what it found."""
    match trail:
        case dict():
            return [(str(name), _text(value)) for name, value in trail.items()]
        case list():
            return [_step(number, item, operation) for number, item in enumerate(trail, 1)]
        case _:
            return []


def _step(number: int, item: Any, operation: str) -> tuple[str, str]:
    match item:
        case {"step": "operation"} if operation:
            return str(STEPS["operation"]), operation
        case {"step": "refused" | "ended" as name, "detail": detail}:
            return str(STEPS[name]), str(detail)
        case {"step": "limit", "more": int(count)}:
            return str(STEPS["limit"]), ngettext(
                "%(count)s more, not listed for want of room", "%(count)s more, not listed for want of room", count
            ) % {"count": count}
        case {"step": "upstream"}:
            return str(STEPS["upstream"]), " · ".join(upstream_facts(item))
        case {"step": name, **facts}:
            return str(STEPS.get(name, name)), " · ".join(_text(value) for value in facts.values())
        case [name, *rest]:
            return str(STEPS.get(name, name)), " · ".join(_text(value) for value in rest)
        case _:
            return str(number), _text(item)


def upstream_facts(facts: dict[str, Any]) -> Iterator[str]:
    """An attempt to have the upstream answer, in the order in which things happened."""
    told = {
        "attempt": _("attempt %s"),
        "host": "%s",
        "connection": CONNECTIONS.get(facts.get("connection", ""), "%s"),
        "resolve_ms": _("name resolved in %s ms"),
        "connect_ms": _("connected in %s ms"),
        "sent_after_ms": _("sent after %s ms"),
        "stage": STAGES.get(facts.get("stage", ""), "%s"),
        "took_ms": _("after %s ms"),
        "status": _("with status %s"),
        "relayed_bytes": _("%s bytes relayed"),
        "limit": LIMITS.get(facts.get("limit", ""), "%s"),
        "limit_ms": _("%s ms"),
    }
    for name, sentence in told.items():
        if name in facts:
            yield str(sentence) % _text(facts[name]) if "%s" in str(sentence) else str(sentence)


def _text(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
        case list():
            return ", ".join(_text(item) for item in value)
        case bool():
            return "yes" if value else "no"
        case _:
            return str(value)


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
