from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import Model

from apimgr.audit.models import AuditEntry
from apimgr.audit.sentences import ACTION

if TYPE_CHECKING:
    from apimgr.accounts.models import User


def record(
    *, actor: User | None, action: str, target: Model, organisation_id: int | None = None, **data: Any
) -> AuditEntry:
    """Add one entry, in the caller's transaction. ``actor`` is ``None`` for the platform itself.

    ``action`` is ``app.thing.happened``; ``data`` is what its sentence needs, as JSON. A thing that goes by its name,
    with no id of ours, has ``target_id`` 0.
    """
    if not ACTION.fullmatch(action):
        raise ValueError(f"an audit action is app.thing.happened, not {action!r}")
    return AuditEntry.objects.create(
        actor=actor,
        action=action,
        target_type=target._meta.model_name or "",
        target_id=target.pk if isinstance(target.pk, int) else 0,
        target_name=str(target)[:200],
        organisation_id=organisation_id,
        data=data,
    )
