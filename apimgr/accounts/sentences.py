"""What the audit trail says about people."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from apimgr.audit.sentences import tells

tells(
    {
        "accounts.user.created": _("%(actor)s created the account %(target)s"),
        "accounts.user.disabled": _("%(actor)s disabled the account %(target)s"),
        "accounts.user.enabled": _("%(actor)s enabled the account %(target)s"),
        "accounts.organisation.created": _("%(actor)s created the organisation %(target)s"),
        "accounts.organisation.suspended": _("%(actor)s suspended the organisation %(target)s"),
        "accounts.organisation.resumed": _("%(actor)s resumed the organisation %(target)s"),
        "accounts.member.added": _("%(actor)s made %(target)s a member as %(role)s"),
        "accounts.member.invited": _("%(actor)s invited %(target)s as %(role)s"),
        "accounts.member.role_changed": _("%(actor)s changed the role of %(target)s from %(before)s to %(role)s"),
        "accounts.member.removed": _("%(actor)s removed %(target)s, who was %(role)s"),
        "accounts.invitation.withdrawn": _("%(actor)s withdrew the invitation of %(target)s"),
        "accounts.token.issued": _("%(actor)s created the API token %(target)s"),
        "accounts.token.revoked": _("%(actor)s revoked the API token %(target)s"),
    }
)
