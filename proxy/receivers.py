"""What the gateway must hear of: each fact is compiled and logged in the transaction that made it true."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from apimgr.accounts.events import (
    MemberAdded,
    MemberRemoved,
    OrganisationStateChanged,
    RoleChanged,
    UserStateChanged,
)
from apimgr.accounts.models import Organisation
from apimgr.catalog.events import SelectionChanged, VersionDeprecated, VersionPublished, VersionRestored, VersionRetired
from apimgr.catalog.models import Version
from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import InvalidDocument, RouteDocument, VersionDocument
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
from proxy.services import append_changes

log = logging.getLogger(__name__)

_SERVED = Version.objects.exclude(deployed_revision=None).select_related("api__selection", "deployed_revision")


@receives(VersionPublished)
def log_publication(event: VersionPublished) -> None:
    versions = [_SERVED.get(pk=event.version_id)]
    _append(compiler.changes_of(versions), versions)


@receives(VersionDeprecated, VersionRestored, VersionRetired)
def log_version(event: VersionDeprecated | VersionRestored | VersionRetired) -> None:
    _log_versions([_SERVED.get(pk=event.version_id)])


@receives(SelectionChanged)
def log_selection(event: SelectionChanged) -> None:
    """The shared address and every version's own in one go: no moment at which a version is found nowhere."""
    versions = list(_SERVED.filter(api=event.api_id))
    _append(compiler.changes_of(versions), versions)


@receives(ProductVersionsChanged)
def log_product_versions(event: ProductVersionsChanged) -> None:
    """The fact does not say which versions left, so every version of the publisher is looked at; few have changed."""
    organisation = Product.objects.values("organisation").filter(pk=event.product_id)
    _log_versions(list(_SERVED.filter(api__organisation__in=organisation)))


@receives(ApiLimitsChanged)
def log_api_limits(event: ApiLimitsChanged) -> None:
    """Limits for all callers of an API stand in each of its versions' documents."""
    _log_versions(list(_SERVED.filter(api=event.api_id)))


@receives(PlanChanged)
def log_plan(event: PlanChanged) -> None:
    plan = Plan.objects.filter(pk=event.plan_id).first()
    if plan is None:
        append_changes(tombstones=[("plan", str(event.plan_id))])
    else:
        append_changes([compiler.plan_document(plan)])


@receives(ApplicationChanged, SubscriptionChanged)
def log_application(event: ApplicationChanged | SubscriptionChanged) -> None:
    application = Application.objects.filter(pk=event.application_id).first()
    if application is None:
        append_changes(tombstones=[("application", str(event.application_id))])
    else:
        append_changes([compiler.application_document(application)])


@receives(CredentialIssued, CredentialRevoked, CredentialChanged)
def log_credential(event: CredentialIssued | CredentialRevoked | CredentialChanged) -> None:
    credential = Credential.objects.get(pk=event.credential_id)
    documents = list(compiler.credential_documents(credential))
    if isinstance(event, CredentialChanged) and event.ended_digest:
        documents.append(compiler.ended_secret(credential, event.ended_digest))
    append_changes(documents)


@receives(OrganisationStateChanged)
def log_organisation(event: OrganisationStateChanged) -> None:
    append_changes([compiler.organisation_document(Organisation.objects.get(pk=event.organisation_id))])


@receives(UserStateChanged)
def log_owned(event: UserStateChanged) -> None:
    """With a person an organisation may lose its last owner, or get one back."""
    _log_owned(Organisation.objects.filter(memberships__user=event.user_id))


@receives(MemberAdded, MemberRemoved, RoleChanged)
def log_owner(event: MemberAdded | MemberRemoved | RoleChanged) -> None:
    _log_owned(Organisation.objects.filter(pk=event.organisation_id))


def _log_owned(organisations: Iterable[Organisation]) -> None:
    """An active one has a document only if it was told of before: nearly none ever is."""
    documents = {document.key: document for document in map(compiler.organisation_document, organisations)}
    told = GatewayChange.objects.filter(kind="organisation", key__in=documents).values_list("key", flat=True)
    known = set(told)
    append_changes(item for key, item in documents.items() if item.state == "suspended" or key in known)


def _log_versions(versions: list[Version]) -> None:
    """What has changed about versions that go on as they were published.

    One that could not be published any more keeps nobody from retiring it, nor from changing what it is part of.
    """
    _append(compiler.together(map(_as_it_is, versions)), versions)


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


def _append(changes: Changes, versions: list[Version]) -> None:
    taken = {("route", document.key) for document in changes.documents}
    free = [entry for entry in changes.tombstones if entry not in taken and _belongs_to(entry, versions)]
    append_changes(changes.documents, free)


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
