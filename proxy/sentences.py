"""What the audit trail says about gateway nodes."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from apimgr.audit.sentences import tells

tells(
    {
        "proxy.node.removed": _("%(actor)s removed the gateway node %(target)s, with which %(lost)s calls were lost"),
        "proxy.boot.given_up": _("%(actor)s gave up the boot %(target)s, with which %(lost)s calls were lost"),
    }
)
