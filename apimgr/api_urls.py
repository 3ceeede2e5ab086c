"""The REST API: every app's ``api`` package under one prefix, described by one document."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path
from drf_spectacular.views import SpectacularJSONAPIView

urlpatterns: list[URLPattern | URLResolver] = [
    path("openapi.json", SpectacularJSONAPIView.as_view(), name="api-schema"),
    path("", include("apimgr.accounts.api.urls")),
    path("", include("apimgr.catalog.api.urls")),
    path("", include("apimgr.products.api.urls")),
    path("", include("portal.api.urls")),
    path("", include("analytics.api.urls")),
    path("", include("proxy.api.urls")),
]
