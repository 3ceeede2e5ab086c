"""The life of a published version: deprecated, restored, retired."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.events import VersionDeprecated, VersionRestored, VersionRetired
from apimgr.catalog.lifecycle import Move, next_state
from apimgr.catalog.models import Version
from apimgr.catalog.services.drafts import lock_version
from apimgr.core import events
from apimgr.core.errors import DomainError


@transaction.atomic
def deprecate_version(*, actor: User | None, version: Version, sunset_at: datetime | None = None) -> Version:
    """Callers are told (``Deprecation``, ``Sunset``) and still served. Doing it again moves the sunset date."""
    if sunset_at is not None and sunset_at <= timezone.now():
        message = _("The sunset date must lie in the future.")
        raise DomainError(message, code="sunset_in_past", fields={"sunset_at": message})
    version = _move(actor, version, Move.DEPRECATE)
    version.deprecated_at = version.deprecated_at or timezone.now()
    version.sunset_at = sunset_at
    _keep(actor, version, "deprecated", sunset_at=sunset_at.isoformat() if sunset_at else None)
    events.emit(VersionDeprecated(version.pk))
    return version


@transaction.atomic
def restore_version(*, actor: User | None, version: Version) -> Version:
    """Take a deprecation back."""
    version = _move(actor, version, Move.RESTORE)
    version.deprecated_at = version.sunset_at = None
    _keep(actor, version, "restored")
    events.emit(VersionRestored(version.pk))
    return version


@transaction.atomic
def retire_version(*, actor: User | None, version: Version) -> Version:
    """Calls are answered 410 from now on. There is no way back; the address stays taken."""
    version = _move(actor, version, Move.RETIRE)
    version.retired_at = timezone.now()
    _keep(actor, version, "retired")
    events.emit(VersionRetired(version.pk))
    return version


def _move(actor: User | None, version: Version, move: Move) -> Version:
    require(actor, Permission.API_PUBLISH, version.api.organisation)
    version = lock_version(version)
    version.state = next_state(version.state, move)
    return version


def _keep(actor: User | None, version: Version, verb: str, **data: Any) -> None:
    version.save(update_fields=["state", "deprecated_at", "sunset_at", "retired_at"])
    audit.record(
        actor=actor,
        action=f"catalog.version.{verb}",
        target=version,
        organisation_id=version.api.organisation_id,
        **data,
    )
