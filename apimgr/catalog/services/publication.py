"""A draft becomes what the gateway serves."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils import timezone

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.events import VersionPublished
from apimgr.catalog.lifecycle import Move, next_state
from apimgr.catalog.models import GatewaySettings, Revision, Upstream, Version
from apimgr.catalog.services.checks import admission_problems, drafted
from apimgr.catalog.services.drafts import lock_version
from apimgr.catalog.services.gateway import gateway_settings_of
from apimgr.core import events
from apimgr.core.errors import DomainError


@transaction.atomic
def publish_version(*, actor: User | None, version: Version) -> Version:
    """Freeze the draft as a revision and deploy it. Raises ``DomainError`` (``incomplete``) that says what is missing.

    A version that is live already goes on with the new revision.
    """
    require(actor, Permission.API_PUBLISH, version.api.organisation)
    version = lock_version(version)
    state = next_state(version.state, Move.PUBLISH)
    if problems := admission_problems(drafted(version)):
        raise DomainError(
            " ".join(problem.message for problem in problems),
            code="incomplete",
            fix=" ".join(problem.fix for problem in problems),
            fields={problem.code: problem.message for problem in problems},
        )
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


def freeze(actor: User | None, version: Version) -> Revision:
    """The draft as the next revision."""
    assert version.specification is not None, "its check asks for one"
    last = version.revisions.order_by("-number").values_list("number", flat=True).first() or 0
    return Revision.objects.create(
        version=version,
        number=last + 1,
        specification=version.specification,
        configuration=configuration_of(version),
        created_by=actor,
    )


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


def is_ahead(version: Version) -> bool:
    """Whether the draft of a live version differs from what the gateway serves."""
    revision = version.deployed_revision
    if not version.is_live or revision is None or not hasattr(version, "route") or not hasattr(version, "upstream"):
        return False
    is_other_document = version.specification_id != revision.specification_id
    return is_other_document or configuration_of(version) != _completed(revision.configuration)


def _completed(configuration: dict[str, Any]) -> dict[str, Any]:
    """A revision's configuration with what was not asked for yet when it was frozen."""
    usual = {"max_connections": Upstream._meta.get_field("max_connections").default}
    return {
        **configuration,
        "gateway": {**GatewaySettings().as_configuration(), **configuration.get("gateway", {})},
        "upstream": {**usual, **configuration["upstream"]},
    }
