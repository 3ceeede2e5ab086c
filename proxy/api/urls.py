from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from proxy.api import views

urlpatterns: list[URLPattern | URLResolver] = [
    path("reconciliation", views.Reconciliation.as_view(), name="api-reconciliation"),
    path("reconciliation/<str:node>/<int:boot>/give-up", views.BootGiveUp.as_view(), name="api-boot-give-up"),
    path("nodes", views.NodeList.as_view(), name="api-nodes"),
    path("nodes/<str:name>/remove", views.NodeRemove.as_view(), name="api-node-remove"),
    path("receipts/<slug:kind>/<id:thing_id>", views.Receipt.as_view(), name="api-receipt"),
    path("gateway-changes", views.ChangeList.as_view(), name="api-gateway-changes"),
]
