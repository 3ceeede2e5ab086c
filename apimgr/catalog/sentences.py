"""What the audit trail says about APIs and versions, where an action's own name does not read well."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from apimgr.audit.sentences import tells

tells(
    {
        "catalog.api.created": _("%(actor)s created the API %(target)s"),
        "catalog.api.updated": _("%(actor)s changed the API %(target)s"),
        "catalog.api.selection_set": _("%(actor)s had versions of %(target)s chosen by the %(by)s %(name)s"),
        "catalog.api.selection_removed": _("%(actor)s gave each version of %(target)s its own address again"),
        "catalog.specification.imported": _("%(actor)s imported the document %(target)s (%(source)s)"),
        "catalog.version.specification_used": _("%(actor)s gave version %(target)s another document"),
        "catalog.version.upstream_set": _("%(actor)s pointed version %(target)s at %(url)s"),
        "catalog.version.route_set": _("%(actor)s gave version %(target)s the address %(route)s"),
        "catalog.version.gateway_set": _("%(actor)s changed how the gateway treats version %(target)s"),
        "catalog.version.published": _("%(actor)s published version %(target)s as revision %(revision)s"),
        "catalog.version.rolled_back": _(
            "%(actor)s rolled version %(target)s back to revision %(restored)s, as revision %(revision)s"
        ),
    }
)
