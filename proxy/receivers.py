"""What the gateway must hear of: each fact is compiled and logged in the transaction that made it true.

Rows are read within what is given to ``append_compiled``, and so anew if others changed some of them meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from django.db.models import QuerySet

from apimgr.accounts.events import (
    MemberAdded,
    MemberRemoved,
    OrganisationCreated,
    OrganisationStateChanged,
    RoleChanged,
    UserStateChanged,
)
from apimgr.accounts.models import Organisation
from apimgr.catalog.events import SelectionChanged, VersionDeprecated, VersionPublished, VersionRestored, VersionRetired
from apimgr.catalog.models import Version
from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import Document, InvalidDocument, RouteDocument, VersionDocument
from apimgr.core.errors import DomainError
from apimgr.core.events import receives
from apimgr.products.events import ApiLimitsChanged, PlanChanged, ProductVersionsChanged
from apimgr.products.models import Plan, Product
from portal.events import (
    ApplicationChanged,
    CredentialChanged,
    CredentialIssued,
    CredentialRevoked,
    SubscriptionChanged,
)
from portal.models import Application, Credential
from proxy import compiler
from proxy.compiler import Changes
from proxy.models import GatewayChange
from proxy.services import append_compiled

log = logging.getLogger(__name__)

_Compiled = tuple[Iterable[Document], Iterable[tuple[str, str]]]

_SERVED = Version.objects.exclude(deployed_revision=None).select_related("api__selection", "deployed_revision")


@receives(VersionPublished)
def log_publication(event: VersionPublished) -> None:
    _append(_SERVED.filter(pk=event.version_id), compiler.changes_of)


@receives(VersionDeprecated, VersionRestored, VersionRetired)
def log_version(event: VersionDeprecated | VersionRestored | VersionRetired) -> None:
    _log_versions(_SERVED.filter(pk=event.version_id))


@receives(SelectionChanged)
def log_selection(event: SelectionChanged) -> None:
    """The shared address and every version's own in one go: no moment at which a version is found nowhere."""
    _append(_SERVED.filter(api=event.api_id), compiler.changes_of)


@receives(ProductVersionsChanged)
def log_product_versions(event: ProductVersionsChanged) -> None:
    """The fact does not say which versions left, so every version of the publisher is looked at; few have changed."""
    organisation = Product.objects.values("organisation").filter(pk=event.product_id)
    _log_versions(_SERVED.filter(api__organisation__in=organisation))


@receives(ApiLimitsChanged)
def log_api_limits(event: ApiLimitsChanged) -> None:
    """Limits for all callers of an API stand in each of its versions' documents."""
    _log_versions(_SERVED.filter(api=event.api_id))


@receives(PlanChanged)
def log_plan(event: PlanChanged) -> None:
    def compiled() -> _Compiled:
        plan = Plan.objects.filter(pk=event.plan_id).first()
        return ([], [("plan", str(event.plan_id))]) if plan is None else ([compiler.plan_document(plan)], [])

    append_compiled(compiled)


@receives(ApplicationChanged, SubscriptionChanged)
def log_application(event: ApplicationChanged | SubscriptionChanged) -> None:
    def compiled() -> _Compiled:
        application = Application.objects.filter(pk=event.application_id).first()
        if application is None:
            return [], [("application", str(event.application_id))]
        return [compiler.application_document(application)], []

    append_compiled(compiled)


@receives(CredentialIssued, CredentialRevoked, CredentialChanged)
def log_credential(event: CredentialIssued | CredentialRevoked | CredentialChanged) -> None:
    def compiled() -> _Compiled:
        credential = Credential.objects.get(pk=event.credential_id)
        documents = list(compiler.credential_documents(credential))
        if isinstance(event, CredentialChanged) and event.ended_digest:
            documents.append(compiler.ended_secret(credential, event.ended_digest))
        return documents, []

    append_compiled(compiled)


@receives(OrganisationStateChanged)
def log_organisation(event: OrganisationStateChanged) -> None:
    def compiled() -> _Compiled:
        return [compiler.organisation_document(Organisation.objects.get(pk=event.organisation_id))], []

    append_compiled(compiled)


@receives(UserStateChanged)
def log_owned(event: UserStateChanged) -> None:
    """With a person an organisation may lose its last owner, or get one back."""
    _log_owned(Organisation.objects.filter(memberships__user=event.user_id))


@receives(OrganisationCreated, MemberAdded, MemberRemoved, RoleChanged)
def log_owner(event: OrganisationCreated | MemberAdded | MemberRemoved | RoleChanged) -> None:
    _log_owned(Organisation.objects.filter(pk=event.organisation_id))


def _log_owned(organisations: QuerySet[Organisation]) -> None:
    """An active one has a document only if it was told of before: nearly none ever is."""

    def compiled() -> _Compiled:
        documents = {document.key: document for document in map(compiler.organisation_document, organisations.all())}
        told = GatewayChange.objects.filter(kind="organisation", key__in=documents).values_list("key", flat=True)
        known = set(told)
        return [item for key, item in documents.items() if item.state == "suspended" or key in known], []

    append_compiled(compiled)


def _log_versions(versions: QuerySet[Version]) -> None:
    """What has changed about versions that go on as they were published.

    One that could not be published any more keeps nobody from retiring it, nor from changing what it is part of.
    """
    _append(versions, lambda found: compiler.together(map(_as_it_is, found)))


def _as_it_is(version: Version) -> Changes:
    try:
        return compiler.version_changes(version)
    except DomainError as refused:
        log.warning("%s goes on as gateways know it: %s", version, refused.message)
        return compiler.restated(version, _told(version))


def _told(version: Version) -> VersionDocument | None:
    """What the log says of a version last, if it can be read."""
    latest = _latest("version", str(version.pk))
    try:
        document = snapshot.load(latest) if latest else None
    except InvalidDocument:
        return None
    return document if isinstance(document, VersionDocument) else None


def _append(versions: QuerySet[Version], compile_: Callable[[list[Version]], Changes]) -> None:
    def compiled() -> _Compiled:
        found = list(versions.all())
        changes = compile_(found)
        taken = {("route", document.key) for document in changes.documents}
        free = [entry for entry in changes.tombstones if entry not in taken and _belongs_to(entry, found)]
        return changes.documents, free

    append_compiled(compiled)


def _belongs_to(entry: tuple[str, str], versions: list[Version]) -> bool:
    """Whether the log's last word on an address is one of these versions': a former address may be another's by now."""
    latest = _latest(*entry)
    route = snapshot.load(latest) if latest else None
    if not isinstance(route, RouteDocument):
        return False
    there = {route.version_id, *(choice.version_id for choice in route.choices)}
    return not there.isdisjoint(version.pk for version in versions)


def _latest(kind: str, key: str) -> str | None:
    """The log's last word; ``None`` for a tombstone, and for what it never spoke of."""
    said = GatewayChange.objects.filter(kind=kind, key=key).order_by("-sequence")
    return said.values_list("document", flat=True).first()
