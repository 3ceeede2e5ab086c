from __future__ import annotations

from apimgr.catalog.models import Version


def lock_version(version: Version) -> Version:
    """The version as it is now, locked to the end of the transaction: moves of one version happen one after another."""
    found: Version = (
        Version.objects.select_for_update(of=("self",))
        .select_related("api__organisation", "specification", "deployed_revision")
        .defer("specification__raw", "specification__document")  # megabytes nobody here looks at
        .get(pk=version.pk)
    )
    return found
