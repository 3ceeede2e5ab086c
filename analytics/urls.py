from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from analytics.views import insights, panels, requests

app_name = "analytics"
urlpatterns: list[URLPattern | URLResolver] = [
    path("", insights.overview, name="overview"),
    path("apis/<slug:slug>/", insights.api, name="api"),
    path("charts/<slug:name>/", insights.chart, name="chart"),
    path("export.csv", insights.export, name="export"),
    path("requests/", requests.log, name="requests"),
    path("requests/<request:request_id>/", requests.detail, name="request"),
    path("panels/apis/<slug:slug>/", panels.api_panel, name="api-panel"),
    path("panels/apis/<slug:slug>/versions/<str:name>/", panels.version_activity, name="version-activity"),
    path("panels/applications/<id:application_id>/usage/", panels.application_usage, name="application-usage"),
    path("panels/applications/<id:application_id>/chart/", panels.application_chart, name="application-chart"),
    path("panels/applications/<id:application_id>/requests/", panels.application_requests, name="application-requests"),
    path("panels/applications/<id:application_id>/activity/", panels.application_activity, name="application-activity"),
    path("panels/organisations/<slug:slug>/activity/", panels.organisation_activity, name="organisation-activity"),
    path("panels/credentials/<id:credential_id>/first-call/", panels.first_call, name="first-call"),
    path("panels/credentials/<id:credential_id>/activity/", panels.key_activity, name="key-activity"),
]
