"""API keys. The key itself exists in the return value of ``issue_credential`` and nowhere else (security.md K3, K6)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit.services import record
from apimgr.contracts.credentials import IssuedKey, digest_key, generate_key
from apimgr.core.errors import Conflict, DomainError
from apimgr.core.events import emit
from portal.events import CredentialChanged, CredentialIssued, CredentialRevoked
from portal.models import Application, Credential, CredentialState
from portal.services.applications import lock_application

MAX_OVERLAP: Final = timedelta(days=30)
MAX_ACTIVE_KEYS: Final = 20  # per application


@transaction.atomic
def issue_credential(
    *,
    actor: User | None,
    application: Application,
    name: str = "Key",
    is_test: bool = False,
    expires_at: datetime | None = None,
) -> tuple[Credential, IssuedKey]:
    """A new key. The returned secret cannot be had again: show it, drop it."""
    require(actor, Permission.APPLICATION_MANAGE, application.organisation)
    _check_ahead(expires_at)
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
        expires_at=expires_at,
        created_by=actor,
    )
    _record(actor, credential, "issued")
    emit(CredentialIssued(credential.pk))
    return credential, key


@transaction.atomic
def roll_credential(
    *, actor: User | None, credential: Credential, overlap: timedelta = timedelta(0)
) -> tuple[Credential, IssuedKey]:
    """Give the key a new secret. The present one works on for ``overlap``, at most ``MAX_OVERLAP``.

    A secret that was still ending from an earlier roll ends now: there are never more than two.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise DomainError(
            _("The old key can work on for at most %(days)d days.") % {"days": MAX_OVERLAP.days},
            fields={"overlap": _("Choose a shorter time.")},
        )
    credential = _lock(actor, credential)
    if credential.standing in {"revoked", "expired"}:
        raise Conflict(
            _("The key is %(state)s.") % {"state": credential.standing}, code="key_ended", fix=_("Make a new key.")
        )
    ended = credential.former_digest
    key = generate_key(settings.KEY_PREFIX, "test" if credential.is_test else "live")
    credential.former_digest, credential.former_prefix = credential.digest, credential.prefix
    credential.former_last4, credential.former_until = credential.last4, timezone.now() + overlap
    credential.former_used_at = credential.last_used_at
    credential.digest = digest_key(key.secret.encode("ascii"), settings.KEY_PEPPER)
    credential.prefix, credential.last4, credential.last_used_at = key.prefix, key.last4, None
    credential.save()
    _record(actor, credential, "rolled", overlap_seconds=int(overlap.total_seconds()))
    emit(CredentialChanged(credential.pk, bytes(ended).hex() if ended else ""))
    return credential, key


@transaction.atomic
def end_former_secret(*, actor: User | None, credential: Credential) -> Credential:
    """Refuse the secret that was rolled away, before its time. Ending it twice changes nothing."""
    credential = _lock(actor, credential)
    if credential.is_rotating:
        credential.former_until = timezone.now()
        credential.save(update_fields=["former_until"])
        _record(actor, credential, "former_ended")
        emit(CredentialChanged(credential.pk))
    return credential


@transaction.atomic
def set_expiry(*, actor: User | None, credential: Credential, expires_at: datetime | None) -> Credential:
    """Let the key end at ``expires_at``, or at no time of its own."""
    _check_ahead(expires_at)
    credential = _lock(actor, credential)
    if credential.state == CredentialState.REVOKED:
        raise Conflict(_("The key is revoked."), code="key_ended", fix=_("Make a new key."))
    credential.expires_at = expires_at
    credential.save(update_fields=["expires_at"])
    _record(actor, credential, "expiry_set", expires_at=expires_at.isoformat() if expires_at else "")
    emit(CredentialChanged(credential.pk))
    return credential


@transaction.atomic
def revoke_credential(*, actor: User | None, credential: Credential) -> Credential:
    """Refuse calls with the key from now on. Revoking twice changes nothing."""
    credential = _lock(actor, credential)
    if credential.state == CredentialState.REVOKED:
        return credential
    credential.state = CredentialState.REVOKED
    credential.revoked_at = timezone.now()
    credential.save(update_fields=["state", "revoked_at"])
    _record(actor, credential, "revoked")
    emit(CredentialRevoked(credential.pk))
    return credential


def _lock(actor: User | None, credential: Credential) -> Credential:
    """The key as it stands now, for somebody who may change it, locked until the transaction ends."""
    require(actor, Permission.APPLICATION_MANAGE, credential.application.organisation)
    found = Credential.objects.select_for_update(of=("self",)).select_related("application__organisation")
    return found.get(pk=credential.pk)


def _check_ahead(expires_at: datetime | None) -> None:
    if expires_at is not None and expires_at <= timezone.now():
        raise DomainError(
            _("A key cannot end in the past."), fields={"expires_at": _("Choose a time to come, or revoke the key.")}
        )


def _record(actor: User | None, credential: Credential, verb: str, **details: str | int) -> None:
    record(
        actor=actor,
        action=f"portal.credential.{verb}",
        target=credential,
        organisation_id=credential.application.organisation_id,
        application=credential.application.name,
        **details,
    )
