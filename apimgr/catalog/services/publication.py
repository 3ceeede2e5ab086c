"""A draft becomes what the gateway serves."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.differences import Difference, differences
from apimgr.catalog.events import VersionPublished
from apimgr.catalog.lifecycle import Move, next_state
from apimgr.catalog.models import GatewaySettings, Revision, Specification, Upstream, Version
from apimgr.catalog.services.checks import drafted, refuse_unfit
from apimgr.catalog.services.drafts import lock_version
from apimgr.catalog.services.gateway import gateway_settings_of
from apimgr.catalog.services.selection import lock_api
from apimgr.core import events


@transaction.atomic
def publish_version(*, actor: User | None, version: Version) -> Version:
    """Freeze the draft as a revision and deploy it. Raises ``DomainError`` (``incomplete``) that says what is missing.

    A version that is live already goes on with the new revision.
    """
    require(actor, Permission.API_PUBLISH, version.api.organisation)
    # A version is first served with what its API asks of all of them, which is told to those that are served already.
    lock_api(version.api)
    version = lock_version(version)
    state = next_state(version.state, Move.PUBLISH)
    refuse_unfit(drafted(version), "incomplete")
    version.state = state
    version.deployed_revision = freeze(actor, version)
    version.published_at = version.published_at or timezone.now()
    version.save(update_fields=["state", "deployed_revision", "published_at"])
    audit.record(
        actor=actor,
        action="catalog.version.published",
        target=version,
        organisation_id=version.api.organisation_id,
        revision=version.deployed_revision.number,
    )
    events.emit(VersionPublished(version.pk))
    return version


def freeze(actor: User | None, version: Version, restored: Revision | None = None) -> Revision:
    """The draft, or what was ``restored``, as the next revision."""
    specification = restored.specification if restored else version.specification
    assert specification is not None, "its check asks for one"
    return Revision.objects.create(
        version=version,
        number=_next_number(version),
        specification=specification,
        configuration=restored.configuration if restored else configuration_of(version),
        restored_from=restored,
        created_by=actor,
    )


def _next_number(version: Version) -> int:
    last: int = version.revisions.order_by("-number").values_list("number", flat=True).first() or 0
    return last + 1


def configuration_of(version: Version) -> dict[str, Any]:
    """What a revision keeps and the gateway's documents are compiled from."""
    upstream, route = version.upstream, version.route
    operations = version.operations.filter(is_current=True).order_by("path", "method")
    return {
        "upstream": {
            "url": upstream.url,
            "connect_timeout_ms": upstream.connect_timeout_ms,
            "read_timeout_ms": upstream.read_timeout_ms,
            "max_connections": upstream.max_connections,
            "preserve_host": upstream.preserve_host,
        },
        "route": {"host": route.host, "base_path": route.base_path},
        "gateway": gateway_settings_of(version).as_configuration(),
        "operations": [list(row) for row in operations.values_list("id", "method", "path")],
    }


def whole_of(revision: Revision) -> dict[str, Any]:
    """What a revision keeps, the name of its document and what was not asked for yet when it was frozen included."""
    given = revision.configuration
    usual = {"max_connections": Upstream._meta.get_field("max_connections").default}
    return {
        **given,
        "document": _name_of(revision.specification),
        "gateway": {**GatewaySettings().as_configuration(), **given.get("gateway", {})},
        "upstream": {**usual, **given["upstream"]},
    }


def pending_changes(version: Version) -> list[Difference]:
    """What publishing the draft of a live version would change in what the gateway serves."""
    revision = version.deployed_revision
    if not version.is_live or revision is None or version.specification is None:
        return []
    if not hasattr(version, "route") or not hasattr(version, "upstream"):
        return []
    draft = {**configuration_of(version), "document": _name_of(version.specification)}
    return differences(whole_of(revision), draft)


def is_ahead(version: Version) -> bool:
    """Whether the draft of a live version differs from what the gateway serves."""
    return bool(pending_changes(version))


def _name_of(specification: Specification) -> str:
    return f"{specification}, SHA-256 {specification.sha256[:12]}…"
