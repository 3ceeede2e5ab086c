from __future__ import annotations

from django.utils.translation import gettext as _

from apimgr.catalog.models import Version, VersionState
from apimgr.catalog.selectors import heavy
from apimgr.core.errors import Conflict


def lock_version(version: Version) -> Version:
    """The version as it is now, locked to the end of the transaction: moves of one version happen one after another."""
    found: Version = (
        Version.objects.select_for_update(of=("self",))
        .select_related("api__organisation", "specification", "deployed_revision__specification")
        .defer(*heavy("specification"), *heavy("deployed_revision__specification"))
        .get(pk=version.pk)
    )
    return found


def editable(version: Version) -> Version:
    """The version, locked, if its draft may still change."""
    version = lock_version(version)
    if version.state == VersionState.RETIRED:
        raise Conflict(_("A retired version cannot be changed."), code="version_retired")
    return version
