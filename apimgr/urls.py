"""Every address of the platform. Apps own what is below their prefix."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path, register_converter

from apimgr.accounts.views.home import home
from apimgr.core.ids import IdConverter, RequestIdConverter

register_converter(IdConverter, "id")
register_converter(RequestIdConverter, "request")

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/", include("apimgr.api_urls")),
    path("accounts/", include("apimgr.accounts.allauth_urls")),
    path("home/", home, name="home"),
    path("console/", include("apimgr.catalog.urls")),
    path("console/", include("apimgr.products.urls")),
    path("insights/", include("analytics.urls")),
    path("ops/", include("proxy.urls")),
    path("", include("apimgr.accounts.urls")),
    path("", include("apimgr.core.urls")),
    path("", include("portal.urls")),
]

handler400 = "apimgr.core.views.bad_request"
handler403 = "apimgr.core.views.not_allowed"
handler404 = "apimgr.core.views.not_found"
handler500 = "apimgr.core.views.server_error"
