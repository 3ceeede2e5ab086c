from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from apimgr.products.api import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("products", views.ProductList.as_view(), name="api-products"),
    path("products/<slug:slug>", views.ProductDetail.as_view(), name="api-product"),
    path("products/<slug:slug>/plans", views.ProductPlans.as_view(), name="api-product-plans"),
    path("plans/<id:plan_id>", views.PlanDetail.as_view(), name="api-plan"),
    path("apis/<slug:slug>/limits", views.ApiLimits.as_view(), name="api-limits"),
]
