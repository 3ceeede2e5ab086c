from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from portal.api import operations, people, views

_APP = "applications/<id:application_id>"
_SUBSCRIPTION = "subscriptions/<id:subscription_id>"
_OWNER = "ops/organisations/<slug:slug>"

urlpatterns: list[URLPattern | URLResolver] = [
    path("catalogue", views.CatalogueList.as_view(), name="api-catalogue"),
    path("catalogue/<slug:slug>/plans", views.CataloguePlans.as_view(), name="api-catalogue-plans"),
    path("applications", views.ApplicationList.as_view(), name="api-applications"),
    path(_APP, views.ApplicationDetail.as_view(), name="api-application"),
    path(f"{_APP}/credentials", views.ApplicationCredentials.as_view(), name="api-application-credentials"),
    path(f"{_APP}/subscriptions", views.ApplicationSubscriptions.as_view(), name="api-application-subscriptions"),
    path("credentials/<id:credential_id>", views.CredentialDetail.as_view(), name="api-credential"),
    path("credentials/<id:credential_id>/roll", views.CredentialRoll.as_view(), name="api-credential-roll"),
    path(
        "credentials/<id:credential_id>/end-former",
        views.CredentialEndFormer.as_view(),
        name="api-credential-end-former",
    ),
    path("credentials/<id:credential_id>/expiry", views.CredentialExpiry.as_view(), name="api-credential-expiry"),
    path("credentials/<id:credential_id>/revoke", views.CredentialRevoke.as_view(), name="api-credential-revoke"),
    path("keys/look-up", views.KeyLookUp.as_view(), name="api-key-look-up"),
    path("leaks", views.LeakReport.as_view(), name="api-leaks"),
    path("subscriptions", views.SubscriptionList.as_view(), name="api-subscriptions"),
    path(_SUBSCRIPTION, views.SubscriptionDetail.as_view(), name="api-subscription"),
    path(f"{_SUBSCRIPTION}/approve", views.SubscriptionApprove.as_view(), name="api-subscription-approve"),
    path(f"{_SUBSCRIPTION}/reject", views.SubscriptionReject.as_view(), name="api-subscription-reject"),
    path(f"{_SUBSCRIPTION}/suspend", views.SubscriptionSuspend.as_view(), name="api-subscription-suspend"),
    path(f"{_SUBSCRIPTION}/resume", views.SubscriptionResume.as_view(), name="api-subscription-resume"),
    path(f"{_SUBSCRIPTION}/cancel", views.SubscriptionCancel.as_view(), name="api-subscription-cancel"),
    path("ops/organisations", operations.OrganisationList.as_view(), name="api-ops-organisations"),
    path(f"{_OWNER}/suspend", operations.OrganisationSuspend.as_view(), name="api-ops-organisation-suspend"),
    path(f"{_OWNER}/resume", operations.OrganisationResume.as_view(), name="api-ops-organisation-resume"),
    path("ops/people", people.PersonList.as_view(), name="api-ops-people"),
    path("ops/people/<id:user_id>", people.PersonDetail.as_view(), name="api-ops-person"),
    path("ops/people/<id:user_id>/disable", people.PersonDisable.as_view(), name="api-ops-person-disable"),
    path("ops/people/<id:user_id>/enable", people.PersonEnable.as_view(), name="api-ops-person-enable"),
    path(f"ops/{_APP}/suspend", operations.ApplicationSuspend.as_view(), name="api-ops-application-suspend"),
    path(f"ops/{_APP}/resume", operations.ApplicationResume.as_view(), name="api-ops-application-resume"),
]
