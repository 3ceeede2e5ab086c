from __future__ import annotations

from typing import Final

from django.urls import URLPattern, URLResolver, path

from apimgr.catalog.views import api, lifecycle, overview, revisions, wizard

app_name = "catalog"
_API: Final = "apis/<slug:slug>"
_VERSION: Final = f"{_API}/versions/<str:name>"

urlpatterns: list[URLPattern | URLResolver] = [
    path("", overview.overview, name="overview"),
    path("apis/", overview.apis, name="apis"),
    path("apis/new/", wizard.new, name="api-new"),
    path(f"{_API}/", api.overview, name="api"),
    path(f"{_API}/versions/", api.version_list, name="api-versions"),
    path(f"{_API}/definition/", api.definition, name="api-definition"),
    path(f"{_API}/documents/<id:specification_id>/", api.document, name="api-document"),
    path(f"{_API}/operations/", api.operations, name="api-operations"),
    path(f"{_API}/gateway/", api.gateway, name="api-gateway"),
    path(f"{_API}/settings/", api.settings, name="api-settings"),
    path(f"{_API}/settings/selection/", api.selection, name="api-selection"),
    path(f"{_API}/new-version/", wizard.version_new, name="version-new"),
    path(f"{_VERSION}/source/", wizard.source, name="version-source"),
    path(f"{_VERSION}/check/", wizard.check, name="version-check"),
    path(f"{_VERSION}/address/", wizard.address, name="version-address"),
    path(f"{_VERSION}/address/test/", wizard.upstream_test, name="version-upstream-test"),
    path(f"{_VERSION}/preview/", wizard.preview, name="version-preview"),
    path(f"{_VERSION}/publish/", lifecycle.publish, name="version-publish"),
    path(f"{_VERSION}/deprecate/", lifecycle.deprecate, name="version-deprecate"),
    path(f"{_VERSION}/restore/", lifecycle.restore, name="version-restore"),
    path(f"{_VERSION}/retire/", lifecycle.retire, name="version-retire"),
    path(f"{_VERSION}/revisions/", revisions.revision_list, name="version-revisions"),
    path(f"{_VERSION}/revisions/<int:number>/", revisions.revision, name="version-revision"),
    path(f"{_VERSION}/revisions/<int:number>/restore/", revisions.restore, name="revision-restore"),
]
