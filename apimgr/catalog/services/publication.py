"""A draft becomes what the gateway serves: what is missing, and the moment it goes live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.events import VersionPublished
from apimgr.catalog.lifecycle import Move, next_state
from apimgr.catalog.models import GatewaySettings, Revision, Route, Upstream, Version
from apimgr.catalog.services.drafts import lock_version
from apimgr.catalog.services.routing import check_public, lock_routes, route_conflict
from apimgr.core import egress, events
from apimgr.core.errors import DomainError


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a version from being published. ``code`` is stable; ``fix`` says what to do."""

    code: str
    message: str
    fix: str


Check = Callable[[Version], Iterator[Problem]]
_checks: list[Check] = []


def publication_check(check: Check) -> Check:
    """Register a check of an app above: what it yields keeps a version from being published."""
    _checks.append(check)
    return check


def publication_problems(version: Version) -> list[Problem]:
    """Everything that is missing, in the order a publisher meets it; empty when the version can be published."""
    return [problem for check in _checks for problem in check(version)]


@transaction.atomic
def publish_version(*, actor: User | None, version: Version) -> Version:
    """Freeze the draft as a revision and deploy it. Raises ``DomainError`` (``incomplete``) that says what is missing.

    A version that is live already goes on with the new revision.
    """
    require(actor, Permission.API_PUBLISH, version.api.organisation)
    version = lock_version(version)
    state = next_state(version.state, Move.PUBLISH)
    # A document may have proposed the upstream; an allow-list may have shrunk. Asked before all publishers wait.
    for upstream in Upstream.objects.filter(version=version):
        check_public(upstream.url)
    lock_routes()
    if problems := publication_problems(version):
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
    assert version.specification is not None, "publication_problems asks for one"
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


def gateway_settings_of(version: Version) -> GatewaySettings:
    """The draft's, or what a new version has."""
    found: GatewaySettings | None = getattr(version, "gateway_settings", None)
    return found or GatewaySettings(version=version)


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


@publication_check
def _definition(version: Version) -> Iterator[Problem]:
    if version.specification is None:
        yield Problem("specification", _("There is no OpenAPI document yet."), _("Import one."))
    elif any(finding["severity"] == "error" for finding in version.specification.findings):
        yield Problem("specification", _("The OpenAPI document has errors."), _("Correct it and import it again."))
    elif not version.operations.filter(is_current=True).exists():
        yield Problem("operations", _("The version has no operations."), _("Import a document with operations."))


@publication_check
def _addresses(version: Version) -> Iterator[Problem]:
    route = Route.objects.filter(version=version).first()
    if route is None:
        yield Problem("route", _("The version has no public address."), _("Choose its route."))
    elif route_conflict(version, route.host, route.base_path):
        yield Problem("route", _("Another API has the address %(route)s.") % {"route": route}, _("Choose another."))
    upstream = Upstream.objects.filter(version=version).first()
    if upstream is None:
        yield Problem("upstream", _("The version has no upstream: calls would lead nowhere."), _("Give its address."))
        return
    try:
        egress.check_url(upstream.url)
    except egress.EgressRefused as error:
        yield Problem("upstream", error.message, error.fix or _("Give another address."))
