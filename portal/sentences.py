"""What the audit trail says about keys."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from apimgr.audit.sentences import tells

tells(
    {
        # By its name alone it would read as if the finder had leaked it.
        "portal.credential.leaked": _(
            "%(actor)s reported the key %(target)s of %(application)s as leaked: %(found_at)s"
        ),
    }
)
