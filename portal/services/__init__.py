"""What can be done on the developer's side: one verb each."""

from portal.services.access import QuickStart, quick_start
from portal.services.applications import (
    create_application,
    resume_application,
    suspend_application,
    update_application,
)
from portal.services.credentials import (
    end_former_secret,
    issue_credential,
    revoke_credential,
    roll_credential,
    set_expiry,
)
from portal.services.leaks import mail_leak_notices, report_leak
from portal.services.subscriptions import (
    approve_subscription,
    cancel_subscription,
    change_plan,
    reject_subscription,
    resume_subscription,
    subscribe,
    suspend_subscription,
)

__all__ = [
    "QuickStart",
    "approve_subscription",
    "cancel_subscription",
    "change_plan",
    "create_application",
    "end_former_secret",
    "issue_credential",
    "mail_leak_notices",
    "quick_start",
    "reject_subscription",
    "report_leak",
    "resume_application",
    "resume_subscription",
    "revoke_credential",
    "roll_credential",
    "set_expiry",
    "subscribe",
    "suspend_application",
    "suspend_subscription",
    "update_application",
]
