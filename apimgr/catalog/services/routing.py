"""Where a version is found (route) and where its calls go (upstream)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from django.db import connection, transaction
from django.db.models import F, Q
from django.db.models.fields.json import KT
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, organisations_for, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.models import API, Revision, Route, Selection, Upstream, Version, VersionState, Visibility
from apimgr.catalog.services.drafts import editable
from apimgr.contracts.bounds import MAX_BASE_SEGMENTS
from apimgr.core import egress
from apimgr.core.errors import Conflict, DomainError
from apimgr.core.validation import store

_HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*")
_RESOLVE_S = 3.0
_LIVE = (VersionState.PUBLISHED, VersionState.DEPRECATED)
_ROUTE_LOCK = 0x726F757465  # "route": two publishers asking for overlapping paths are answered one after another


@dataclass(frozen=True, slots=True)
class UpstreamTest:
    """What a connection test found. Any ``status`` means the upstream answered; ``error`` says why it did not."""

    url: str
    status: int | None
    latency_ms: int | None
    error: str

    @property
    def is_reachable(self) -> bool:
        return self.status is not None


def set_upstream(
    *,
    actor: User | None,
    version: Version,
    url: str,
    connect_timeout_ms: int = 5_000,
    read_timeout_ms: int = 30_000,
    max_connections: int = 256,
    preserve_host: bool = False,
) -> Upstream:
    """``url`` is ``http(s)://host[:port][/prefix]``, public unless an operator allows it (``APIMGR_EGRESS_ALLOW``)."""
    require(actor, Permission.API_EDIT, version.api.organisation)
    url = normalise_upstream(url)
    check_public(url)  # asks the name server: before the transaction, not inside
    with transaction.atomic():
        version = editable(version)
        upstream = Upstream.objects.filter(version=version).first() or Upstream(version=version)
        upstream.url = url
        upstream.connect_timeout_ms = connect_timeout_ms
        upstream.read_timeout_ms = read_timeout_ms
        upstream.max_connections = max_connections
        upstream.preserve_host = preserve_host
        store(upstream)
        audit.record(
            actor=actor,
            action="catalog.version.upstream_set",
            target=version,
            organisation_id=version.api.organisation_id,
            url=url,
        )
    return upstream


def normalise_upstream(url: str) -> str:
    """Check the spelling of an upstream's address; a trailing slash goes. Resolves nothing."""
    url = url.strip().rstrip("/")
    egress.check_url(url)
    if "?" in url or "#" in url:
        message = _("An upstream has no query and no fragment.")
        raise DomainError(message, code="url_not_allowed", fields={"url": message})
    return url


def check_public(url: str) -> None:
    """Resolve the host of ``url`` and refuse it (``EgressRefused``) where ``core.egress`` would not call it."""
    # A name that is not known yet is no reason to refuse: a test says so, a draft may be ahead of its upstream.
    with suppress(egress.EgressFailed):
        egress.check_target(egress.check_url(url), timeout=_RESOLVE_S)


def test_upstream(*, actor: User | None, version: Version, url: str = "") -> UpstreamTest:  # noqa: PT028
    """Call the version's upstream, or ``url`` in its place, and say what came back. Changes nothing, never raises
    for an upstream that does not answer."""
    require(actor, Permission.API_EDIT, version.api.organisation)
    upstream = Upstream.objects.filter(version=version).first()
    url = url.strip() or (upstream.url if upstream else "")
    if not url:
        return UpstreamTest("", None, None, _("There is no upstream to test yet."))
    try:
        answer = egress.probe(url)
    except DomainError as error:
        return UpstreamTest(url, None, None, error.message)
    return UpstreamTest(url, answer.status, answer.latency_ms, "")


test_upstream.__test__ = False  # type: ignore[attr-defined]  # pytest must not take it for one


@transaction.atomic
def set_route(*, actor: User | None, version: Version, base_path: str, host: str = "") -> Route:
    """Give the version its public address. Raises ``Conflict`` when it is taken, or lies inside or around an address
    of another organisation; the API in the way is named to those who may know it."""
    require(actor, Permission.API_EDIT, version.api.organisation)
    version = editable(version)
    host, base_path = normalise_route(host, base_path)
    lock_routes()
    if other := route_conflict(version, host, base_path):
        raise route_taken(actor, other, host + base_path)
    route = Route.objects.filter(version=version).first() or Route(version=version)
    route.host, route.base_path = host, base_path
    store(route)
    audit.record(
        actor=actor,
        action="catalog.version.route_set",
        target=version,
        organisation_id=version.api.organisation_id,
        route=str(route),
    )
    return route


def lock_routes() -> None:
    """Hold every address as it is to the end of the transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_ROUTE_LOCK])


def normalise_route(host: str, base_path: str) -> tuple[str, str]:
    host, base_path = host.strip().lower(), "/" + base_path.strip().strip("/")
    if host and not _HOST.fullmatch(host):
        message = _("This is not a host name. Leave it empty to serve every host.")
        raise DomainError(message, code="route_invalid", fields={"host": message})
    segments = base_path[1:].split("/")
    if any(segment in {"", ".", ".."} for segment in segments):
        message = _("The path needs segments between its slashes, and no dots alone.")
        raise DomainError(message, code="route_invalid", fields={"base_path": message})
    if len(segments) > MAX_BASE_SEGMENTS:
        message = _("The path has at most %(most)d segments.") % {"most": MAX_BASE_SEGMENTS}
        raise DomainError(message, code="route_invalid", fields={"base_path": message})
    return host, base_path


def route_conflict(version: Version, host: str, base_path: str) -> Version | API | None:
    """What is in the way of a version at this address: it has the same one, drafted or deployed, or belongs to another
    organisation and nests with it. A shared address of its own API is not: the two are never served at once."""
    near = _routes_near(host, base_path, Q(version=version), version.api.organisation_id)
    return _in_the_way(near, version.api, host, base_path)


def address_conflict(api: API, host: str, base_path: str) -> Version | API | None:
    """As ``route_conflict``, for the address that versions of ``api`` share."""
    near = _routes_near(host, base_path, Q(version__api=api), api.organisation_id)
    return _in_the_way(near, api, host, base_path)


_Address = tuple[Version | API, str, str]


def _in_the_way(routes: Iterable[_Address], api: API, host: str, base_path: str) -> Version | API | None:
    for other, taken_host, taken_path in chain(routes, _shared_near(api, host, base_path)):
        if (taken_host, taken_path) == (host, base_path):
            return other
        is_own = other.organisation_id if isinstance(other, API) else other.api.organisation_id
        if is_own != api.organisation_id and _overlap(taken_path, base_path):
            return other
    return None


def _overlap(one: str, two: str) -> bool:
    return f"{one}/".startswith(f"{two}/") or f"{two}/".startswith(f"{one}/")


def _near(base_path: str) -> Q:
    first = "/" + base_path.split("/")[1]
    return Q(base_path=first) | Q(base_path__startswith=f"{first}/")


def _meets(host: str, rows: Iterable[_Address]) -> Iterator[_Address]:
    return (row for row in rows if not host or not row[1] or row[1] == host)


def _routes_near(host: str, base_path: str, but: Q, organisation_id: int) -> Iterator[_Address]:
    """Every route with the same first segment on a host that meets this one: drafted ones, then deployed ones.

    A live version is served where its deployed revision says, whatever its draft has become. Where it was served
    before, its callers may still call: its own organisation may use that address again, nobody else.
    """
    near = _near(base_path)
    drafted = Route.objects.exclude(but).filter(near).select_related("version__api__organisation")
    deployed = (
        Revision.objects.exclude(but)
        .annotate(host=KT("configuration__route__host"), base_path=KT("configuration__route__base_path"))
        .filter(near)
        .exclude(~Q(pk=F("version__deployed_revision")), version__api__organisation=organisation_id)
        .select_related("version__api__organisation")
        .defer("configuration")
    )
    rows: list[_Address] = [(row.version, row.host, row.base_path) for row in drafted]
    rows += [(row.version, row.host, row.base_path) for row in deployed]
    return _meets(host, rows)


def _shared_near(api: API, host: str, base_path: str) -> Iterator[_Address]:
    """The same of addresses that versions of other APIs share, or once did."""
    found = (
        Selection.objects.exclude(api=api)
        .filter(_near(base_path))
        .exclude(in_force_for=None, api__organisation=api.organisation_id)
        .select_related("api__organisation")
    )
    return _meets(host, [(row.api, row.host, row.base_path) for row in found])


def route_taken(actor: User | None, other: Version | API, address: str) -> Conflict:
    if _may_know(actor, other):
        message = _("%(address)s meets the address of %(other)s.") % {"address": address, "other": other}
    else:
        message = _("%(address)s is taken.") % {"address": address}
    return Conflict(message, code="route_taken", fix=_("Choose another path."), fields={"base_path": message})


def _may_know(actor: User | None, other: Version | API) -> bool:
    api = other if isinstance(other, API) else other.api
    is_seen = other.is_live if isinstance(other, Version) else Version.objects.filter(api=api, state__in=_LIVE).exists()
    if actor is None or (is_seen and api.visibility == Visibility.PUBLIC):
        return True
    return organisations_for(actor, Permission.API_VIEW).filter(pk=api.organisation_id).exists()
