"""An operator shuts a person out, and lets them in again."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.core import mail
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from apimgr.accounts.access import is_ownerless
from apimgr.accounts.models import ApiToken, Membership, Organisation, Role, User
from apimgr.accounts.services import add_member, change_role, disable_user, enable_user, issue_api_token, remove_member
from apimgr.audit.models import AuditEntry
from apimgr.core.errors import Conflict, NotFound
from tests.changes import last_word
from tests.factories import make_member, make_user
from tests.proxy.processes.node import wait_for

pytestmark = pytest.mark.django_db
PASSWORD = "correct horse battery staple"


@pytest.fixture
def signed_in(dev: User) -> Client:
    """Dev's browser, signed in with the password."""
    dev.set_password(PASSWORD)
    dev.save()
    EmailAddress.objects.create(user=dev, email=dev.email, primary=True, verified=True)
    browser = Client()
    sign_in(browser, dev)
    assert browser.get(reverse("accounts:account")).status_code == 200
    return browser


def sign_in(browser: Client, user: User) -> str:
    return browser.post(reverse("account_login"), {"login": user.email, "password": PASSWORD}).headers["Location"]


def ownerless() -> list[Organisation]:
    return list(Organisation.objects.filter(is_ownerless()))


def test_a_disabled_person_is_out_at_once(signed_in: Client, olga: User, dev: User, builders: Organisation) -> None:
    token, secret = issue_api_token(actor=dev, organisation=builders, name="Script")
    headers = {"Authorization": f"Bearer {secret}"}
    assert Client().get(reverse("api-me"), headers=headers).status_code == 200
    disable_user(actor=olga, user=dev)
    assert signed_in.get(reverse("accounts:account")).status_code == 302
    assert Client().get(reverse("api-me"), headers=headers).status_code == 401
    browser = Client()
    assert sign_in(browser, dev) == reverse("account_inactive")
    assert browser.get(reverse("accounts:account")).status_code == 302
    assert not UserSession.objects.filter(user=dev).exists()
    assert ApiToken.objects.get(pk=token.pk).state == "revoked"


def test_a_new_password_is_no_way_back(signed_in: Client, olga: User, dev: User) -> None:
    disable_user(actor=olga, user=dev)
    browser = Client()
    browser.post(reverse("account_reset_password"), {"email": dev.email})
    (message,) = mail.outbox
    assert "no account" in message.body, "they are told what a stranger would be told"
    assert browser.get(reverse("accounts:account")).status_code == 302


def test_who_is_enabled_signs_in_anew(signed_in: Client, olga: User, dev: User, builders: Organisation) -> None:
    _token, secret = issue_api_token(actor=dev, organisation=builders, name="Script")
    for _ in range(2):
        disable_user(actor=olga, user=dev)
    for _ in range(2):
        enable_user(actor=olga, user=dev)
    assert signed_in.get(reverse("accounts:account")).status_code == 302, "what ended stays ended"
    assert Client().get(reverse("api-me"), headers={"Authorization": f"Bearer {secret}"}).status_code == 401
    browser = Client()
    sign_in(browser, dev)
    assert browser.get(reverse("accounts:account")).status_code == 200
    entries = AuditEntry.objects.filter(target_id=dev.pk, action__startswith="accounts.user.").order_by("id")
    assert [entry.sentence for entry in entries] == [
        "Olga disabled the account Dev",
        "Olga enabled the account Dev",
    ]


def test_only_operators_switch_people(dev: User, ada: User, charlie: User) -> None:
    for stranger in (ada, charlie, dev):
        for switch in (disable_user, enable_user):
            with pytest.raises(NotFound):
                switch(actor=stranger, user=dev)
    dev.refresh_from_db()
    assert dev.is_active


def test_an_operator_stays(olga: User) -> None:
    with pytest.raises(Conflict) as refused:
        disable_user(actor=olga, user=olga)
    assert refused.value.code == "own_account"
    other = make_user("otto", is_operator=True)
    disable_user(actor=olga, user=other)
    with pytest.raises(Conflict) as refused:
        # As of two who disable each other at once: Otto was an operator when he asked.
        disable_user(actor=other, user=olga)
    assert refused.value.code == "last_operator"
    with pytest.raises(Conflict):
        disable_user(actor=None, user=olga)
    olga.refresh_from_db()
    assert olga.is_active


def test_an_organisation_has_an_owner_while_one_is_active(olga: User, dev: User, builders: Organisation) -> None:
    make_member(make_user("vera"), builders, Role.VIEWER)
    assert ownerless() == []
    disable_user(actor=olga, user=dev)
    assert ownerless() == [builders], "who only looks answers for nothing"
    second = make_member(make_user("deborah"), builders, Role.DEVELOPER).user
    assert ownerless() == []
    disable_user(actor=olga, user=second)
    assert ownerless() == [builders]
    enable_user(actor=olga, user=second)
    assert ownerless() == []


def test_an_organisation_that_nobody_ever_owned_is_the_platform_s(db: None, olga: User) -> None:
    own = Organisation.objects.create(name="Seeded", slug="seeded")
    make_member(make_user("vera"), own, Role.VIEWER)
    assert ownerless() == []


def test_the_last_active_owner_may_leave(olga: User, dev: User, builders: Organisation) -> None:
    second = make_member(make_user("deborah"), builders, Role.DEVELOPER)
    disable_user(actor=olga, user=dev)
    remove_member(actor=second.user, membership=second)
    assert ownerless() == [builders]


def test_an_administrator_takes_over(olga: User, dev: User, builders: Organisation) -> None:
    """Who is disabled keeps their role; the others may take it."""
    second = make_member(make_user("deborah"), builders, Role.ADMINISTRATOR).user
    disable_user(actor=olga, user=dev)
    change_role(actor=second, membership=Membership.objects.get(user=dev, organisation=builders), role=Role.VIEWER)
    assert ownerless() == []


# --- At once ----------------------------------------------------------------------------------------------------------


def one_after_the_other(first: Callable[[], object], second: Callable[[], object]) -> list[object]:
    """Do ``second`` while ``first`` is done and not committed, and have it wait for that. What each made or raised."""
    outcomes: list[object] = [None, None]

    def later() -> None:
        try:
            outcomes[1] = second()
        except Conflict as refusal:
            outcomes[1] = refusal
        finally:
            connection.close()

    waiting = threading.Thread(target=later)
    with transaction.atomic():
        outcomes[0] = first()
        waiting.start()
        wait_for(_somebody_waits)
    waiting.join(30)
    assert not waiting.is_alive()
    return outcomes


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_stat_clear_snapshot()")  # within a transaction it would stay as it was
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(cursor.fetchone()[0])


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_are_disabled_at_once_leave_nobody(builders: Organisation, dev: User) -> None:
    other = make_member(make_user("deborah"), builders, Role.DEVELOPER).user
    one_after_the_other(
        lambda: disable_user(actor=None, user=dev),
        lambda: disable_user(actor=None, user=other),
    )
    assert ownerless() == [builders]
    assert last_word("organisation", builders.pk).state == "suspended"


@pytest.mark.django_db(transaction=True)
def test_who_joins_while_the_last_owner_is_disabled_keeps_the_keys_working(builders: Organisation, dev: User) -> None:
    other = make_user("deborah")
    one_after_the_other(
        lambda: disable_user(actor=None, user=dev),
        lambda: add_member(actor=None, organisation=builders, user=other, role=Role.DEVELOPER),
    )
    assert last_word("organisation", builders.pk).state == "active"


@pytest.mark.django_db(transaction=True)
def test_two_operators_do_not_disable_each_other(olga: User) -> None:
    otto = make_user("otto", is_operator=True)
    _done, refused = one_after_the_other(
        lambda: disable_user(actor=olga, user=otto),
        lambda: disable_user(actor=otto, user=olga),
    )
    assert isinstance(refused, Conflict)
    assert User.objects.filter(is_operator=True, is_active=True).get() == olga
