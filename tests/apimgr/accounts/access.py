from tests.access import ACME, EVERYONE, Row, World

MANAGERS = {"ada"}
TOKENS = {"ada", "alice"}


def acme(world: World) -> dict[str, str]:
    return {"slug": world.acme.slug}


def victors_membership(world: World) -> dict[str, object]:
    return {"slug": world.acme.slug, "membership_id": world.membership.pk}


ACCESS = {
    "api-schema": Row(anonymous=True),
    # allauth's pages; those of an unfinished step send whoever is not in it back to its beginning.
    "account_login": Row(anonymous=True),
    "account_logout": Row(anonymous=True),
    "account_signup": Row(anonymous=True),
    "account_inactive": Row(anonymous=True),
    "account_email_verification_sent": Row(allow=EVERYONE),
    "account_reauthenticate": Row(allow=EVERYONE),
    "account_change_password": Row(allow=EVERYONE),
    "account_reset_password": Row(anonymous=True),
    "account_confirm_password_reset_code": Row(),
    "account_complete_password_reset": Row(anonymous=True),
    "account_password_reset_completed": Row(anonymous=True),
    "usersessions_list": Row(allow=EVERYONE),
    "account_email": Row(anonymous=True),
    "account_set_password": Row(allow=EVERYONE),
    # Ours.
    "home": Row(allow=EVERYONE),
    "accounts:account": Row(allow=EVERYONE),
    "accounts:mailbox": Row(),  # 404 unless settings.MAILBOX; tests/apimgr/accounts/test_mailbox.py
    "accounts:invitation": Row(kwargs=lambda w: {"token": w.invitation_token}, anonymous=True),
    "accounts:members": Row(kwargs=acme, allow=ACME),
    "accounts:member-invite": Row(
        kwargs=acme, allow=MANAGERS, method="post", data={"email": "new@example.com", "role": "viewer"}
    ),
    "accounts:member-role": Row(kwargs=victors_membership, allow=MANAGERS, method="post", data={"role": "publisher"}),
    "accounts:member-remove": Row(kwargs=victors_membership, allow={"ada", "victor"}, method="post"),
    "accounts:invitation-withdraw": Row(
        kwargs=lambda w: {"slug": w.acme.slug, "invitation_id": w.invitation.pk}, allow=MANAGERS, method="post"
    ),
    "accounts:tokens": (
        Row(kwargs=acme, allow=TOKENS),
        Row(kwargs=acme, allow=TOKENS, method="post", data={"name": "Script", "days": 30}),
    ),
    "accounts:token-revoke": Row(
        kwargs=lambda w: {"slug": w.acme.slug, "token_id": w.token.pk}, allow=TOKENS, method="post"
    ),
    "accounts:audit": Row(kwargs=acme, allow={"ada", "alice", "oscar"}),
    # REST. A token acts for its owner in one organisation.
    "api-me": Row(allow=EVERYONE),
    "api-organisations": Row(allow=EVERYONE),
    "api-organisation": Row(kwargs=acme, allow=ACME),
    "api-members": Row(kwargs=acme, allow=ACME),
    "api-member": (
        Row(kwargs=victors_membership, allow=ACME),
        Row(kwargs=victors_membership, allow=MANAGERS, method="put", data={"role": "publisher"}),
        Row(kwargs=victors_membership, allow={"ada", "victor"}, method="delete"),
    ),
    "api-invitations": (
        Row(kwargs=acme, allow=MANAGERS),
        Row(kwargs=acme, allow=MANAGERS, method="post", data={"email": "new@example.com", "role": "viewer"}),
    ),
    "api-invitation": Row(
        kwargs=lambda w: {"slug": w.acme.slug, "invitation_id": w.invitation.pk}, allow=MANAGERS, method="delete"
    ),
    "api-tokens": (
        Row(kwargs=acme, allow=TOKENS),
        Row(kwargs=acme, allow=TOKENS, method="post", data={"name": "Script"}),
    ),
    "api-token": Row(kwargs=lambda w: {"slug": w.acme.slug, "token_id": w.token.pk}, allow=TOKENS, method="delete"),
    "api-audit": Row(kwargs=acme, allow={"ada", "alice", "oscar"}),
}
