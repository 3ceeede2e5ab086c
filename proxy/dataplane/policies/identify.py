"""Key → credential → application → subscription to a product that holds the version → plan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apimgr.contracts.credentials import MAX_KEY_BYTES, digest_key, is_well_formed
from apimgr.contracts.snapshot import ApplicationDocument, SubscriptionDocument
from proxy.dataplane.http.request import RequestHead
from proxy.dataplane.policies.refusal import CHALLENGE, INVALID_TOKEN, Refusal

if TYPE_CHECKING:
    from proxy.dataplane.runtime import Caller, Runtime, Version


def find_key(head: RequestHead) -> bytes:
    """The one key of the request, from ``X-Api-Key`` or ``Authorization: Bearer``."""
    if len(head.block.api_keys) == 1 and not head.block.authorizations:
        return head.block.api_keys[0]
    keys = head.block.api_keys + [value[7:].strip() for value in head.block.authorizations if _is_bearer(value)]
    if not keys:
        raise Refusal("key_missing", lines=CHALLENGE)
    if len(keys) > 1:
        raise Refusal("key_ambiguous", lines=CHALLENGE)
    return keys[0]


def _is_bearer(value: bytes) -> bool:
    return value[:7].lower() == b"bearer "


def passes_on(authorization: bytes, *, keyed: bool) -> bool:
    """Whether an ``Authorization`` value is for the upstream: no Bearer on a keyed API, and never a key of ours."""
    return not (_is_bearer(authorization) and (keyed or is_well_formed(authorization[7:].strip())))


def identify(runtime: Runtime, version: Version, key: bytes, pepper: bytes, now: float, into: Caller) -> Caller:
    """The caller behind ``key``, allowed to call ``version``. What is known of a refused one is left in ``into``."""
    # Longer than any key, so not worth a digest.
    if len(key) > MAX_KEY_BYTES:
        raise Refusal("key_malformed", lines=INVALID_TOKEN)
    digest = digest_key(key, pepper)
    cached = runtime.callers.get((digest, version.id))
    if cached is not None and not _has_expired(cached, now):
        return cached
    # Before any look-up in the replica; a digest found above is that of a well-formed key.
    if not is_well_formed(key):
        raise Refusal("key_malformed", lines=INVALID_TOKEN)
    _find_credential(runtime, digest.hex(), into)
    if _has_expired(into, now):
        into.application = runtime.application(into.credential.application_id) if into.credential else None
        raise Refusal("key_expired", lines=INVALID_TOKEN)
    application = _find_application(runtime, into)
    subscription = _find_subscription(application, version)
    into.subscription = subscription
    plan = runtime.plan(subscription.plan_id)
    if plan is None:
        raise Refusal("subscription_inactive", "The plan of the subscription is not known to this gateway.")
    into.plan = plan
    if subscription.state != "active":
        raise Refusal("subscription_inactive")
    into.meter = runtime.meter(plan, subscription.id, now)
    runtime.remember_caller((digest, version.id), into)
    return into


def _find_credential(runtime: Runtime, digest: str, into: Caller) -> None:
    credential = runtime.credential(digest)
    if credential is None:
        raise Refusal("key_unknown", lines=INVALID_TOKEN)
    into.credential = credential
    into.expires_at, into.is_test = credential.expires_at, credential.test
    if credential.state != "active":
        into.application = runtime.application(credential.application_id)
        raise Refusal("key_revoked", lines=INVALID_TOKEN)


def _has_expired(caller: Caller, now: float) -> bool:
    return 0 < caller.expires_at <= now


def _find_application(runtime: Runtime, into: Caller) -> ApplicationDocument:
    assert into.credential is not None, "found before"
    application = runtime.application(into.credential.application_id)
    if application is None:
        raise Refusal("key_unknown", lines=INVALID_TOKEN)
    into.application = application
    if application.state != "active":
        raise Refusal("application_suspended")
    return application


def _find_subscription(application: ApplicationDocument, version: Version) -> SubscriptionDocument:
    """The subscription that grants the version: an active one before others, then the oldest."""
    granting = [s for s in application.subscriptions if s.product_id in version.products]
    if not granting:
        raise Refusal("subscription_missing")
    return min(granting, key=lambda s: (s.state != "active", s.id))
