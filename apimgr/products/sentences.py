"""What the audit trail says about plans, where an action's own name does not read well."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from apimgr.audit.sentences import tells

tells(
    {
        "products.plan.updated": _("%(actor)s changed the plan %(target)s"),
        "products.plan.limits_changed": _("%(actor)s changed the limits of the plan %(target)s"),
        "products.api.limits_changed": _("%(actor)s changed the limits of %(target)s for all callers together"),
    }
)
