"""What keeps something from going live: asked of a draft, and of an earlier revision that is to be served again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from django.utils.translation import gettext as _

from apimgr.catalog.models import GatewaySettings, Revision, Specification, Version
from apimgr.catalog.services.gateway import gateway_settings_of
from apimgr.catalog.services.routing import check_public, lock_routes, route_conflict
from apimgr.core import egress
from apimgr.core.errors import DomainError


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is to go live in a version's place. ``base_path`` and ``upstream_url`` are empty where there is none yet."""

    version: Version
    specification: Specification | None
    has_operations: bool
    host: str
    base_path: str
    upstream_url: str
    authentication: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps a version from being published. ``code`` is stable; ``fix`` says what to do."""

    code: str
    message: str
    fix: str


Check = Callable[[Candidate], Iterator[Problem]]
_checks: list[Check] = []


def publication_check(check: Check) -> Check:
    """Register a check of an app above: what it yields keeps a version from being published."""
    _checks.append(check)
    return check


def drafted(version: Version) -> Candidate:
    route, upstream = getattr(version, "route", None), getattr(version, "upstream", None)
    return Candidate(
        version=version,
        specification=version.specification,
        has_operations=version.operations.filter(is_current=True).exists(),
        host=route.host if route else "",
        base_path=route.base_path if route else "",
        upstream_url=upstream.url if upstream else "",
        authentication=gateway_settings_of(version).authentication,
    )


def kept(revision: Revision) -> Candidate:
    configuration = revision.configuration
    route, usual = configuration["route"], GatewaySettings().authentication
    return Candidate(
        version=revision.version,
        specification=revision.specification,
        has_operations=bool(configuration["operations"]),
        host=route.get("host", ""),
        base_path=route["base_path"],
        upstream_url=configuration["upstream"]["url"],
        authentication=configuration.get("gateway", {}).get("authentication", usual),
    )


def problems_of(candidate: Candidate) -> list[Problem]:
    """Everything in the way, in the order a publisher meets it."""
    return [problem for check in _checks for problem in check(candidate)]


def publication_problems(version: Version) -> list[Problem]:
    """What its draft lacks; empty when it can be published."""
    return problems_of(drafted(version))


def refuse_unfit(candidate: Candidate, code: str, fix: str = "") -> None:
    """Raise ``DomainError`` with what is in the way, at the moment of going live; ``fix`` stands for the problems' own.

    Every address stays as it is until the transaction ends. Raises ``EgressRefused`` for an upstream whose name leads
    where gateways do not call.
    """
    # A document may have proposed the upstream; an allow-list may have shrunk. Asked before all publishers wait.
    if candidate.upstream_url:
        check_public(candidate.upstream_url)
    lock_routes()
    if problems := problems_of(candidate):
        raise DomainError(
            " ".join(problem.message for problem in problems),
            code=code,
            fix=fix or " ".join(problem.fix for problem in problems),
            fields={problem.code: problem.message for problem in problems},
        )


@publication_check
def _definition(candidate: Candidate) -> Iterator[Problem]:
    if candidate.specification is None:
        yield Problem("specification", _("There is no OpenAPI document yet."), _("Import one."))
    elif any(finding["severity"] == "error" for finding in candidate.specification.findings):
        yield Problem("specification", _("The OpenAPI document has errors."), _("Correct it and import it again."))
    elif not candidate.has_operations:
        yield Problem("operations", _("The version has no operations."), _("Import a document with operations."))


@publication_check
def _addresses(candidate: Candidate) -> Iterator[Problem]:
    host, base_path = candidate.host, candidate.base_path
    if not base_path:
        yield Problem("route", _("The version has no public address."), _("Choose its route."))
    elif route_conflict(candidate.version, host, base_path):
        message = _("Another API has the address %(route)s.") % {"route": host + base_path}
        yield Problem("route", message, _("Choose another."))
    if not candidate.upstream_url:
        yield Problem("upstream", _("The version has no upstream: calls would lead nowhere."), _("Give its address."))
        return
    try:
        egress.check_url(candidate.upstream_url)
    except egress.EgressRefused as error:
        yield Problem("upstream", error.message, error.fix or _("Give another address."))
