"""Panels other apps load by the name of their URL, guarded here: developers see their own applications."""

from __future__ import annotations

from datetime import timedelta

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_GET

from analytics.models import KeyHour
from analytics.selectors import requests, scope, usage
from analytics.selectors.labels import labels
from analytics.selectors.periods import period
from analytics.views.requests import rows_context
from analytics.views.shared import Chart, asked_period, frame, person
from apimgr.catalog.models import Version


@login_required
@require_GET
def api_panel(request: HttpRequest, slug: str) -> HttpResponse:
    """An API's last seven days, for its console page."""
    api = scope.api(person(request), slug)
    question = usage.of_apis(person(request), period("7d"), api)
    src = f"{reverse('analytics:chart', args=['traffic'])}?range=7d&api={api.slug}"
    chart = Chart(_("Requests"), "stack", src, usage.traffic(question), _("by status class, last 7 days"))
    kpis = [*usage.headline(question), usage.active_applications(question)]
    return render(
        request, "analytics/_api_panel.html", {"api": api, "kpis": kpis, "chart": chart, "period": question.period}
    )


@login_required
@require_GET
def version_activity(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """In one sentence, who still calls a version: the fact before it is deprecated or retired."""
    api = scope.api(person(request), slug)
    version = get_object_or_404(Version, api=api, name=name)
    week = usage.of_apis(person(request), period("7d"), api).only(version_id=version.pk)
    callers = usage.active_applications(week)
    context = {"calls": usage.headline(week, ["requests"])[0], "applications": int(callers.value or 0)}
    return render(request, "analytics/_version_activity.html", context)


@login_required
@require_GET
def application_activity(request: HttpRequest, application_id: int) -> HttpResponse:
    """In one sentence, what an application calls: the fact before it, or its subscription, is suspended.

    A publisher is told of calls to their own APIs; an operator of all.
    """
    user = person(request)
    week = usage.of_consumer(user, period("7d"), scope.consumer(user, application_id))
    return render(request, "analytics/_activity.html", {"calls": usage.headline(week, ["requests"])[0]})


@login_required
@require_GET
def organisation_activity(request: HttpRequest, slug: str) -> HttpResponse:
    """In one sentence, what all applications of an organisation call: for operators, before they suspend it."""
    applications = scope.applications_of(person(request), slug)
    week = usage.of_applications(person(request), period("7d"), applications)
    callers = usage.active_applications(week)
    context = {"calls": usage.headline(week, ["requests"])[0], "applications": int(callers.value or 0)}
    return render(request, "analytics/_version_activity.html", context)


@login_required
@require_GET
def application_usage(request: HttpRequest, application_id: int) -> HttpResponse:
    """How one of the developer's applications calls, and what."""
    application = scope.application(person(request), application_id)
    question = usage.of_application(person(request), asked_period(request), application)
    src = reverse("analytics:application-chart", args=[application_id])
    chart = Chart(
        _("Requests"),
        "stack",
        f"{src}?range={question.period.range.name}",
        usage.traffic(question),
        _("by status class"),
    )
    context = {
        **frame(request, question),
        "application": application,
        "kpis": usage.headline(question, ["requests", "success_rate", "p95", "refused"]),
        "chart": chart,
        "versions": usage.breakdown(question, "version_id"),
        "panel": reverse("analytics:application-usage", args=[application_id]),
    }
    return render(request, "analytics/_application_usage.html", context)


@login_required
@require_GET
def application_chart(request: HttpRequest, application_id: int) -> JsonResponse:
    application = scope.application(person(request), application_id)
    return JsonResponse(usage.traffic(usage.of_application(person(request), asked_period(request), application)))


@login_required
@require_GET
def application_requests(request: HttpRequest, application_id: int) -> HttpResponse:
    """The developer's own calls, refused ones included, as they come in."""
    application = scope.application(person(request), application_id)
    search = requests.Search(status=request.GET.get("status", ""), before=request.GET.get("before", ""), limit=25)
    page = requests.of_application(person(request), application, search)
    context = {
        **rows_context(request, page),
        "application": application,
        "panel": reverse("analytics:application-requests", args=[application_id]),
        "mine": True,
    }
    return render(request, "analytics/_application_requests.html", context)


@login_required
@require_GET
def first_call(request: HttpRequest, credential_id: int) -> HttpResponse:
    """Waits for a key's first call and tells how it went; asks again until one was answered by the upstream."""
    credential = scope.credential(person(request), credential_id)
    calls = requests.of_credential(person(request), credential_id, limit=20)
    answered = next((event for event in calls if not event.is_refused), None)
    event = answered or next(iter(calls), None)
    row = requests.as_row(event, requests.names_of([event])) if event else {}
    context = {
        **row,
        "credential": credential,
        "is_done": answered is not None,
        "reason": requests.reason(event.trail) if event else "",
        "panel": reverse("analytics:first-call", args=[credential_id]),
    }
    return render(request, "analytics/_first_call.html", context)


@login_required
@require_GET
def key_activity(request: HttpRequest, credential_id: int) -> HttpResponse:
    """When a key was last used and for what: the facts before it is rolled or revoked."""
    credential = scope.credential(person(request), credential_id)
    latest = requests.of_credential(person(request), credential_id)
    since = timezone.now() - timedelta(days=30)
    hours = list(KeyHour.objects.filter(credential_id=credential_id, bucket__gte=since))
    per_operation: dict[int, int] = {}
    for hour in hours:
        per_operation[hour.operation_id] = per_operation.get(hour.operation_id, 0) + hour.n
    names = labels("operation_id", per_operation)
    today = timezone.now() - timedelta(hours=24)
    context = {
        "credential": credential,
        "last": latest[0] if latest else None,
        "last_day": sum(hour.n for hour in hours if hour.bucket >= today),
        "last_month": sum(hour.n for hour in hours),
        "operations": sorted(((names[pk], n) for pk, n in per_operation.items()), key=lambda pair: -pair[1])[:10],
    }
    return render(request, "analytics/_key_activity.html", context)
