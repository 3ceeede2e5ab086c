from __future__ import annotations

from django.db import transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import Organisation, User
from apimgr.audit import services as audit
from apimgr.catalog.events import VersionAdded
from apimgr.catalog.models import API, Version, Visibility
from apimgr.catalog.services.selection import lock_api, value_taken
from apimgr.core import events
from apimgr.core.errors import Conflict
from apimgr.core.validation import store


@transaction.atomic
def create_api(
    *,
    actor: User | None,
    organisation: Organisation,
    name: str,
    summary: str = "",
    description: str = "",
    visibility: str = Visibility.PUBLIC,
    slug: str = "",
) -> API:
    """Without ``slug`` one is made from the name; a ``slug`` somebody else has is a ``Conflict``."""
    require(actor, Permission.API_EDIT, organisation)
    if slug and API.objects.filter(slug=slug).exists():
        taken = _("The address “%(slug)s” is taken.") % {"slug": slug}
        raise Conflict(taken, code="taken", fields={"slug": taken})
    api = API(
        organisation=organisation,
        name=name.strip(),
        slug=slug or _free_slug(name),
        summary=summary.strip(),
        description=description,
        visibility=visibility,
    )
    store(api)
    audit.record(actor=actor, action="catalog.api.created", target=api, organisation_id=organisation.pk)
    return api


@transaction.atomic
def update_api(
    *,
    actor: User | None,
    api: API,
    name: str | None = None,
    summary: str | None = None,
    description: str | None = None,
    visibility: str | None = None,
) -> API:
    """Change what is given. The slug stays: callers' links and routes hang on it."""
    require(actor, Permission.API_EDIT, api.organisation)
    given = {"name": name, "summary": summary, "description": description, "visibility": visibility}
    changed = [field for field, value in given.items() if value is not None and getattr(api, field) != value]
    for field in changed:
        setattr(api, field, given[field])
    if changed:
        store(api, changed)
        audit.record(
            actor=actor, action="catalog.api.updated", target=api, organisation_id=api.organisation_id, fields=changed
        )
    return api


@transaction.atomic
def add_version(*, actor: User | None, api: API, name: str) -> Version:
    """A draft. Names are unique within an API: ``v1``, ``2024-10-01``."""
    require(actor, Permission.API_EDIT, api.organisation)
    name = name.strip()
    api = lock_api(api)
    if value_taken(api, name):
        message = _("%(name)s chooses another version.") % {"name": name}
        raise Conflict(message, code="taken", fields={"name": message})
    if api.versions.filter(name=name).exists():
        taken = _("%(api)s already has a version %(name)s.") % {"api": api, "name": name}
        raise Conflict(taken, code="taken", fields={"name": taken})
    version = store(Version(api=api, name=name))
    audit.record(actor=actor, action="catalog.version.added", target=version, organisation_id=api.organisation_id)
    events.emit(VersionAdded(version.pk))
    return version


def _free_slug(name: str) -> str:
    base = slugify(name)[:50].strip("-") or "api"
    taken = set(API.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    number = 2
    slug = base
    while slug in taken:
        slug, number = f"{base}-{number}", number + 1
    return slug
