"""A document comes in, is kept, and becomes a version's operations."""

from __future__ import annotations

from hashlib import sha256

from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.models import (
    API,
    Operation,
    Route,
    Specification,
    SpecificationSource,
    Upstream,
    Version,
    VersionState,
)
from apimgr.catalog.openapi import lint, parse, syntax
from apimgr.catalog.services.drafts import lock_version
from apimgr.catalog.services.routing import normalise_upstream, route_conflict
from apimgr.core import egress
from apimgr.core.errors import Conflict, DomainError, NotFound


def import_specification(
    *,
    actor: User | None,
    api: API,
    content: bytes,
    source: str,
    filename: str = "",
    source_url: str = "",
) -> Specification:
    """Read and keep a document. ``source`` is ``upload``, ``paste`` or ``url``.

    Bytes that are no OpenAPI document raise ``UnreadableDocument`` and change nothing. A document with ``error``
    findings is kept, so that they can be read beside it, but ``use_specification`` refuses it.
    """
    require(actor, Permission.API_EDIT, api.organisation)
    document = syntax.read(content)
    facts, findings = lint.check(document)
    for finding in findings:
        if finding.code == "bad_character":
            raise syntax.UnreadableDocument(f"{finding.message} Line {finding.line}.", code=finding.code)
    with transaction.atomic():
        specification = Specification.objects.create(
            api=api,
            source=SpecificationSource(source),
            source_url=source_url,
            filename=filename[-200:],
            raw=content,
            syntax=document.syntax,
            openapi_version=facts.openapi_version,
            document=document.value,
            title=facts.title[:200],
            document_version=facts.version[:80],
            sha256=sha256(content).hexdigest(),
            size_bytes=len(content),
            findings=[finding.as_dict() for finding in findings],
            created_by=actor,
        )
        audit.record(
            actor=actor,
            action="catalog.specification.imported",
            target=specification,
            organisation_id=api.organisation_id,
            sha256=specification.sha256,
            source=source,
        )
    return specification


def fetch_specification(*, actor: User | None, api: API, url: str) -> Specification:
    """Import the document at ``url``. Raises what ``egress.fetch`` and ``import_specification`` raise."""
    require(actor, Permission.API_EDIT, api.organisation)
    answer = egress.fetch(url, max_bytes=syntax.MAX_BYTES)
    filename = url.partition("?")[0].rpartition("/")[2]
    return import_specification(
        actor=actor,
        api=api,
        content=answer.body,
        source=SpecificationSource.URL,
        filename=filename,
        source_url=url,
    )


@transaction.atomic
def use_specification(*, actor: User | None, version: Version, specification: Specification) -> Version:
    """Make ``specification`` the version's document. Operations are synchronised; one that stays keeps its id.

    Proposes an upstream (the document's first absolute server) and a route (``/{api}/{version}``) where the version
    has none. What is live stays as it is until the next publication.
    """
    require(actor, Permission.API_EDIT, version.api.organisation)
    version = lock_version(version)
    if specification.api_id != version.api_id:
        raise NotFound(_("This document belongs to another API."))
    if version.state == VersionState.RETIRED:
        raise Conflict(_("A retired version cannot be changed."), code="version_retired")
    refuse_errors(specification)
    facts = parse.describe(specification.document)
    version.specification = specification
    version.save(update_fields=["specification"])
    sync_operations(version, facts)
    _propose_upstream(version, facts)
    _propose_route(version)
    audit.record(
        actor=actor,
        action="catalog.version.specification_used",
        target=version,
        organisation_id=version.api.organisation_id,
        specification_id=specification.pk,
    )
    return version


def refuse_errors(specification: Specification) -> None:
    errors = [finding for finding in specification.findings if finding["severity"] == "error"]
    if not errors:
        return
    first = errors[0]
    more = _(" There are %(count)s more.") % {"count": len(errors) - 1} if len(errors) > 1 else ""
    raise DomainError(
        _("%(message)s Line %(line)s.%(more)s") % {"message": first["message"], "line": first["line"], "more": more},
        code="document_has_errors",
        fix=_("Correct the document and import it again."),
    )


def sync_operations(version: Version, facts: parse.Facts) -> None:
    """Make the version's operations those of a document."""
    known = {(operation.method, operation.path): operation for operation in version.operations.all()}
    rows = []
    for fact in facts.operations:
        row = known.pop((fact.method, fact.path), None) or Operation(
            version=version, method=fact.method, path=fact.path
        )
        row.operation_id = fact.operation_id[:200]
        row.summary = fact.summary[:300]
        row.tags = list(fact.tags)
        row.is_deprecated = fact.is_deprecated
        row.is_current = True
        rows.append(row)
    # Usage hangs on an operation's id: one that is gone from the document is marked, never deleted.
    version.operations.filter(pk__in=[row.pk for row in known.values()]).update(is_current=False)
    Operation.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["id"],
        update_fields=["operation_id", "summary", "tags", "is_deprecated", "is_current"],
    )


def _propose_upstream(version: Version, facts: parse.Facts) -> None:
    if Upstream.objects.filter(version=version).exists() or not facts.upstream_url:
        return
    try:
        url = normalise_upstream(facts.upstream_url)
    except DomainError:
        return  # a server we would not call; the publisher gives another one
    Upstream.objects.create(version=version, url=url)


def _propose_route(version: Version) -> None:
    base_path = f"/{version.api.slug}/{version.name}"
    if not Route.objects.filter(version=version).exists() and not route_conflict(version, "", base_path):
        Route.objects.create(version=version, base_path=base_path)
