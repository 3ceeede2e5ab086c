"""Rows to ``contracts.snapshot`` documents: the same rows always give the same documents.

What the gateway serves is the deployed revision, never the draft beside it. A configuration that a gateway could not
load is refused here, while the person who made it is still looking.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from django.db.models import Q, QuerySet
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apimgr.accounts.access import is_ownerless
from apimgr.accounts.models import Organisation, OrganisationState
from apimgr.catalog.models import Selection, Version, VersionState
from apimgr.catalog.models.gateway_settings import FIELDS
from apimgr.contracts import bounds, snapshot
from apimgr.contracts.snapshot import (
    ApplicationDocument,
    ChoiceDocument,
    CredentialDocument,
    Document,
    InvalidDocument,
    LimitDocument,
    OperationDocument,
    OrganisationDocument,
    PlanDocument,
    RouteDocument,
    SubscriptionDocument,
    UpstreamDocument,
    VersionDocument,
)
from apimgr.core.errors import DomainError
from apimgr.products.models import ApiLimit, BaseLimit, Plan
from portal.models import Application, Credential, Subscription, SubscriptionState

_BASE_PATH: Final = re.compile(rf"/|(?:/[A-Za-z0-9._~-]+){{1,{bounds.MAX_BASE_SEGMENTS}}}")
_HOST: Final = re.compile(r"(?:[a-z0-9-]+\.)*[a-z0-9-]+")
_PATH_SEGMENTS_THAT_VANISH: Final = {".", ".."}
# A retired version's: calls are answered before they come so far (RFC 6761: the name is nobody's).
_NO_UPSTREAM: Final = UpstreamDocument("http://retired.invalid")

# Where what no gateway would take is put right: not always on the page that somebody has just saved.
_SETTINGS: Final = gettext_lazy("Correct it in the version's gateway settings.")
_ADDRESS: Final = gettext_lazy("Correct where callers find the version, in its gateway settings.")
_SELECTION: Final = gettext_lazy("Correct how callers tell versions apart, in the API's settings.")
_OF_API: Final = gettext_lazy("Correct the limits of the API, which hold for all callers together.")
_OF_PLAN: Final = gettext_lazy("Correct the limits of the plan.")
_DEFINITION: Final = gettext_lazy("Correct the version's definition and import it again.")
_ANEW: Final = gettext_lazy("Publish the version anew.")


@dataclass(frozen=True, slots=True)
class Changes:
    """What the log is to say from now on."""

    documents: tuple[Document, ...] = ()
    tombstones: tuple[tuple[str, str], ...] = ()


def version_changes(version: Version) -> Changes:
    """A version's document and route, which may be shared. A retired one keeps both: its callers are told 410, not 404.

    ``tombstones`` are addresses it was found at before; they may be another version's by now.
    """
    if version.deployed_revision is None:
        return Changes(tombstones=(("version", str(version.pk)),))
    document = version_document(version)
    route = route_document(version)
    revisions = version.revisions.exclude(pk=version.deployed_revision.pk)
    former = {_route_key(given) for given in revisions.values_list("configuration__route", flat=True)}
    former |= {str(selection) for selection in version.api.selections.all()}
    former.add(_route_key(_configuration(version)["route"]))  # not in force while the API's versions share an address
    return Changes(
        (_loadable(document), _loadable(route)), tuple(("route", key) for key in sorted(former - {route.key}))
    )


def restated(version: Version, told: VersionDocument | None) -> Changes:
    """What has become of a version that could be published no more, since the gateway has grown stricter.

    Its state, products and limits are those of now; the rest is as gateways were ``told``, and its address is left
    alone. A version they know nothing of that can be read is not spoken of: they refuse its calls.
    """
    if version.state == VersionState.RETIRED:
        return Changes((_loadable(version_document(version)),))
    limits = _api_limits(version)
    if problem := bounds.problem_of_limits(limits):
        raise _unloadable(problem, _OF_API)
    if told is None:
        return Changes()
    now = {"state": version.state, "limits": limits, **_membership(version)}
    return Changes((replace(told, **now),))


def changes_of(versions: Iterable[Version]) -> Changes:
    """Several versions' changes as one. Raises for one that no gateway would take."""
    return together(version_changes(version) for version in versions)


def together(each: Iterable[Changes]) -> Changes:
    each = list(each)
    return Changes(
        tuple(document for changes in each for document in changes.documents),
        tuple(entry for changes in each for entry in changes.tombstones),
    )


def version_document(version: Version) -> VersionDocument:
    """A retired one says no more than that it is: whatever it was made of, it can always be told."""
    if version.state == VersionState.RETIRED:
        return VersionDocument(base_path=_base_path(version), upstream=_NO_UPSTREAM, **_identity(version))
    configuration = _configuration(version)
    return VersionDocument(
        base_path=_base_path(version),
        upstream=_upstream(configuration["upstream"]),
        operations=tuple(OperationDocument(*operation) for operation in configuration["operations"]),
        limits=_api_limits(version),
        **_identity(version),
        **_membership(version),
        **_settings(configuration.get("gateway", {})),
    )


def _identity(version: Version) -> dict[str, Any]:
    return {
        "id": version.pk,
        "api_id": version.api_id,
        "organisation_id": version.api.organisation_id,
        "name": version.name,
        "state": version.state,  # _loadable refuses any that is unknown
    }


def _membership(version: Version) -> dict[str, Any]:
    """What changes about a version while its revision goes on being served."""
    return {
        "product_ids": tuple(sorted(version.products.values_list("pk", flat=True))),
        "deprecated_at": _seconds(version.deprecated_at),
        "sunset_at": _seconds(version.sunset_at),
    }


def _base_path(version: Version) -> str:
    assert version.deployed_revision is not None, "only what is deployed is compiled"
    if version.api.selection is not None:
        return version.api.selection.base_path
    route: dict[str, str] = version.deployed_revision.configuration.get("route", {})
    return route.get("base_path", "/")


def route_document(version: Version) -> RouteDocument:
    """The version's own address, or the one that it shares with the API's other versions."""
    if (selection := version.api.selection) is not None:
        return _shared_route(selection)
    route = _configuration(version)["route"]
    host, base_path = _address(route.get("host", ""), route["base_path"], _ADDRESS)
    return RouteDocument(host=host, base_path=base_path, version_id=version.pk)


def _shared_route(selection: Selection) -> RouteDocument:
    host, base_path = _address(selection.host, selection.base_path, _SELECTION)
    deployed = Version.objects.filter(api=selection.api_id).exclude(deployed_revision=None).order_by("pk")
    choices = tuple(ChoiceDocument(version.value, version.pk) for version in deployed)
    default = selection.default_version_id or 0
    return RouteDocument(
        host=host,
        base_path=base_path,
        version_id=default if default in {choice.version_id for choice in choices} else 0,
        select_by=selection.select_by,  # type: ignore[arg-type]  # _loadable refuses any other
        select_name=selection.name,
        choices=choices,
    )


def _address(host: str, base_path: str, place: Promise) -> tuple[str, str]:
    if host and not _HOST.fullmatch(host):
        raise _refused(_("The public host “%(host)s” is not a host name in lower case.") % {"host": host}, place)
    if not _BASE_PATH.fullmatch(base_path) or _PATH_SEGMENTS_THAT_VANISH & set(base_path.split("/")):
        raise _refused(_("The base path “%(path)s” is not one the gateway can serve.") % {"path": base_path}, place)
    return host, base_path


def plan_document(plan: Plan) -> PlanDocument:
    limits = plan.limits.order_by("kind", "period", "pk")
    document = PlanDocument(
        id=plan.pk,
        name=plan.name,
        limits=tuple(replace(_limit(row), id=row.counted_by) for row in limits),
        without_grantor=plan.without_grantor,  # type: ignore[arg-type]
        counts_failures=plan.counts_failures,
    )
    return cast("PlanDocument", _loadable(document))


def _api_limits(version: Version) -> tuple[LimitDocument, ...]:
    """Those of its API for all calls, and for its own operations; other versions' operations are not its business."""
    mine = ApiLimit.objects.filter(Q(operation=None) | Q(operation__version=version), api=version.api_id)
    return tuple(_limit(row) for row in mine.order_by("kind", "period", "pk"))


def _limit(row: BaseLimit) -> LimitDocument:
    """An operation that is not served keeps its id here: no call has it, so the limit holds nobody back."""
    return LimitDocument(
        id=row.pk,
        kind=row.kind,  # type: ignore[arg-type]
        amount=row.amount,
        period=row.period,  # type: ignore[arg-type]
        api_id=row.narrowed_api_id or 0,
        operation_id=row.operation_id or 0,
    )


def application_document(application: Application) -> ApplicationDocument:
    """An application with the subscriptions that count: asked-for, cancelled and rejected ones are not there."""
    counting = application.subscriptions.filter(state__in=[SubscriptionState.ACTIVE, SubscriptionState.SUSPENDED])
    return ApplicationDocument(
        id=application.pk,
        organisation_id=application.organisation_id,
        name=application.name,
        state=application.state,  # type: ignore[arg-type]
        subscriptions=tuple(_subscription(row) for row in sorted(counting.all(), key=lambda row: row.pk)),
    )


def _subscription(row: Subscription) -> SubscriptionDocument:
    return SubscriptionDocument(
        id=row.pk,
        product_id=row.product_id,
        plan_id=row.plan_id,
        state=row.state,  # type: ignore[arg-type]
        billing_anchor=_midnight(row.billing_from),
        counts_as=row.counts_as_id or 0,
    )


def credential_document(credential: Credential) -> CredentialDocument:
    return CredentialDocument(
        id=credential.pk,
        application_id=credential.application_id,
        digest=bytes(credential.digest).hex(),
        state=credential.state,  # type: ignore[arg-type]
        expires_at=_seconds(credential.expires_at),
        test=credential.is_test,
    )


def credential_documents(credential: Credential) -> tuple[CredentialDocument, ...]:
    """One document per secret: that of today, and the one it was rolled over from, until that ends."""
    present = credential_document(credential)
    if credential.former_digest is None:
        return (present,)
    ends = _seconds(credential.former_until)
    former = replace(
        present,
        digest=bytes(credential.former_digest).hex(),
        expires_at=min(ends, present.expires_at) if present.expires_at else ends,
        superseded=True,
    )
    return (present, former)


def ended_secret(credential: Credential, digest: str) -> CredentialDocument:
    """A secret that works no more, so that whoever still uses it is told that it ended, not that it never was."""
    return replace(credential_document(credential), digest=digest, expires_at=1, superseded=True)


def organisation_document(organisation: Organisation) -> OrganisationDocument:
    """Suspended is one that an operator suspended, and one whose owners are all disabled."""
    is_stopped = _stopped().filter(pk=organisation.pk).exists()
    return OrganisationDocument(organisation.pk, "suspended" if is_stopped else "active")


def _stopped() -> QuerySet[Organisation]:
    return Organisation.objects.filter(Q(state=OrganisationState.SUSPENDED) | is_ownerless())


def everything(unfit: Callable[[Version | Plan, DomainError], None] | None = None) -> Iterator[Document]:
    """Every document there should be, one at a time.

    What no gateway would take is given to ``unfit`` and left out, so that all else is told; without it, that raises.
    """
    fit = _Fit(unfit)
    served = Version.objects.exclude(deployed_revision=None).select_related(
        "api__selection", "api__organisation", "deployed_revision"
    )
    shared: set[str] = set()
    for version in served.order_by("pk").iterator():
        selection = version.api.selection
        told = fit.documents(version, version_document)
        yield from told
        if told if selection is None else str(selection) not in shared:
            yield from fit.documents(version, route_document)
        if selection is not None:
            shared.add(str(selection))
    for plan in Plan.objects.select_related("product__organisation").order_by("pk").iterator():
        yield from fit.documents(plan, plan_document)
    for application in Application.objects.order_by("pk").iterator():
        yield application_document(application)
    for credential in Credential.objects.order_by("pk").iterator():
        yield from credential_documents(credential)
    for pk in _stopped().order_by("pk").values_list("pk", flat=True).iterator():
        yield OrganisationDocument(pk, "suspended")


Thing = TypeVar("Thing", Version, Plan)


@dataclass(frozen=True, slots=True)
class _Fit:
    """Compiles what can be compiled, and reports the rest."""

    report: Callable[[Version | Plan, DomainError], None] | None

    def documents(self, thing: Thing, compile_: Callable[[Thing], Document]) -> list[Document]:
        """One, or none."""
        try:
            return [_loadable(compile_(thing))]
        except DomainError as refused:
            if self.report is None:
                raise
            self.report(thing, refused)
            return []


def _configuration(version: Version) -> dict[str, Any]:
    assert version.deployed_revision is not None, "only what is deployed is compiled"
    configuration: dict[str, Any] = version.deployed_revision.configuration
    missing = {"upstream", "route", "operations"} - configuration.keys()
    if missing:
        raise _refused(_("The revision lacks its %(parts)s.") % {"parts": ", ".join(sorted(missing))}, _ANEW)
    return configuration


def _route_key(route: dict[str, str]) -> str:
    return f"{route.get('host', '')}{route['base_path']}"


def _settings(given: dict[str, Any]) -> dict[str, Any]:
    """Gateway settings as a document has them. Revisions of earlier days have none: the document's defaults hold."""
    _refuse_unknown(given, FIELDS)
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _upstream(given: dict[str, Any]) -> UpstreamDocument:
    _refuse_unknown(given, UpstreamDocument.__dataclass_fields__)
    return UpstreamDocument(**{**given, "url": _upstream_url(given["url"])})


def _refuse_unknown(given: dict[str, Any], known: Iterable[str]) -> None:
    """A revision may be older than the gateway: what it asks for and no gateway does any more is not left out."""
    for name in sorted(given.keys() - set(known)):
        raise _refused(_("The gateway knows no setting “%(name)s”.") % {"name": name}, _SETTINGS)


def _upstream_url(url: str) -> str:
    if not bounds.is_upstream(url):
        raise _refused(_("The upstream “%(url)s” is not an http or https address.") % {"url": url}, _SETTINGS)
    return url.rstrip("/")


def _loadable(document: Document) -> Document:
    """The document, if a gateway would take it."""
    if problem := _problem_of(document):
        raise _unloadable(problem, _place_of_problem(document))
    return document


def _unloadable(problem: str, place: Promise) -> DomainError:
    return _refused(_("The gateway would not load this configuration: %(why)s.") % {"why": problem}, place)


def _problem_of(document: Document) -> str:
    raw = snapshot.dump(document)
    try:
        snapshot.load(raw)
    except InvalidDocument as error:
        return str(error)
    return bounds.problem_of(document) or bounds.problem_of_size(raw)


def _place_of_problem(document: Document) -> Promise:
    if isinstance(document, PlanDocument):
        return _OF_PLAN
    if isinstance(document, RouteDocument):
        return _SELECTION if document.select_by else _ADDRESS
    if isinstance(document, VersionDocument):
        if not _problem_of(replace(document, limits=())):
            return _OF_API
        if not _problem_of(replace(document, operations=())):
            return _DEFINITION
    return _SETTINGS


def _refused(message: str, place: Promise) -> DomainError:
    return DomainError(message, code="bad_gateway_configuration", fix=str(place))


def _midnight(moment: datetime | None) -> int:
    """When the UTC day of ``moment`` began."""
    return _seconds(moment and moment.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0))


def _seconds(moment: datetime | None) -> int:
    return int(moment.timestamp()) if moment else 0
