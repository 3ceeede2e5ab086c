"""Keys that somebody found where they should not be (security.md K10)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from apimgr.accounts.models import User
from apimgr.audit.services import record
from apimgr.contracts.credentials import digest_key, is_well_formed
from portal.models import Credential
from portal.services.credentials import end_former_secret, revoke_credential

MAX_KEYS: Final = 100  # in one report


@transaction.atomic
def report_leak(*, actor: User | None, keys: Iterable[str], found_at: str = "") -> int:
    """Stop those of ``keys`` that still open anything, and say how many did.

    Nobody has to have a right to it: whoever holds a key could call with it. A former secret ends alone, for its
    successor is not what was found.
    """
    digests = {digest_key(key.encode(), settings.KEY_PEPPER) for key in keys if is_well_formed(key.encode())}
    found = Credential.objects.filter(Q(digest__in=digests) | Q(former_digest__in=digests))
    stopped = 0
    for credential in found.select_related("application__organisation").order_by("pk"):
        if bytes(credential.digest) in digests:
            is_open = credential.standing in {"active", "rotating"}
            stop = revoke_credential
        else:
            is_open = credential.is_rotating and credential.standing == "rotating"
            stop = end_former_secret
        if is_open:
            stop(actor=None, credential=credential)  # the platform does it, whoever found the key
            _record(actor, credential, found_at)
            stopped += 1
    return stopped


def _record(actor: User | None, credential: Credential, found_at: str) -> None:
    record(
        actor=actor,
        action="portal.credential.leaked",
        target=credential,
        organisation_id=credential.application.organisation_id,
        application=credential.application.name,
        found_at=found_at,
    )
