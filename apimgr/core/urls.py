from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apimgr.core import styleguide, views

app_name = "core"
urlpatterns: list[URLPattern | URLResolver] = [
    path("theme", views.theme, name="theme"),
    path("healthz", views.healthz, name="healthz"),
    path("styleguide", styleguide.page, name="styleguide"),
    path("styleguide/chart.json", styleguide.chart, name="styleguide-chart"),
    path("styleguide/panel", styleguide.panel, name="styleguide-panel"),
]
