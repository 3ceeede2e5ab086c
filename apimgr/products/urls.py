from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apimgr.products import views

app_name = "products"
urlpatterns: list[URLPattern | URLResolver] = [
    path("plans/", views.plans, name="plans"),
    path("plans/<id:plan_id>/", views.plan, name="plan"),
    path("products/<slug:slug>/plans/new/", views.plan_new, name="plan-new"),
    path("apis/<slug:slug>/plans/", views.api_plans, name="api-plans"),
    path("apis/<slug:slug>/limits/", views.api_limits, name="api-limits"),
    path("apis/<slug:slug>/versions/<str:name>/access/", views.version_access, name="version-access"),
]
