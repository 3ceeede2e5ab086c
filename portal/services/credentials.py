"""API keys. The key itself exists in the return value of ``issue_credential`` and nowhere else (security.md K3, K6)."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit.services import record
from apimgr.contracts.credentials import IssuedKey, digest_key, generate_key
from apimgr.core.errors import Conflict
from apimgr.core.events import emit
from portal.events import CredentialIssued, CredentialRevoked
from portal.models import Application, Credential, CredentialState
from portal.services.applications import lock_application

MAX_ACTIVE_KEYS: Final = 20  # per application


@transaction.atomic
def issue_credential(
    *, actor: User | None, application: Application, name: str = "Key", is_test: bool = False
) -> tuple[Credential, IssuedKey]:
    """A new key. The returned secret cannot be had again: show it, drop it."""
    require(actor, Permission.APPLICATION_MANAGE, application.organisation)
    application = lock_application(application)
    if application.credentials.filter(state=CredentialState.ACTIVE).count() >= MAX_ACTIVE_KEYS:
        raise Conflict(
            _("An application has at most %(most)d keys.") % {"most": MAX_ACTIVE_KEYS},
            code="too_many_keys",
            fix=_("Revoke one that is no longer used."),
        )
    key = generate_key(settings.KEY_PREFIX, "test" if is_test else "live")
    credential = Credential.objects.create(
        application=application,
        name=name.strip()[:80] or "Key",
        digest=digest_key(key.secret.encode("ascii"), settings.KEY_PEPPER),
        prefix=key.prefix,
        last4=key.last4,
        is_test=is_test,
        created_by=actor,
    )
    _record(actor, credential, "issued")
    emit(CredentialIssued(credential.pk))
    return credential, key


@transaction.atomic
def revoke_credential(*, actor: User | None, credential: Credential) -> Credential:
    """Refuse calls with the key from now on. Revoking twice changes nothing."""
    require(actor, Permission.APPLICATION_MANAGE, credential.application.organisation)
    found = Credential.objects.select_for_update(of=("self",)).select_related("application__organisation")
    credential = found.get(pk=credential.pk)
    if credential.state == CredentialState.REVOKED:
        return credential
    credential.state = CredentialState.REVOKED
    credential.revoked_at = timezone.now()
    credential.save(update_fields=["state", "revoked_at"])
    _record(actor, credential, "revoked")
    emit(CredentialRevoked(credential.pk))
    return credential


def _record(actor: User | None, credential: Credential, verb: str) -> None:
    record(
        actor=actor,
        action=f"portal.credential.{verb}",
        target=credential,
        organisation_id=credential.application.organisation_id,
        application=credential.application.name,
    )
