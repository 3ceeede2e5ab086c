"""Insights: how an organisation's APIs are used, from the whole down to one operation or application."""

from __future__ import annotations

from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from analytics.export import csv_response
from analytics.metrics import METRICS, rounded
from analytics.selectors import scope, usage
from analytics.selectors.cubes import Question
from analytics.views.shared import Chart, asked_period, frame, narrowed, person
from apimgr.catalog.models import API, Version
from apimgr.contracts.outcomes import BY_NUMBER
from apimgr.core.ids import encode_id

CHARTS: Final = {"traffic": usage.traffic, "latency": usage.latency, "errors": usage.errors}
# What an API's page can be taken apart by. Applications are counted apart from operations (``cubes``).
SECTIONS: Final[dict[str, tuple[str | Promise, str]]] = {
    "version": (_("Versions"), "version_id"),
    "operation": (_("Operations"), "operation_id"),
    "application": (_("Applications"), "application_id"),
    "plan": (_("Plans"), "plan_id"),
    "outcome": (_("Outcomes"), "outcome"),
}
MAX_EXPORT: Final = 10_000
_BY_CALLER: Final = {"application", "plan", "version"}


@login_required
@require_GET
def overview(request: HttpRequest) -> HttpResponse:
    scope.require_usage(person(request))
    period = asked_period(request)
    question = usage.of_apis(person(request), period)
    versions = usage.breakdown(question, "version_id", top=10)
    context = {
        **frame(request, question),
        "kpis": [*usage.headline(question), usage.active_applications(question)],
        "movers": usage.movers(question),
        "traffic": _chart(request, "traffic", question),
        "latency": _chart(request, "latency", question),
        "versions": _with_slugs(versions),
        "applications": _drill("application", usage.breakdown(question, "application_id", usage.CALLERS, top=8)),
        "outcomes": _outcomes(question),
        "has_apis": bool(question.where["version_id"]),
        "export": f"{reverse('analytics:export')}?by=version&range={period.range.name}",
    }
    return render(request, "analytics/overview.html", context)


@login_required
@require_GET
def api(request: HttpRequest, slug: str) -> HttpResponse:
    found = scope.api(person(request), slug)
    period = asked_period(request)
    question, chips = narrowed(request, usage.of_apis(person(request), period, found))
    sections = _sections(request, question)
    by = request.GET.get("by", "operation")
    by = by if by in sections else next(iter(sections))
    context = {
        **frame(request, question),
        "api": found,
        "chips": chips,
        "kpis": usage.headline(question, ["requests", "success_rate", "error_rate", "p95"]),
        "charts": [_chart(request, name, question, found) for name in _charts(question)],
        "movers": usage.movers(question) if not chips else "",
        "sections": [(label, _address(request, by=name), name == by) for name, label in sections.items()],
        "section": sections[by],
        "rows": _drill(by, usage.breakdown(question, SECTIONS[by][1]), request),
        "by": by,
        "export": f"{reverse('analytics:export')}?{_state(request, by=by, api=found.slug)}",
        "log": f"{reverse('analytics:requests')}?{_state(request, api=found.slug, by=None, range=None)}",
    }
    return render(request, "analytics/api.html", context)


@login_required
@require_GET
def chart(request: HttpRequest, name: str) -> JsonResponse:
    """The figures of one chart, as its page's address asks for them."""
    if name not in CHARTS:
        raise Http404
    return JsonResponse(CHARTS[name](_asked(request)))


@login_required
@require_GET
def export(request: HttpRequest) -> HttpResponse:
    """What the page shows, as CSV."""
    by = request.GET.get("by", "version")
    if by not in SECTIONS:
        raise Http404
    question = _asked(request)
    rows = usage.breakdown(question, SECTIONS[by][1], top=MAX_EXPORT)
    head = [by, *usage.COLUMNS, "requests_before"]
    body = (
        [
            row.label,
            *(rounded(METRICS[name], row.numbers[name]) for name in usage.COLUMNS),
            rounded(METRICS["requests"], row.before),
        ]
        for row in rows
    )
    return csv_response(f"usage-by-{by}-{question.period.range.name}", head, body)


def _asked(request: HttpRequest) -> Question:
    viewer = person(request)
    scope.require_usage(viewer)
    slug = request.GET.get("api", "")
    found = scope.api(viewer, slug) if slug else None
    return narrowed(request, usage.of_apis(viewer, asked_period(request), found))[0]


def _sections(request: HttpRequest, question: Question) -> dict[str, str | Promise]:
    """The sections that can be told under the filters in force."""
    chosen = set(question.where)
    if "application_id" in chosen:
        return {name: SECTIONS[name][0] for name in SECTIONS if name in _BY_CALLER and name != "application"}
    if "operation_id" in chosen:
        return {name: SECTIONS[name][0] for name in ("outcome", "version")}
    return {name: label for name, (label, _dimension) in SECTIONS.items()}


def _charts(question: Question) -> list[str]:
    return [name for name in CHARTS if name != "errors" or "application_id" not in question.where]


def _chart(request: HttpRequest, name: str, question: Question, api: API | None = None) -> Chart:
    titles = {
        "traffic": (_("Requests"), "stack", _("by status class")),
        "latency": (_("Latency"), "line", _("logarithmic, calls the upstream answered")),
        "errors": (_("Refused and failed calls"), "stack", _("by outcome")),
    }
    title, kind, hint = titles[name]
    state = _state(request, api=api.slug if api else None, by=None, range=question.period.range.name)
    return Chart(title, kind, f"{reverse('analytics:chart', args=[name])}?{state}", CHARTS[name](question), hint)


def _outcomes(question: Question) -> list[dict[str, Any]]:
    """How calls ended that the upstream did not answer, with what the caller can do."""
    rows = usage.breakdown(question, "outcome", ["requests"])
    return [{"row": row, "outcome": BY_NUMBER[row.value]} for row in rows if row.value in BY_NUMBER and row.value]


def _with_slugs(rows: list[usage.Row]) -> list[tuple[usage.Row, str]]:
    slugs = dict(Version.objects.filter(pk__in=[row.value for row in rows]).values_list("pk", "api__slug"))
    return [(row, slugs.get(row.value, "")) for row in rows]


def _drill(by: str, rows: list[usage.Row], request: HttpRequest | None = None) -> list[tuple[usage.Row, str, Any]]:
    """Each row with the address that narrows to it, and its outcome where it is one."""
    told = []
    for row in rows:
        outcome = BY_NUMBER.get(row.value) if by == "outcome" else None
        href = ""
        if request and by in {"version", "operation", "application"}:
            other = {"operation": "application", "application": "operation"}.get(by, "")
            value = encode_id(row.value) if row.value else "none"
            href = _address(request, **{by: value, "by": None}, **({other: None} if other else {}))
        told.append((row, href, outcome))
    return told


def _state(request: HttpRequest, **changes: str | None) -> str:
    state = request.GET.copy()
    for name, value in changes.items():
        state.pop(name, None)
        if value:
            state[name] = value
    return state.urlencode()


def _address(request: HttpRequest, **changes: str | None) -> str:
    return f"?{_state(request, **changes)}"
