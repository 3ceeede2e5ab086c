"""How the gateway treats a version's calls: part of the draft, live from the next publication."""

from __future__ import annotations

from collections.abc import Sequence

from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.models import GatewaySettings, Version
from apimgr.catalog.services.drafts import editable
from apimgr.contracts import bounds
from apimgr.core.errors import DomainError
from apimgr.core.validation import store


def gateway_settings_of(version: Version) -> GatewaySettings:
    """The draft's, or what a new version has."""
    found: GatewaySettings | None = getattr(version, "gateway_settings", None)
    return found or GatewaySettings(version=version)


@transaction.atomic
def set_gateway_settings(
    *,
    actor: User | None,
    version: Version,
    authentication: str = "key",
    unknown_operation: str = "refuse",
    max_body_bytes: int = 10 * 2**20,
    upgrades: Sequence[str] = (),
    websocket_origins: Sequence[str] = (),
    tunnel_idle_ms: int = 300_000,
    max_message_bytes: int = 2**20,
    when_unrecordable: str = "refuse",
) -> GatewaySettings:
    """All of them at once: what is not given is what a new version has."""
    require(actor, Permission.API_EDIT, version.api.organisation)
    version = editable(version)
    settings = GatewaySettings.objects.filter(version=version).first() or GatewaySettings(version=version)
    before = settings.as_configuration()
    settings.authentication = authentication
    settings.unknown_operation = unknown_operation
    settings.max_body_bytes = max_body_bytes
    settings.upgrades = _upgrades(upgrades)
    settings.websocket_origins = _origins(websocket_origins)
    settings.tunnel_idle_ms = tunnel_idle_ms
    settings.max_message_bytes = max_message_bytes
    settings.when_unrecordable = when_unrecordable
    store(settings)
    after = settings.as_configuration()
    if changed := [field for field, value in after.items() if value != before[field]]:
        audit.record(
            actor=actor,
            action="catalog.version.gateway_set",
            target=version,
            organisation_id=version.api.organisation_id,
            **{field: after[field] for field in changed},
        )
    return settings


def _upgrades(given: Sequence[str]) -> list[str]:
    names = list(dict.fromkeys(name.strip().lower() for name in given if name.strip()))
    for name in names:
        if not bounds.is_upgrade(name):
            message = _("Calls cannot switch to “%(name)s”.") % {"name": name[:60]}
            fix = _("Name a protocol as Upgrade does. HTTP and TLS are refused: calls inside would pass unseen.")
            raise DomainError(message, code="upgrade_not_possible", fix=fix, fields={"upgrades": f"{message} {fix}"})
    if len(names) > bounds.MAX_UPGRADES:
        message = _("There can be %(count)s protocols.") % {"count": bounds.MAX_UPGRADES}
        raise DomainError(message, code="too_many", fields={"upgrades": message})
    return names


def _origins(given: Sequence[str]) -> list[str]:
    """Origins as browsers write them: the port that goes without saying is left out."""
    origins = []
    for text in given:
        if not (origin := text.strip().lower().removesuffix("/")):
            continue
        scheme = origin.partition(":")[0]
        origin = origin.removesuffix({"http": ":80", "https": ":443"}.get(scheme, "\0"))
        if not bounds.is_origin(origin):
            message = _("“%(origin)s” is no origin: write https://host, with a port if it has one of its own.")
            message %= {"origin": text.strip()[:100]}
            raise DomainError(message, code="origin_invalid", fields={"websocket_origins": message})
        origins.append(origin)
    if len(origins) > bounds.MAX_ORIGINS:
        message = _("There can be %(count)s origins.") % {"count": bounds.MAX_ORIGINS}
        raise DomainError(message, code="too_many", fields={"websocket_origins": message})
    return list(dict.fromkeys(origins))
