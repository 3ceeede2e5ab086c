from __future__ import annotations

from django.urls import URLPattern, URLResolver, path

from portal.views import (
    access,
    applications,
    approvals,
    credentials,
    operations,
    operators_people,
    public,
    reference,
    subscriptions,
    tryit,
)

app_name = "portal"
_APP = "apps/<id:application_id>"
urlpatterns: list[URLPattern | URLResolver] = [
    # Everybody's
    path("", public.home, name="home"),
    path("apis/", public.catalogue, name="catalogue"),
    path("apis/<slug:slug>/", public.api, name="api"),
    path("apis/<slug:slug>/<str:name>/reference/", reference.reference, name="reference"),
    path("apis/<slug:slug>/<str:name>/openapi.json", reference.document, name="document"),
    path("docs/", public.docs, name="docs"),
    path("docs/outcomes/<slug:code>/", public.outcome, name="docs-outcome"),
    path("docs/rest/", reference.rest, name="docs-rest"),
    path("try/", tryit.relay, name="try"),
    # From "Get access" to the first call
    path("apis/<slug:slug>/access/", access.get_access, name="access"),
    path("start/", access.start_anywhere, name="start"),
    path("start/<id:credential_id>/", access.start, name="start-key"),
    path("start/<id:credential_id>/run/", access.run, name="start-run"),
    # The developer's own
    path("apps/", applications.applications, name="applications"),
    path("apps/new/", applications.create, name="application-new"),
    path("apps/requests/", applications.all_requests, name="requests"),
    path(f"{_APP}/", applications.application, name="application"),
    path(f"{_APP}/usage/", applications.usage, name="application-usage"),
    path(f"{_APP}/requests/", applications.requests, name="application-requests"),
    path(f"{_APP}/settings/", applications.settings, name="application-settings"),
    path(f"{_APP}/keys/", credentials.issue, name="credential-new"),
    path("keys/<id:credential_id>/roll/", credentials.roll, name="credential-roll"),
    path("keys/<id:credential_id>/end-former/", credentials.end_former, name="credential-end-former"),
    path("keys/<id:credential_id>/expiry/", credentials.expiry, name="credential-expiry"),
    path("keys/<id:credential_id>/revoke/", credentials.revoke, name="credential-revoke"),
    path("subscriptions/<id:subscription_id>/plan/", subscriptions.change_plan, name="subscription-plan"),
    path("subscriptions/<id:subscription_id>/cancel/", subscriptions.cancel, name="subscription-cancel"),
    # The publisher's
    path("console/approvals/", approvals.approvals, name="approvals"),
    path("console/approvals/panel/", approvals.panel, name="approvals-panel"),
    path("console/subscriptions/<id:subscription_id>/decide/", approvals.decide, name="subscription-decide"),
    path("console/apis/<slug:slug>/consumers/", approvals.consumers, name="api-consumers"),
    path("console/keys/", approvals.key_lookup, name="key-lookup"),
    # The operator's
    path("ops/organisations/", operations.organisations, name="ops-organisations"),
    path("ops/organisations/<slug:slug>/", operations.organisation, name="ops-organisation"),
    path("ops/organisations/<slug:slug>/state/", operations.organisation_state, name="ops-organisation-state"),
    path("ops/people/", operators_people.people, name="ops-people"),
    path("ops/people/<id:user_id>/", operators_people.person, name="ops-person"),
    path("ops/people/<id:user_id>/state/", operators_people.person_state, name="ops-person-state"),
    path("ops/applications/<id:application_id>/state/", operations.application_state, name="ops-application-state"),
]
