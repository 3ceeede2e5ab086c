"""Every change to people, organisations and tokens: one verb each."""

from apimgr.accounts.services.invitations import (
    accept_invitation,
    invitation_by_token,
    invite_member,
    withdraw_invitation,
)
from apimgr.accounts.services.members import add_member, change_role, remove_member
from apimgr.accounts.services.organisations import (
    create_organisation,
    own_organisation,
    resume_organisation,
    suspend_organisation,
)
from apimgr.accounts.services.tokens import issue_api_token, revoke_api_token
from apimgr.accounts.services.users import create_user, disable_user, enable_user, rename_user

__all__ = [
    "accept_invitation",
    "add_member",
    "change_role",
    "create_organisation",
    "create_user",
    "disable_user",
    "enable_user",
    "invitation_by_token",
    "invite_member",
    "issue_api_token",
    "own_organisation",
    "remove_member",
    "rename_user",
    "resume_organisation",
    "revoke_api_token",
    "suspend_organisation",
    "withdraw_invitation",
]
