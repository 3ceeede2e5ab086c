"""Keys that somebody found where they should not be (security.md K10)."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Q
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import owners
from apimgr.accounts.models import User
from apimgr.audit.services import record
from apimgr.contracts.credentials import KEY_START, digest_key, is_well_formed
from portal.models import Credential, LeakNotice
from portal.services.credentials import end_former_secret, revoke_credential

MAX_KEYS: Final = 100  # in one report
TRIED_FOR: Final = timedelta(days=3)  # a mail that no server takes in that time is given up
# The start of a key is public; what follows it must not come back in an address or a remark.
_SECRET: Final = re.compile(rf"({KEY_START})[0-9A-Za-z]*")

log = logging.getLogger(__name__)


@transaction.atomic
def report_leak(*, actor: User | None, keys: Iterable[str], found_at: str = "") -> int:
    """Stop those of ``keys`` that still open anything, say how many did, and have their owners told by mail.

    Nobody has to have a right to it: whoever holds a key could call with it. A former secret ends alone, for its
    successor is not what was found.
    """
    digests = {digest_key(key.encode(), settings.KEY_PEPPER) for key in keys if is_well_formed(key.encode())}
    found = Credential.objects.filter(Q(digest__in=digests) | Q(former_digest__in=digests))
    # One line, so that what a stranger wrote cannot pass for more of our mail.
    found_at = _SECRET.sub(r"\1…", " ".join(found_at.split()))
    stopped = 0
    for credential in found.select_related("application__organisation").order_by("pk"):
        if was_former := bytes(credential.digest) not in digests:
            is_open = credential.is_rotating and credential.standing == "rotating"
            stop = end_former_secret
        else:
            is_open = credential.standing in {"active", "rotating"}
            stop = revoke_credential
        if is_open:
            stop(actor=None, credential=credential)  # the platform does it, whoever found the key
            _record(actor, credential, found_at)
            _note(credential, found_at, was_former=was_former)
            stopped += 1
    return stopped


def mail_leak_notices() -> int:
    """Send what is waiting, and say how much went. Of several that run at once each takes other mails.

    What a mail server does not take now is tried again by the next run; a worker killed between sending and forgetting
    sends a second time.
    """
    LeakNotice.objects.filter(created_at__lt=timezone.now() - TRIED_FOR).delete()
    waiting = list(LeakNotice.objects.order_by("pk").values_list("pk", flat=True)[:200])
    return sum(_mail(pk) for pk in waiting)


@transaction.atomic
def _mail(pk: int) -> bool:
    locked = LeakNotice.objects.select_for_update(of=("self",), skip_locked=True)
    found = locked.select_related("user", "credential__application__organisation").filter(pk=pk)
    if (notice := found.first()) is None:
        return False
    application = notice.credential.application
    context = {
        "notice": notice,
        "application": application,
        "url": settings.WEB_URL + reverse("portal:application", args=[application.pk]),
        "requests_url": settings.WEB_URL + reverse("portal:application-requests", args=[application.pk]),
    }
    subject = " ".join(render_to_string("emails/key_leaked_subject.txt", context).split())
    try:
        send_mail(subject, render_to_string("emails/key_leaked.txt", context), None, [notice.user.email])
    except OSError as error:  # SMTPException is one
        log.warning("Mail of a leaked key to %s waits: %r", notice.user_id, error)
        return False
    notice.delete()
    return True


def _note(credential: Credential, found_at: str, *, was_former: bool) -> None:
    """Where its owners look, and for them to be mailed."""
    Credential.objects.filter(pk=credential.pk).update(leaked_at=timezone.now())
    its_owners = owners().filter(organisation=credential.application.organisation_id, user__is_active=True)
    LeakNotice.objects.bulk_create(
        LeakNotice(
            credential=credential,
            user_id=user_id,
            secret=credential.former if was_former else str(credential),
            was_former=was_former,
            found_at=found_at,
        )
        for user_id in its_owners.values_list("user", flat=True)
    )


def _record(actor: User | None, credential: Credential, found_at: str) -> None:
    record(
        actor=actor,
        action="portal.credential.leaked",
        target=credential,
        organisation_id=credential.application.organisation_id,
        application=credential.application.name,
        found_at=found_at or _("where, was not said"),
    )
