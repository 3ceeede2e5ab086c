from __future__ import annotations

import time
from datetime import timedelta
from unittest.mock import patch

import pytest
from allauth.usersessions.models import UserSession
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apimgr.accounts.models import User

pytestmark = pytest.mark.django_db
HOUR = 3600


def is_signed_in(client: Client, after_hours: float) -> bool:
    with patch("apimgr.core.middleware.time.time", return_value=time.time() + after_hours * HOUR):
        return client.get(reverse("accounts:account")).status_code == 200


def test_a_session_ends_after_twelve_idle_hours(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert is_signed_in(client, 0)
    assert is_signed_in(client, 11.9)
    assert is_signed_in(client, 23.7)  # it was used in between
    assert not is_signed_in(client, 36)


def test_a_session_ends_after_seven_days_of_use(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert all(is_signed_in(client, hours) for hours in range(0, 7 * 24, 8))
    assert not is_signed_in(client, 7 * 24 + 1)


def test_one_signs_out_everywhere_else(client: Client, alice: User) -> None:
    elsewhere = Client()
    for browser in (client, elsewhere):
        browser.force_login(alice)
        browser.get(reverse("usersessions_list"))
    assert client.post(reverse("usersessions_list")).status_code == 302
    assert client.get(reverse("accounts:account")).status_code == 200
    assert elsewhere.get(reverse("accounts:account")).status_code == 302


def test_signing_out_takes_a_post(client: Client, alice: User) -> None:
    client.force_login(alice)
    client.get(reverse("account_logout"))
    assert client.get(reverse("accounts:account")).status_code == 200
    client.post(reverse("account_logout"))
    assert client.get(reverse("accounts:account")).status_code == 302


def test_the_first_operator_is_made_once(capsys: pytest.CaptureFixture[str], client: Client) -> None:
    call_command("create_operator", email="root@example.com")
    password = capsys.readouterr().out.splitlines()[1].strip()
    user = User.objects.get(email="root@example.com")
    assert user.is_operator
    client.post(reverse("account_login"), {"login": "root@example.com", "password": password})
    assert client.session["_auth_user_id"] == str(user.pk)
    for email in ("root@example.com", "nonsense"):
        with pytest.raises(CommandError):
            call_command("create_operator", email=email)


def test_a_name_is_ones_own(client: Client, alice: User) -> None:
    client.force_login(alice)
    client.post(reverse("accounts:account"), {"name": "Alice A.", "is_operator": "1", "email": "x@example.com"})
    alice.refresh_from_db()
    assert (alice.name, alice.is_operator, alice.email) == ("Alice A.", False, "alice@example.com")


def test_places_are_noted_once_a_minute(client: Client, alice: User) -> None:
    client.force_login(alice)
    client.get(reverse("accounts:account"))
    first = UserSession.objects.get()
    with CaptureQueriesContext(connection) as queries:
        client.get("/")
    assert sum("usersessions_usersession" in query["sql"] for query in queries) == 1
    UserSession.objects.update(last_seen_at=first.last_seen_at - timedelta(minutes=2))
    client.get(reverse("accounts:account"))
    assert UserSession.objects.get().last_seen_at > first.last_seen_at
    client.get(reverse("accounts:account"), headers={"User-Agent": "another browser"})
    assert UserSession.objects.get().user_agent == "another browser"
