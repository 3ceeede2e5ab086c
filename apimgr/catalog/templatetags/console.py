"""The frame of an API's pages and of the wizard, for templates of any app that adds a tab or a step."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from django import template
from django.utils.translation import gettext_lazy as _

from apimgr.catalog.models import API, Version
from apimgr.core.templatetags.ui import url_if

register = template.Library()

_TABS: Final = (
    ("overview", "catalog:api", _("Overview")),
    ("versions", "catalog:api-versions", _("Versions")),
    ("definition", "catalog:api-definition", _("Definition")),
    ("operations", "catalog:api-operations", _("Operations")),
    ("gateway", "catalog:api-gateway", _("Gateway")),
    ("plans", "products:api-plans", _("Plans and limits")),
    ("consumers", "portal:api-consumers", _("Consumers")),
    ("settings", "catalog:api-settings", _("Settings")),
)
_STEPS: Final = (
    ("source", "catalog:version-source", _("Source")),
    ("check", "catalog:version-check", _("Check")),
    ("address", "catalog:version-address", _("Route and upstream")),
    ("access", "products:version-access", _("Access")),
    ("preview", "catalog:version-preview", _("Preview and publish")),
)


@register.filter
def called_at(version: Version, gateway_url: str) -> str:
    """Where callers find a version: its host if it has one, else the gateway's address."""
    gateway, address = urlsplit(gateway_url), version.address
    if address.startswith("/"):
        return f"{gateway_url}{address}"
    host, slash, path = address.partition("/")
    return f"{gateway.scheme}://{host}{f':{gateway.port}' if gateway.port else ''}{slash}{path}"


@register.inclusion_tag("catalog/_tabs.html")
def api_tabs(api: API, current: str, may_edit: bool = True) -> dict[str, Any]:
    tabs = [(url_if(name, slug=api.slug), label, key == current) for key, name, label in _TABS]
    if not may_edit:
        tabs.pop()
    return {"tabs": [tab for tab in tabs if tab[0]]}


@register.inclusion_tag("catalog/_steps.html")
def wizard_steps(current: str, version: Version | None = None) -> dict[str, Any]:
    """The steps with what is behind; of a version without a document only the first can be entered."""
    at = [key for key, _name, _label in _STEPS].index(current)
    ready = version is not None and version.specification_id is not None
    steps = []
    for number, (key, name, label) in enumerate(_STEPS):
        state = "current" if key == current else "done" if number < at else "todo"
        is_open = version is not None and (ready or key == "source")
        href = url_if(name, slug=version.api.slug, name=version.name) if version and is_open else ""
        steps.append((label, state, href))
    return {"steps": steps}
