from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from proxy import views

app_name = "proxy"
urlpatterns: list[URLPattern | URLResolver] = [
    path("", views.overview, name="overview"),
    path("nodes/", views.nodes, name="nodes"),
    path("nodes/<str:name>/remove/", views.remove_node, name="node-remove"),
    path("usage/", views.books, name="books"),
    path("usage/<str:node>/<int:boot>/give-up/", views.give_up_boot, name="boot-give-up"),
    path("changes/", views.changes, name="changes"),
    path("receipts/versions/<id:version_id>/", views.receipt, name="receipt"),
    path("receipts/credentials/<id:credential_id>/", views.credential_receipt, name="credential-receipt"),
    path("receipts/plans/<id:plan_id>/", views.plan_receipt, name="plan-receipt"),
    path("receipts/organisations/<id:organisation_id>/", views.organisation_receipt, name="organisation-receipt"),
    path("receipts/applications/<id:application_id>/", views.application_receipt, name="application-receipt"),
]
