"""Who finds what in the sidebar: a table of addresses, filtered by a person's memberships."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, cast

from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


@dataclass(frozen=True, slots=True)
class Entry:
    name: str  # of the URL
    label: str | Promise
    icon: str
    per_organisation: bool = False  # its address holds the organisation's slug
    roles: tuple[str, ...] = ()  # who may open it; nobody named: every audience of its section
    href: str = ""
    is_current: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    name: str
    label: str | Promise
    audience: str  # publisher | member | operator
    entries: list[Entry] = field(default_factory=list)


SECTIONS: Final = (
    Section(
        "console",
        _("Console"),
        "publisher",
        [
            Entry("catalog:overview", _("Overview"), "layout-dashboard"),
            Entry("catalog:apis", _("APIs"), "box"),
            Entry("products:plans", _("Plans"), "stack-2"),
            Entry("portal:approvals", _("Approvals"), "inbox"),
        ],
    ),
    Section(
        "insights",
        _("Insights"),
        "publisher",
        [
            Entry("analytics:overview", _("Usage"), "chart-bar"),
            Entry("analytics:requests", _("Requests"), "list"),
        ],
    ),
    Section(
        "apps",
        _("My apps"),
        "member",
        [
            Entry("portal:applications", _("Applications"), "apps"),
            Entry("portal:requests", _("Requests"), "list"),
            Entry("portal:catalogue", _("API catalogue"), "book"),
        ],
    ),
    Section(
        "organisation",
        _("Organisation"),
        "member",
        [
            Entry("accounts:members", _("Members"), "users", per_organisation=True),
            Entry("accounts:tokens", _("API tokens"), "key", per_organisation=True),
            Entry(
                "accounts:audit",
                _("Audit"),
                "history",
                per_organisation=True,
                roles=("administrator", "publisher", "product_owner"),
            ),
        ],
    ),
    Section(
        "ops",
        _("Operations"),
        "operator",
        [
            Entry("proxy:overview", _("Health"), "heartbeat"),
            Entry("proxy:nodes", _("Gateway nodes"), "server"),
            Entry("proxy:books", _("Reconciliation"), "circle-check"),
            Entry("portal:ops-organisations", _("Organisations"), "users"),
            Entry("portal:ops-people", _("People"), "user"),
        ],
    ),
)
PUBLIC: Final = (
    Entry("portal:catalogue", _("APIs"), "box"),
    Entry("portal:docs", _("Docs"), "book"),
    Entry("portal:start", _("First call"), "rocket"),
)
ACCOUNT: Final = (
    Entry("accounts:account", _("Account"), "user"),
    Entry("account_change_password", _("Password"), "lock"),
    Entry("usersessions_list", _("Sessions"), "device-desktop"),
)


def _memberships(request: HttpRequest) -> list[Any]:
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return []
    if not hasattr(request, "memberships"):
        # A publisher's own organisation comes first: it is the one the console is about.
        found = user.memberships.select_related("organisation").order_by("-organisation__is_publisher", "id")
        request.memberships = list(found)  # type: ignore[attr-defined]
    return cast("list[Any]", request.memberships)  # type: ignore[attr-defined]


def _resolved(entries: Iterable[Entry], path: str, slug: str = "") -> Iterator[Entry]:
    """The entries that lead somewhere, the one being looked at marked."""
    found: list[Entry] = []
    for entry in entries:
        try:
            href = reverse(entry.name, kwargs={"slug": slug} if entry.per_organisation else None)
        except NoReverseMatch:
            continue
        found.append(replace(entry, href=href))
    under = [entry.href for entry in found if path == entry.href or (entry.href != "/" and path.startswith(entry.href))]
    current = max(under, key=len, default=None)
    return (replace(entry, is_current=entry.href == current) for entry in found)


def _audiences(request: HttpRequest) -> set[str]:
    memberships = _memberships(request)
    is_publisher = any(item.organisation.is_publisher and item.role != "developer" for item in memberships)
    found = {
        "publisher": is_publisher,
        "member": bool(memberships),
        "operator": getattr(request.user, "is_operator", False),
    }
    return {name for name, is_one in found.items() if is_one}


def sections(request: HttpRequest) -> list[Section]:
    memberships, audiences = _memberships(request), _audiences(request)
    slug, role = (memberships[0].organisation.slug, memberships[0].role) if memberships else ("", "")
    shown = [section for section in SECTIONS if section.audience in audiences]
    # One address is current, whichever section it stands in: resolve all entries together.
    entries = (e for s in shown for e in s.entries if not e.roles or role in e.roles)
    resolved = {e.name: e for e in _resolved(entries, request.path, slug)}
    kept = (replace(s, entries=[resolved[e.name] for e in s.entries if e.name in resolved]) for s in shown)
    return [section for section in kept if section.entries]


def organisation_name(request: HttpRequest) -> str:
    memberships = _memberships(request)
    return memberships[0].organisation.name if memberships else ""


def home_label(request: HttpRequest) -> str | Promise:
    """What the way from a public page to a person's own work is called; ``home`` leads there."""
    audiences = _audiences(request)
    if "publisher" in audiences:
        return _("Open the console")
    return _("Open operations") if "operator" in audiences else _("My applications")


def public_links(request: HttpRequest) -> list[Entry]:
    return list(_resolved(PUBLIC, request.path))


def account_links(request: HttpRequest) -> list[Entry]:
    return list(_resolved(ACCOUNT, request.path))
