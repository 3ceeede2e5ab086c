"""Key → credential → application → subscription to a product that holds the version → plan."""

from __future__ import annotations

from binascii import Error, a2b_base64
from typing import TYPE_CHECKING, Final

from apimgr.contracts.credentials import MAX_KEY_BYTES, digest_key, is_well_formed, without_keys
from apimgr.contracts.snapshot import ApplicationDocument, SubscriptionDocument
from apimgr.contracts.usage import FLAG_OLD_SECRET, FLAG_TEST_KEY
from proxy.dataplane.http.request import RequestHead
from proxy.dataplane.policies.refusal import CHALLENGE, INVALID_TOKEN, Refusal

if TYPE_CHECKING:
    from proxy.dataplane.runtime import Caller, Runtime, Version

_ANY_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")


def find_key(head: RequestHead) -> bytes:
    """The one key of the request, from ``X-Api-Key`` or ``Authorization: Bearer``."""
    if len(head.api_keys) == 1 and not head.authorizations:
        return head.api_keys[0]
    keys = [*head.api_keys, *(value[7:].strip() for value in head.authorizations if _is_bearer(value))]
    if not keys:
        raise Refusal("key_missing", lines=CHALLENGE)
    if len(keys) > 1:
        raise Refusal("key_ambiguous", lines=CHALLENGE)
    return keys[0]


def _is_bearer(value: bytes) -> bool:
    return value[:7].lower() == b"bearer "


def passes_on(authorization: bytes, *, keyed: bool) -> bool:
    """Whether an ``Authorization`` value is for the upstream: no Bearer on a keyed API, and never a key of ours.

    It is looked for as text, and in the user name and password of Basic: ``curl -u <key>:`` is what people try.
    """
    if keyed and _is_bearer(authorization):
        return False
    return _is_free_of_keys(authorization) and _is_free_of_keys(_user_and_password(authorization))


def _is_free_of_keys(text: bytes) -> bool:
    return without_keys(text) == text


def _user_and_password(authorization: bytes) -> bytes:
    """What Basic credentials say; empty for others. In either alphabet, padded or not, as lenient servers take it."""
    if authorization[:5].lower() != b"basic":
        return b""
    try:
        return a2b_base64(authorization[5:].translate(_ANY_ALPHABET) + b"==")
    except Error:  # no base64: there is nothing in it but its text
        return b""


def identify(runtime: Runtime, version: Version, key: bytes, pepper: bytes, now: float) -> Caller:
    """The caller behind ``key``, allowed to call ``version``. What is known of a refused one goes with the refusal."""
    # Longer than any key, so not worth a digest.
    if len(key) > MAX_KEY_BYTES:
        raise Refusal("key_malformed", lines=INVALID_TOKEN)
    digest = digest_key(key, pepper)
    place = digest + version.mark
    known = runtime.callers.get(place) or runtime.recall_caller(place)
    if known is not None and not 0 < known.expires_at <= now:
        return known
    # Before any look-up in the replica; a digest found above is that of a well-formed key.
    if not is_well_formed(key):
        raise Refusal("key_malformed", lines=INVALID_TOKEN)
    caller = runtime.new_caller()
    try:
        _follow(runtime, version, digest.hex(), now, caller)
    except Refusal as refusal:
        refusal.caller = caller
        raise
    runtime.remember_caller(place, caller)
    return caller


def _follow(runtime: Runtime, version: Version, digest: str, now: float, into: Caller) -> None:
    """Credential, application, subscription, plan: fill ``into`` until one of them says no."""
    credential = runtime.credential(digest)
    if credential is None:
        raise Refusal("key_unknown", lines=INVALID_TOKEN)
    into.credential_id, into.expires_at = credential.id, credential.expires_at
    into.credential_state = credential.state
    into.flags = (FLAG_TEST_KEY if credential.test else 0) | (FLAG_OLD_SECRET if credential.superseded else 0)
    application = runtime.application(credential.application_id)
    if application is not None:
        into.application_id, into.application_state = application.id, application.state
    if credential.state != "active":
        raise Refusal("key_revoked", lines=INVALID_TOKEN)
    if 0 < credential.expires_at <= now:
        raise Refusal("key_expired", lines=INVALID_TOKEN)
    if application is None:
        raise Refusal("key_unknown", lines=INVALID_TOKEN)
    if application.state != "active":
        raise Refusal("application_suspended")
    if runtime.is_suspended(application.organisation_id):
        raise Refusal("organisation_suspended")
    subscription = _subscription_to(version, application)
    into.subscription_state = subscription.state
    into.plan = plan = runtime.plan(subscription.plan_id)
    into.plan_id = plan.id if plan is not None else 0
    if subscription.state != "active":
        raise Refusal("subscription_inactive")
    if plan is None:
        raise Refusal("subscription_inactive", "The plan of the subscription is not known to this gateway.")
    into.meter = runtime.meter(plan, subscription, version)


def _subscription_to(version: Version, application: ApplicationDocument) -> SubscriptionDocument:
    """The subscription that grants the version: an active one before others, then the oldest."""
    granting = [s for s in application.subscriptions if s.product_id in version.products]
    if not granting:
        raise Refusal("subscription_missing")
    return min(granting, key=lambda s: (s.state != "active", s.id))
