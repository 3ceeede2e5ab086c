"""The component library on one page: every component with the variables it takes, drawn with sample values."""

from __future__ import annotations

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

COMPONENTS = Path(settings.BASE_DIR) / "templates" / "components"
ICONS = Path(settings.BASE_DIR) / "static" / "vendor" / "tabler-icons-3.51.0" / "icons.svg"
TOKENS = Path(settings.BASE_DIR) / "static" / "css" / "tokens.css"


class Component(NamedTuple):
    name: str
    notes: str


class SampleForm(forms.Form):
    name = forms.CharField(label=_("Name"), help_text=_("Shown in the portal."), initial="Orders")
    url = forms.URLField(label=_("Upstream"), assume_scheme="https")
    visibility = forms.ChoiceField(
        label=_("Visibility"), choices=[("public", _("Public")), ("private", _("Private"))], required=False
    )
    plan = forms.ChoiceField(
        label=_("Plan"), choices=[("free", _("Free")), ("pro", _("Pro"))], widget=forms.RadioSelect, initial="free"
    )
    approve = forms.BooleanField(label=_("Ask before granting access"), required=False)
    notes = forms.CharField(label=_("Notes"), widget=forms.Textarea, required=False)


def components() -> list[Component]:
    """Each component's name and the comment that heads its file: its documentation."""
    found = []
    for path in sorted(COMPONENTS.glob("[a-z]*.html")):
        heading = re.match(r"\{#\s*(.*?)\s*#\}", path.read_text())
        found.append(Component(path.stem.replace("_", "-"), heading.group(1) if heading else ""))
    return found


def icons() -> list[str]:
    return re.findall(r'<symbol id="([^"]+)"', ICONS.read_text())


def tokens() -> list[tuple[str, str, str]]:
    """``(name, light, dark)`` of every colour."""
    return re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", TOKENS.read_text())


def page(request: HttpRequest) -> HttpResponse:
    form = SampleForm({"name": "Orders", "url": "nowhere", "plan": "free"})
    context = {
        "components": components(),
        "icons": icons(),
        "tokens": tokens(),
        "form": form,
        "recently": timezone.now() - timedelta(minutes=3),
        "states": ["draft", "published", "deprecated", "retired", "requested", "active", "suspended", "revoked"],
        "methods": ["GET", "POST", "PUT", "PATCH", "DELETE"],
        "statuses": [200, 304, 429, 503],
        "kinds": ["info", "ok", "warn", "danger"],
        "layout": "layouts/app.html" if request.user.is_authenticated else "layouts/public.html",
    }
    return render(request, "core/styleguide.html", context)


def chart(request: HttpRequest) -> JsonResponse:
    """Sample figures in the form every chart reads."""
    hours = [f"{hour:02}:00" for hour in range(24)]
    wave = [round(420 + 260 * math.sin((hour - 6) / 24 * 2 * math.pi)) for hour in range(24)]
    series = [
        {"name": "2xx", "data": wave, "color": "2xx"},
        {"name": "4xx", "data": [round(value / 14) for value in wave], "color": "4xx"},
        {"name": "5xx", "data": [3 if hour in {9, 10} else 0 for hour in range(24)], "color": "5xx"},
    ]
    return JsonResponse({"x": hours, "series": series, "unit": "requests"})


def panel(request: HttpRequest) -> HttpResponse:
    return render(request, "core/_styleguide_panel.html")
