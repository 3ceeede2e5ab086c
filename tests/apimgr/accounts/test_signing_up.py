"""Signing up, in and out, as a browser without scripts does it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.core import mail
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from apimgr.accounts.models import Role, User
from apimgr.accounts.services import create_user

pytestmark = pytest.mark.django_db
PASSWORD = "a phrase for this test alone"
NEXT = "/apis/orders/?plan=free"

# What the web-platform tests and PayloadsAllTheThings try, in our own selection: each leaves the site somewhere.
HOSTILE = [
    "http://evil.example/",
    "https://evil.example",
    "//evil.example",
    "///evil.example",
    "////evil.example/%2f..",
    "/\\evil.example",
    "\\\\evil.example",
    "\\/evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r\n/evil.example",
    " //evil.example",
    "\x01//evil.example",
    "http:evil.example",
    "https:///evil.example",
    "http:\\\\evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "ftp://evil.example",
    "/\u3000/evil.example",
    "〱evil.example",
    "//evil。example",
    "http://testserver@evil.example/",
    "http://testserver/",  # our own host too: relative means relative
    "testserver/apis/",
    "apis/orders/",
    "?next=//evil.example",
    "/ /evil.example",
    "/\x00/evil.example",
    "/" + "a" * 3000,
]


def code_of(message: Any) -> str:
    found = re.search(r"\b\d{6}\b", message.body)
    assert found, message.body
    return found[0]


def sign_up(client: Client, email: str = "new@example.com", next_url: str = "") -> HttpResponse:
    query = f"?next={next_url}" if next_url else ""
    return client.post(
        reverse("account_signup") + query,
        {"email": email, "password1": PASSWORD, **({"next": next_url} if next_url else {})},
    )


def test_a_developer_signs_up_with_a_code_and_lands_where_they_were_going(client: Client) -> None:
    response = sign_up(client, next_url=NEXT)
    assert response.url.startswith(reverse("account_email_verification_sent"))
    page = client.get(response.url)
    assert b"new@example.com" in page.content
    response = client.post(response.url, {"code": code_of(mail.outbox[0])})
    assert response.url == NEXT
    user = User.objects.get(email="new@example.com")
    assert client.session["_auth_user_id"] == str(user.pk)
    membership = user.memberships.get()
    assert membership.role == Role.ADMINISTRATOR
    assert not membership.organisation.is_publisher


def test_a_wrong_code_lets_nobody_in(client: Client) -> None:
    response = sign_up(client)
    right = code_of(mail.outbox[0])
    wrong = "000000" if right != "000000" else "111111"
    assert client.post(response.url, {"code": wrong}).status_code == 200
    assert "_auth_user_id" not in client.session


def test_guessing_codes_ends_the_attempt(client: Client) -> None:
    response = sign_up(client)
    right = code_of(mail.outbox[0])
    others = [code for code in ("000001", "000002", "000003", "000004", "000005") if code != right]
    for wrong in others[:4]:
        client.post(response.url, {"code": wrong})
    client.post(response.url, {"code": right})
    assert "_auth_user_id" not in client.session


@pytest.mark.parametrize("next_url", HOSTILE)
def test_next_never_leaves_the_site(client: Client, next_url: str) -> None:
    create_user(actor=None, email="dev@example.com", password=PASSWORD)
    response = client.post(
        reverse("account_login"), {"login": "dev@example.com", "password": PASSWORD, "next": next_url}
    )
    if "\0" in next_url:
        assert response.status_code == 400
        return
    assert response.status_code == 302
    assert response.url == reverse("home")


def test_a_path_of_ours_is_kept(client: Client) -> None:
    create_user(actor=None, email="dev@example.com", password=PASSWORD)
    response = client.post(reverse("account_login"), {"login": "DEV@example.com", "password": PASSWORD, "next": NEXT})
    assert response.url == NEXT


def test_sign_up_does_not_tell_who_has_an_account(client: Client) -> None:
    create_user(actor=None, email="taken@example.com", password=PASSWORD)
    known = sign_up(Client(), "taken@example.com")
    unknown = sign_up(Client(), "fresh@example.com")
    assert (known.status_code, known.url) == (unknown.status_code, unknown.url)
    assert mail.outbox[0].to == ["taken@example.com"]
    assert "already" in mail.outbox[0].body


def test_sign_in_does_not_tell_who_has_an_account() -> None:
    create_user(actor=None, email="taken@example.com", password=PASSWORD)
    answers = []
    for address in ("taken@example.com", "nobody@example.com"):
        response = Client().post(reverse("account_login"), {"login": address, "password": "wrong password"})
        answers.append((response.status_code, _without_tokens(response).replace(address, "")))
    assert answers[0] == answers[1]


def _without_tokens(response: HttpResponse) -> str:
    return re.sub(r'(csrfmiddlewaretoken" value="|X-CSRFToken": ")[^"]+', "", response.content.decode())


def test_sign_in_is_limited_per_account(client: Client) -> None:
    create_user(actor=None, email="dev@example.com", password=PASSWORD)
    for _ in range(5):
        client.post(reverse("account_login"), {"login": "dev@example.com", "password": "wrong password"})
    # Another browser, the right password: the limit is the account's, and lies in the database.
    other = Client()
    other.post(reverse("account_login"), {"login": "dev@example.com", "password": PASSWORD})
    assert "_auth_user_id" not in other.session


def test_a_password_is_reset_by_code_and_ends_other_sessions(client: Client) -> None:
    user = create_user(actor=None, email="dev@example.com", password=PASSWORD)
    elsewhere = Client()
    elsewhere.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    assert elsewhere.get(reverse("accounts:account")).status_code == 200
    response = client.post(reverse("account_reset_password"), {"email": "dev@example.com"})
    assert client.get(response.url).status_code == 200
    response = client.post(response.url, {"code": code_of(mail.outbox[0])})
    assert client.get(response.url).status_code == 200
    new = "another phrase, also long"
    response = client.post(response.url, {"password1": new, "password2": new})
    assert response.status_code == 302
    assert elsewhere.get(reverse("accounts:account")).status_code == 302
    user.refresh_from_db()
    assert user.check_password(new)


def test_changing_the_password_ends_other_sessions_and_keeps_this_one(client: Client) -> None:
    user = create_user(actor=None, email="dev@example.com", password=PASSWORD)
    elsewhere = Client()
    for browser in (client, elsewhere):
        browser.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    new = "another phrase, also long"
    form = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    assert client.post(reverse("account_change_password"), form).status_code == 302
    assert client.get(reverse("accounts:account")).status_code == 200
    assert elsewhere.get(reverse("accounts:account")).status_code == 302


def test_passwords_are_kept_with_argon2() -> None:
    user = create_user(actor=None, email="dev@example.com", password=PASSWORD)
    assert user.password.startswith("argon2$argon2id$")


def test_signing_in_makes_a_new_session(client: Client) -> None:
    create_user(actor=None, email="dev@example.com", password=PASSWORD)
    client.get(reverse("account_login"))
    session = client.session
    session["before"] = 1
    session.save()
    planted = session.session_key
    client.cookies["session"] = planted
    client.post(reverse("account_login"), {"login": "dev@example.com", "password": PASSWORD})
    assert client.session.session_key != planted
