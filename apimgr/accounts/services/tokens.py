"""Tokens for the REST API. The token itself is shown once and never stored: only its digest is."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.events import ApiTokenIssued, ApiTokenRevoked
from apimgr.accounts.models import ApiToken, Organisation, User
from apimgr.audit.services import record
from apimgr.contracts.credentials import digest_key, generate_key
from apimgr.core.errors import DomainError
from apimgr.core.events import emit

PREFIX: Final = "apimgr"


@transaction.atomic
def issue_api_token(
    *, actor: User, organisation: Organisation, name: str, expires_at: datetime | None = None
) -> tuple[ApiToken, str]:
    """A token that acts as ``actor`` in ``organisation`` and nowhere else, and its secret, readable this once."""
    require(actor, Permission.TOKEN_MANAGE, organisation)
    name = name.strip()
    if not name or len(name) > 80:
        raise DomainError(_("A token needs a name."), fields={"name": _("Give it a name of up to 80 characters.")})
    if expires_at is not None and expires_at <= timezone.now():
        raise DomainError(_("The token would have expired already."), fields={"expires_at": _("Choose a later time.")})
    key = generate_key(PREFIX)
    token = ApiToken.objects.create(
        organisation=organisation,
        user=actor,
        name=name,
        digest=digest_key(key.secret.encode(), settings.KEY_PEPPER),
        prefix=key.prefix,
        last4=key.last4,
        expires_at=expires_at,
    )
    record(actor=actor, action="accounts.token.issued", target=token, organisation_id=organisation.pk)
    emit(ApiTokenIssued(token_id=token.pk))
    return token, key.secret


@transaction.atomic
def revoke_api_token(*, actor: User | None, token: ApiToken) -> ApiToken:
    """End a token at once. Its owner may, and whoever manages the organisation's members."""
    is_own = actor is not None and actor.pk == token.user_id
    require(actor, Permission.TOKEN_MANAGE if is_own else Permission.MEMBER_MANAGE, token.organisation)
    token = ApiToken.objects.select_for_update().get(pk=token.pk)
    if token.revoked_at is None:
        token.revoked_at = timezone.now()
        token.save(update_fields=["revoked_at"])
        record(actor=actor, action="accounts.token.revoked", target=token, organisation_id=token.organisation_id)
        emit(ApiTokenRevoked(token_id=token.pk))
    return token
