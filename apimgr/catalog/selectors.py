"""Reads of the catalogue. The viewer comes first: what somebody may not see is not there.

The ``public_*`` ones are what the portal shows to everybody and take no viewer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django.contrib.auth.models import AnonymousUser
from django.contrib.postgres.search import SearchQuery, SearchRank, SearchVector
from django.db.models import Exists, F, Func, IntegerField, OuterRef, Prefetch, Q, QuerySet
from django.db.models.lookups import Exact
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.models import User
from apimgr.catalog.models import API, Operation, Revision, Specification, Version, VersionState, Visibility
from apimgr.catalog.models.operation import OPERATION_WORDS
from apimgr.core.errors import NotFound

LIVE = (VersionState.PUBLISHED, VersionState.DEPRECATED)
# A document reaches 20 MB, as bytes and again as JSON: rows are listed without it.
_HEAVY = ("raw", "document")


def heavy(prefix: str) -> Iterator[str]:
    """What to defer of a document reached by ``prefix``."""
    return (f"{prefix}__{field}" for field in _HEAVY)


# What an API is found by, besides its operations: its name before its summary before its description.
_HEAD = (
    SearchVector("name", weight="A", config="english")
    + SearchVector("summary", weight="B", config="english")
    + SearchVector("description", weight="C", config="english")
)


# --- The console ------------------------------------------------------------------------------------------------------


def apis_for(viewer: User | AnonymousUser) -> QuerySet[API]:
    """The APIs of the viewer's organisations, drafts included, by name."""
    organisations = organisations_for(viewer, Permission.API_VIEW)
    return API.objects.filter(organisation__in=organisations).select_related("organisation").order_by("name", "id")


def api_for(viewer: User | AnonymousUser, slug: str) -> API:
    """Raises ``NotFound``, also for an API of somebody else."""
    api = apis_for(viewer).filter(slug=slug).first()
    if api is None:
        raise _nothing()
    return api


def versions_for(viewer: User | AnonymousUser) -> QuerySet[Version]:
    """Versions of the viewer's APIs, newest first, with API, route, upstream and the heads of both documents."""
    apis = API.objects.filter(organisation__in=organisations_for(viewer, Permission.API_VIEW))
    versions = _with_parts(Version.objects.filter(api__in=apis)).select_related("deployed_revision__specification")
    return versions.defer(*heavy("specification"), *heavy("deployed_revision__specification")).order_by("-id")


def version_for(viewer: User | AnonymousUser, slug: str, name: str) -> Version:
    """Version ``name`` of the API ``slug``. Raises ``NotFound``."""
    version = versions_for(viewer).filter(api__slug=slug, name=name).first()
    if version is None:
        raise _nothing()
    return version


def specifications_for(viewer: User | AnonymousUser, api: API) -> QuerySet[Specification]:
    """Every document imported for ``api``, newest first, without the documents themselves."""
    found = Specification.objects.filter(api=api, api__organisation__in=organisations_for(viewer, Permission.API_VIEW))
    return found.defer(*_HEAVY).order_by("-id")


def specification_for(viewer: User | AnonymousUser, pk: int) -> Specification:
    """One imported document, whole. Raises ``NotFound``."""
    organisations = organisations_for(viewer, Permission.API_VIEW)
    found = Specification.objects.select_related("api__organisation").filter(pk=pk, api__organisation__in=organisations)
    specification = found.first()
    if specification is None:
        raise _nothing()
    return specification


def operations_of(version: Version) -> QuerySet[Operation]:
    """What the version's document has now, by path."""
    return version.operations.filter(is_current=True).order_by("path", "method")


def revisions_of(version: Version) -> QuerySet[Revision]:
    """What was published of it, newest first, with the head of each document, who made it and what it restored."""
    found = version.revisions.select_related("specification", "created_by", "restored_from")
    return found.defer(*heavy("specification"), "restored_from__configuration").order_by("-number")


def revision_of(version: Version, number: int) -> Revision:
    """Raises ``NotFound``."""
    revision = revisions_of(version).filter(number=number).first()
    if revision is None:
        raise NotFound(_("%(version)s has no revision %(number)s.") % {"version": version, "number": number})
    return revision


# --- The portal -------------------------------------------------------------------------------------------------------


def public_apis(search: str = "") -> QuerySet[API]:
    """Public APIs with a live version; with ``search`` those that match, best first, else by name.

    Every word must be found, as the beginning of a word, in name, summary, description or an operation. Each API
    has its live versions, newest first, in ``live_versions``.
    """
    live = _with_parts(Version.objects.filter(state__in=LIVE)).order_by("-published_at", "-id")
    apis = (
        API.objects.filter(visibility=Visibility.PUBLIC)
        .filter(Exists(Version.objects.filter(api=OuterRef("pk"), state__in=LIVE)))
        .select_related("organisation")
        .prefetch_related(Prefetch("versions", queryset=live, to_attr="live_versions"))
    )
    words = re.findall(r"\w+", search)[:8]
    if not words:
        return apis.order_by("name", "id")
    found = apis.alias(head=_HEAD).filter(*_matching(words))
    return found.annotate(rank=SearchRank(F("head"), _starting_with(*words))).order_by("-rank", "name", "id")


def public_api(slug: str) -> API:
    """One API as ``public_apis`` has it. Raises ``NotFound``."""
    api = public_apis().filter(slug=slug).first()
    if api is None:
        raise _nothing()
    return api


def public_version(slug: str, name: str) -> Version:
    """A live version of a public API; ``deployed_revision.specification`` is what it serves. Raises ``NotFound``."""
    live = Version.objects.filter(state__in=LIVE, api__visibility=Visibility.PUBLIC)
    version = _with_parts(live).filter(api__slug=slug, name=name).first()
    if version is None:
        raise _nothing()
    return version


def served_specification(version: Version) -> Specification | None:
    """The document of what is live, whole: the deployed revision's, not the draft's."""
    revision = version.deployed_revision
    return Specification.objects.get(pk=revision.specification_id) if revision else None


def _with_parts(versions: QuerySet[Version]) -> QuerySet[Version]:
    return versions.select_related(
        "api__organisation",
        "api__selection",
        "route",
        "upstream",
        "gateway_settings",
        "specification",
        "deployed_revision",
    ).defer(*heavy("specification"))


def _matching(words: list[str]) -> Iterator[Q]:
    """Per word: the API's own texts have it, or a live operation does. "the" and its like count for nothing."""
    operations = Operation.objects.filter(version__api=OuterRef("pk"), version__state__in=LIVE, is_current=True)
    for word in words:
        query = _starting_with(word)
        says_nothing = Exact(Func(query, function="numnode", output_field=IntegerField()), 0)
        in_operations = Exists(operations.alias(words=OPERATION_WORDS).filter(words=query))
        yield Q(says_nothing) | Q(head=query) | Q(in_operations)


def _starting_with(*words: str) -> SearchQuery:
    return SearchQuery(" | ".join(f"{word}:*" for word in words), search_type="raw", config="english")


def _nothing() -> NotFound:
    return NotFound(_("There is nothing here, or nothing for you."))
