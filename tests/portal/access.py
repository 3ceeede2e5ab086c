"""Who may open which page of the portal."""

from __future__ import annotations

from typing import Any

from apimgr.core.ids import encode_id
from tests.access import Row, World

_DEVELOPER = {"dev"}
_DECIDES = {"alice", "oscar", "ada"}
_OPERATORS = {"olga"}


def _slug(w: World) -> dict[str, Any]:
    return {"slug": w.api.slug}


def _version(w: World) -> dict[str, Any]:
    return {"slug": w.api.slug, "name": w.version.name}


def _application(w: World) -> dict[str, Any]:
    return {"application_id": w.application.pk}


def _credential(w: World) -> dict[str, Any]:
    return {"credential_id": w.credential.pk}


def _subscription(w: World) -> dict[str, Any]:
    return {"subscription_id": w.subscription.pk}


def _owner(w: World) -> dict[str, Any]:
    return {"slug": w.builders.slug}


def _person(w: World) -> dict[str, Any]:
    return {"user_id": w.people["victor"].pk}


def _request(w: World) -> dict[str, Any]:
    return {"subscription_id": w.request.pk}


_SIGNED_IN = {"charlie", "dev", "alice", "oscar", "victor", "ada", "olga", "rita"}

ACCESS: dict[str, Row | tuple[Row, ...]] = {
    "portal:home": Row(anonymous=True),
    "portal:catalogue": Row(anonymous=True),
    "portal:docs": Row(anonymous=True),
    "portal:docs-outcome": Row(lambda w: {"code": "key_revoked"}, anonymous=True),
    "portal:docs-rest": Row(anonymous=True),
    "portal:api": Row(_slug, anonymous=True),
    "portal:reference": Row(_version, anonymous=True),
    "portal:document": Row(_version, anonymous=True),
    # Only our own pages get through: what the matrix sends does not say that it comes from one.
    "portal:try": Row(),
    # Anonymous visitors are sent to sign up, and come back.
    "portal:access": Row(_slug, anonymous=True),
    "portal:start": Row(allow=_SIGNED_IN),
    "portal:start-key": Row(_credential, allow=_DEVELOPER),
    "portal:start-run": Row(
        _credential, allow=_DEVELOPER, method="post", data=lambda w: {"api": w.api.slug, "version": "v1", "key": "x"}
    ),
    "portal:applications": Row(allow=_SIGNED_IN),
    "portal:application-new": Row(allow=_SIGNED_IN),
    "portal:requests": Row(allow=_SIGNED_IN),
    "portal:application": Row(_application, allow=_DEVELOPER),
    "portal:application-usage": Row(_application, allow=_DEVELOPER),
    "portal:application-requests": Row(_application, allow=_DEVELOPER),
    "portal:application-settings": (
        Row(_application, allow=_DEVELOPER),
        Row(_application, allow=_DEVELOPER, method="post", data={"name": "Renamed"}),
    ),
    "portal:credential-new": Row(_application, allow=_DEVELOPER, method="post", data={"name": "CI"}),
    "portal:credential-roll": Row(_credential, allow=_DEVELOPER, method="post", data={"overlap": "3600"}),
    "portal:credential-end-former": Row(_credential, allow=_DEVELOPER, method="post"),
    "portal:credential-expiry": Row(_credential, allow=_DEVELOPER, method="post", data={"expires_at": ""}),
    "portal:credential-revoke": Row(_credential, allow=_DEVELOPER, method="post"),
    "portal:subscription-plan": Row(_subscription, allow=_DEVELOPER, method="post"),
    "portal:subscription-cancel": Row(_subscription, allow=_DEVELOPER, method="post"),
    "portal:approvals": Row(allow={*_DECIDES, "rita"}),
    # Its reader sees what waits for them: nothing, mostly.
    "portal:approvals-panel": Row(allow=_SIGNED_IN),
    "portal:subscription-decide": Row(_request, allow=_DECIDES, method="post", data={"move": "approve"}),
    "portal:api-consumers": Row(_slug, allow={*_DECIDES, "victor"}),
    "portal:key-lookup": Row(allow={*_DECIDES, "victor", "rita", "olga"}),
    "portal:ops-organisations": Row(allow=_OPERATORS),
    "portal:ops-organisation": Row(_owner, allow=_OPERATORS),
    "portal:ops-organisation-state": Row(_owner, allow=_OPERATORS, method="post", data={"move": "suspend"}),
    "portal:ops-application-state": Row(_application, allow=_OPERATORS, method="post", data={"move": "suspend"}),
    "portal:ops-people": Row(allow=_OPERATORS),
    "portal:ops-person": Row(_person, allow=_OPERATORS),
    "portal:ops-person-state": Row(_person, allow=_OPERATORS, method="post", data={"move": "disable"}),
    "api-ops-people": Row(allow=_OPERATORS),
    "api-ops-person": Row(_person, allow=_OPERATORS),
    "api-ops-person-disable": Row(_person, allow=_OPERATORS, method="post"),
    "api-ops-person-enable": Row(_person, allow=_OPERATORS, method="post"),
    "api-ops-organisations": Row(allow=_OPERATORS),
    "api-ops-organisation-suspend": Row(_owner, allow=_OPERATORS, method="post"),
    "api-ops-organisation-resume": Row(_owner, allow=_OPERATORS, method="post"),
    "api-ops-application-suspend": Row(_application, allow=_OPERATORS, method="post"),
    "api-ops-application-resume": Row(_application, allow=_OPERATORS, method="post"),
    "api-catalogue": Row(allow=_SIGNED_IN),
    "api-catalogue-plans": Row(_slug, allow=_SIGNED_IN),
    # A list is there for everybody with a token; what is in it is tested with the selectors.
    "api-applications": (
        Row(allow=_SIGNED_IN),
        Row(allow={"charlie", "dev", "alice", "ada", "rita", "olga"}, method="post", data={"name": "New"}),
    ),
    "api-application": (
        Row(_application, allow=_DEVELOPER),
        Row(_application, allow=_DEVELOPER, method="patch", data={"description": "Changed"}),
    ),
    "api-application-credentials": (
        Row(_application, allow=_DEVELOPER),
        Row(_application, allow=_DEVELOPER, method="post", data={"name": "CI"}),
    ),
    "api-application-subscriptions": (
        Row(_application, allow=_DEVELOPER),
        Row(_application, allow=_DEVELOPER, method="post", data={"plan": "not an id"}),
    ),
    "api-key-look-up": Row(allow={*_DECIDES, "victor", "rita", "olga"}, method="post", data={"key": "ak_live_AbCdEf"}),
    "api-credential": Row(_credential, allow=_DEVELOPER),
    "api-credential-roll": Row(_credential, allow=_DEVELOPER, method="post"),
    "api-credential-end-former": Row(_credential, allow=_DEVELOPER, method="post"),
    "api-credential-expiry": Row(
        _credential, allow=_DEVELOPER, method="put", data={"expires_at": "2099-01-01T00:00:00Z"}
    ),
    "api-credential-revoke": Row(_credential, allow=_DEVELOPER, method="post"),
    # Whoever finds a key may report it.
    "api-leaks": Row(allow=_SIGNED_IN, method="post", data={"keys": ["nothing"]}),
    "api-subscriptions": Row(allow=_SIGNED_IN),
    "api-subscription": (
        Row(_subscription, allow={"dev", "victor", *_DECIDES}),
        Row(_subscription, allow={"dev", *_DECIDES}, method="patch", data=lambda w: {"plan": encode_id(w.plan.pk)}),
    ),
    "api-subscription-approve": Row(_request, allow=_DECIDES, method="post"),
    "api-subscription-reject": Row(_request, allow=_DECIDES, method="post"),
    "api-subscription-suspend": Row(_subscription, allow=_DECIDES, method="post"),
    "api-subscription-resume": Row(_subscription, allow=_DECIDES, method="post"),
    "api-subscription-cancel": Row(_subscription, allow={"dev", *_DECIDES}, method="post"),
}
