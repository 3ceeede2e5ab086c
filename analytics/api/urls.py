from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from analytics.api import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("usage", views.UsageView.as_view(), name="api-usage"),
    path("requests", views.RequestsView.as_view(), name="api-requests"),
    path("requests/<request:request_id>", views.RequestView.as_view(), name="api-request"),
]
