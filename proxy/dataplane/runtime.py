"""Documents compiled into what a request needs, looked up lazily and dropped when they change.

The replica says with one number per kind (its epoch) whether anything of that kind changed. ``Runtime.refresh`` is
called for every request, so that a revoked key fails on an open connection too; what was compiled from a document that
did not change is kept.
"""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

from apimgr.contracts.snapshot import (
    KINDS,
    ApplicationDocument,
    CredentialDocument,
    Document,
    OrganisationDocument,
    PlanDocument,
    RouteDocument,
    SubscriptionDocument,
    VersionDocument,
    may_switch_to,
)
from proxy.dataplane.limits.meter import Meter, meter_of_anybody, meter_of_caller
from proxy.dataplane.limits.table import Table
from proxy.dataplane.policies.select import Fork
from proxy.dataplane.routing import OperationTrie

if TYPE_CHECKING:
    from proxy.dataplane.upstreams.pool import Pool

_KINDS: Final = tuple(KINDS)
_MAX_ROUTES: Final = 20_000
_MAX_CALLERS: Final = 50_000  # about 0.6 KiB each
_MAX_VERSIONS: Final = 10_000
_MAX_PLANS: Final = 10_000
_MAX_BASE: Final = 512  # no longer base path fits into a key of the replica
_NOWHERE: Final = None, None, True


class Replica(Protocol):
    """The node's copy of the configuration, as a worker sees it."""

    @property
    def ready(self) -> bool: ...

    def fingerprint(self) -> bytes: ...

    def get(self, kind: str, key: str) -> Document | None: ...

    def get_other(self, kind: str, key: str, known: bytes) -> tuple[Document | None, bytes]: ...

    def holds_under(self, kind: str, prefix: str) -> bool: ...

    def epoch(self, kind: str) -> int: ...

    @property
    def in_touch_at(self) -> int: ...


class Target:
    """An upstream's address and what a request to it starts with."""

    __slots__ = ("_own_line_end", "document", "host", "line_end", "pool", "port", "prefix", "tls")

    def __init__(self, version: VersionDocument) -> None:
        self.document = version.upstream
        self.pool: Pool | None = None  # found at the first call
        url = urlsplit(version.upstream.url)
        self.tls = url.scheme == "https"
        self.host = url.hostname or ""
        self.port = url.port or (443 if self.tls else 80)
        self.prefix = b" " + url.path.rstrip("/").encode()
        self._own_line_end = _line_end(url.netloc.rpartition("@")[2])
        # The rest of the request line and the Host field; empty where the caller's own Host is passed on.
        self.line_end = b"" if self.document.preserve_host else self._own_line_end

    def line_end_for(self, host: str) -> bytes:
        """A caller of HTTP/1.0 may have named no host: then the upstream's own serves here, too."""
        return _line_end(host) if host else self._own_line_end


def _line_end(host: str) -> bytes:
    return f" HTTP/1.1\r\nHost: {host}\r\n".encode()


class Version:
    """A version of an API, ready to serve."""

    __slots__ = (
        "api_id", "digest", "document", "extra_lines", "id", "is_keyed", "is_retired", "mark", "meter", "products",
        "target", "trie", "upgrades",
    )  # fmt: skip

    def __init__(self, document: VersionDocument, digest: bytes = b"") -> None:
        self.document = document
        self.digest = digest  # of ``document``, as the replica has it
        self.trie = OperationTrie(document.operations)
        self.target = Target(document)
        self.products = frozenset(document.product_ids)
        self.extra_lines = _lifecycle_lines(document)
        self.meter: Meter | None = None  # of calls without a key
        self.id = document.id
        self.mark = b"%d" % document.id
        self.api_id = document.api_id
        self.is_retired = document.state == "retired"
        self.upgrades = frozenset(name.encode() for name in document.upgrades if may_switch_to(name))
        self.is_keyed = document.authentication == "key"


class Caller:
    """Who calls: filled in as far as it is known, so that a refusal can be put down to somebody.

    States instead of documents: of those who call again there are tens of thousands.
    """

    __slots__ = (
        "application_id", "application_state", "credential_id", "credential_state", "expires_at", "flags", "meter",
        "plan", "plan_id", "subscription_state",
    )  # fmt: skip

    def __init__(self) -> None:
        self.credential_state = self.application_state = self.subscription_state = ""  # empty: not known
        self.plan: PlanDocument | None = None
        self.meter: Meter | None = None
        self.expires_at = 0
        self.flags = 0  # of contracts.usage
        # For the record of the call: 0 for what is not known.
        self.application_id = self.credential_id = self.plan_id = 0


NOBODY: Final = Caller()  # what a record says where no caller is known

# A version, or several to choose from, and the length of the base path they are published at.
Found = tuple[Version | Fork, int]
# What a path leads to, by the routes of this very host and by those of every host; whether longer ones may lead on.
Place = tuple[Found | None, Found | None, bool]


class Runtime:
    """One worker's view of the configuration. Every cache is bounded; the replica holds the whole."""

    def __init__(self, replica: Replica, limits: Table) -> None:
        self.replica = replica
        self.limits = limits
        self._fingerprint = b""
        self._ready = False
        self.is_stale = False
        self._seen: tuple[int, ...] = ()
        self._versions: dict[int, Version] = {}
        self._stale_versions: dict[int, Version] = {}
        self._plans: dict[int, PlanDocument] = {}
        self._routes: dict[str, dict[bytes, Place]] = {}
        self._routes_held = 0
        # By digest of a key and mark of a version. In two generations: when there is no more room, who called lately is
        # kept.
        self.callers: dict[bytes, Caller] = {}
        self._older_callers: dict[bytes, Caller] = {}

    def refresh(self) -> bool:
        """Forget what changed since the last call. False if there is no configuration to serve by."""
        fingerprint = self.replica.fingerprint()
        if fingerprint != self._fingerprint:
            self._ready = self.replica.ready
            self._forget(tuple(self.replica.epoch(kind) for kind in _KINDS))
            self._fingerprint = fingerprint
        return self._ready

    def check_age(self, now: float, max_staleness: int) -> None:
        """Note whether the configuration is older than ``max_staleness`` seconds; 0 lets it be of any age."""
        self.is_stale = 0 < max_staleness < now - self.replica.in_touch_at

    def _forget(self, seen: tuple[int, ...]) -> None:
        moved = {
            kind for kind, was, now in zip(_KINDS, self._seen or (-1,) * len(_KINDS), seen, strict=True) if was != now
        }
        self._seen = seen
        if "version" in moved:
            self._stale_versions = self._versions
            self._versions = {}
        if "plan" in moved:
            self._plans = {}
        if moved & {"route", "version"}:
            self._routes, self._routes_held = {}, 0
        if moved - {"route"}:
            self.callers, self._older_callers = {}, {}

    def version_at(self, host: str, path: bytes) -> Found | None:
        """What is published at the longest base path of ``path``, and that base path's length.

        A route for this very host comes before any route for every host.
        """
        known = self._routes.get(host)
        if known is None:
            known = self._routes[host] = {}
        place = known.get(b"/") or self._remember_place(known, host, b"/", _NOWHERE)
        base = b""
        # No further than base paths go: what follows, ids above all, is different in each call.
        for segment in path[1:].split(b"/"):
            if not place[2] or not segment or len(base) > _MAX_BASE:
                break
            base += b"/" + segment
            place = known.get(base) or self._remember_place(known, host, base, place)
        return place[0] or place[1]

    def _remember_place(self, known: dict[bytes, Place], host: str, base: bytes, above: Place) -> Place:
        """Where ``base`` leads; else where the path one segment shorter does."""
        if self._routes_held >= _MAX_ROUTES:
            known.clear()
            self._routes, self._routes_held = {host: known}, 0
        self._routes_held += 1
        text = base.decode("ascii")
        own, shared = self._routed(host + text) if host else None, self._routed(text)
        under = text.removesuffix("/") + "/"
        leads_on = any(self.replica.holds_under("route", start + under) for start in {host, ""})
        place = known[base] = (
            (own, len(base)) if own else above[0],
            (shared, len(base)) if shared else above[1],
            leads_on,
        )
        return place

    def _routed(self, key: str) -> Version | Fork | None:
        route = self.replica.get("route", key)
        if not isinstance(route, RouteDocument):
            return None
        if not route.select_by:
            return self.version(route.version_id)
        versions = (self.version(choice.version_id) for choice in route.choices)
        api_id = next((version.api_id for version in versions if version is not None), 0)
        return Fork(route, api_id, self._is_retired)

    def _is_retired(self, version_id: int) -> bool:
        version = self.version(version_id)
        return version is not None and version.is_retired

    def version(self, version_id: int) -> Version | None:
        """A version, compiled once per change of its document."""
        version = self._versions.get(version_id)
        if version is None:
            # Whenever anybody's version changes, all are looked up again: only the one that did is to cost anything.
            stale = self._stale_versions.pop(version_id, None)
            known = stale.digest if stale is not None else b""
            document, digest = self.replica.get_other("version", str(version_id), known)
            if isinstance(document, VersionDocument):
                version = Version(document, digest)
            elif stale is not None and digest and digest == known:
                version = stale
            else:
                return None
            version.meter = meter_of_anybody(self.limits, version.document)
            if len(self._versions) >= _MAX_VERSIONS:
                self._versions = {}
            self._versions[version_id] = version
        return version

    def recall_caller(self, key: bytes) -> Caller | None:
        """One who is not among ``callers`` but has called before, as far as that is remembered."""
        known = self._older_callers.pop(key, None)
        if known is not None:
            self.remember_caller(key, known)
        return known

    def remember_caller(self, key: bytes, caller: Caller) -> None:
        if len(self.callers) >= _MAX_CALLERS // 2:
            self.callers, self._older_callers = {}, self.callers
        self.callers[key] = caller

    def new_caller(self) -> Caller:
        return Caller()

    def credential(self, digest: str) -> CredentialDocument | None:
        found = self.replica.get("credential", digest)
        return found if isinstance(found, CredentialDocument) else None

    def application(self, application_id: int) -> ApplicationDocument | None:
        found = self.replica.get("application", str(application_id))
        return found if isinstance(found, ApplicationDocument) else None

    def is_suspended(self, organisation_id: int) -> bool:
        """Whether a developers' organisation is suspended; one without a document is not."""
        found = self.replica.get("organisation", str(organisation_id))
        return isinstance(found, OrganisationDocument) and found.state != "active"

    def plan(self, plan_id: int) -> PlanDocument | None:
        """A plan, the same object for all who are on it."""
        plan = self._plans.get(plan_id)
        if plan is None:
            found = self.replica.get("plan", str(plan_id))
            if not isinstance(found, PlanDocument):
                return None
            if len(self._plans) >= _MAX_PLANS:
                self._plans = {}
            plan = self._plans[plan_id] = found
        return plan

    def meter(self, plan: PlanDocument, subscription: SubscriptionDocument, version: Version) -> Meter | None:
        """The limits of a subscriber's calls to ``version``. What was spent is in the table, not in the meter."""
        return meter_of_caller(self.limits, plan, subscription, version.document)


def _lifecycle_lines(document: VersionDocument) -> bytes:
    """``Deprecation`` (RFC 9745) and ``Sunset`` (RFC 8594) for a version that is on its way out."""
    lines = ""
    if document.state == "deprecated":
        if document.deprecated_at:
            lines += f"Deprecation: @{document.deprecated_at}\r\n"
        if document.sunset_at:
            lines += f"Sunset: {formatdate(document.sunset_at, usegmt=True)}\r\n"
    return lines.encode("ascii")
