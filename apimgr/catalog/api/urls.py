from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apimgr.catalog.api import views

_VERSION = "apis/<slug:slug>/versions/<str:name>"

urlpatterns: list[URLPattern | URLResolver] = [
    path("apis", views.ApiList.as_view(), name="api-apis"),
    path("apis/<slug:slug>", views.ApiDetail.as_view(), name="api-api"),
    path("apis/<slug:slug>/selection", views.ApiSelection.as_view(), name="api-selection"),
    path("apis/<slug:slug>/versions", views.VersionList.as_view(), name="api-versions"),
    path(_VERSION, views.VersionDetail.as_view(), name="api-version"),
    path(f"{_VERSION}/specification", views.VersionSpecification.as_view(), name="api-specification"),
    path(f"{_VERSION}/operations", views.VersionOperations.as_view(), name="api-operations"),
    path(f"{_VERSION}/route", views.VersionRoute.as_view(), name="api-route"),
    path(f"{_VERSION}/upstream", views.VersionUpstream.as_view(), name="api-upstream"),
    path(f"{_VERSION}/upstream/test", views.VersionUpstreamTest.as_view(), name="api-upstream-test"),
    path(f"{_VERSION}/gateway", views.VersionGateway.as_view(), name="api-gateway-settings"),
    path(f"{_VERSION}/problems", views.VersionProblems.as_view(), name="api-problems"),
    path(f"{_VERSION}/publish", views.VersionPublish.as_view(), name="api-version-publish"),
    path(f"{_VERSION}/deprecate", views.VersionDeprecate.as_view(), name="api-version-deprecate"),
    path(f"{_VERSION}/restore", views.VersionRestore.as_view(), name="api-version-restore"),
    path(f"{_VERSION}/retire", views.VersionRetire.as_view(), name="api-version-retire"),
    path(f"{_VERSION}/changes", views.VersionChanges.as_view(), name="api-version-changes"),
    path(f"{_VERSION}/revisions", views.RevisionList.as_view(), name="api-revisions"),
    path(f"{_VERSION}/revisions/<int:number>", views.RevisionDetail.as_view(), name="api-revision"),
    path(f"{_VERSION}/revisions/<int:number>/restore", views.RevisionRestore.as_view(), name="api-revision-restore"),
]
