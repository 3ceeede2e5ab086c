from tests.access import EVERYONE, Row

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
    "account_confirm_password_reset_code": Row(allow=EVERYONE),
    "account_complete_password_reset": Row(anonymous=True),
    "account_password_reset_completed": Row(anonymous=True),
    "usersessions_list": Row(allow=EVERYONE),
}
