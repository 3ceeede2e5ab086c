"""What holds on every page: its security headers (security.md P5), and that looking changes nothing (P7)."""

from __future__ import annotations

from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apimgr.accounts.services import create_user
from tests.access import Row, World, make_world
from tests.architecture.test_access_matrix import TABLES, ask

GETS = sorted(name for name, rows in TABLES.items() if any(row.method == "get" for row in rows))
# The reference, whose component writes styles inline (interface.md); scripts stay strict there too.
INLINE_STYLES = {"portal:reference", "portal:docs-rest"}
# Looking at a page may note that one looked: the session's last use, and the key of a limit on signing in.
NOTED = {"django_session", "usersessions_usersession", "cache_entry"}


MOST_QUERIES = 15


def reader(row: Row) -> str | None:
    return None if row.anonymous else min(row.allowed, default=None)


def get(world: World, name: str) -> list[HttpResponse]:
    rows = [row for row in TABLES[name] if row.method == "get"]
    return [ask(world, reader(row), reverse(name, kwargs=row.kwargs(world)), row) for row in rows]


@pytest.mark.django_db
@pytest.mark.parametrize("name", GETS)
def test_every_page_carries_its_security_headers(name: str) -> None:
    for response in get(make_world(), name):
        assert response["X-Content-Type-Options"] == "nosniff"
        assert response["X-Frame-Options"] == "DENY"
        assert response["Cross-Origin-Opener-Policy"] == "same-origin"
        assert response["Referrer-Policy"] == "same-origin"
        policy = _directives(response["Content-Security-Policy"])
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["base-uri"] == policy["frame-ancestors"] == "'none'"
        assert "'unsafe-eval'" not in response["Content-Security-Policy"]
        assert "'unsafe-inline'" not in policy["style-src"] or name in INLINE_STYLES


def _directives(policy: str) -> dict[str, str]:
    parts = (part.strip().partition(" ") for part in policy.split(";") if part.strip())
    return {name: value for name, _space, value in parts}


@pytest.mark.django_db
@pytest.mark.parametrize("name", GETS)
def test_looking_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    rows = [row for row in TABLES[name] if row.method == "get"]
    for row in rows:
        # `ask` undoes what a request did; the count is taken inside, just before that.
        monkeypatch.setattr("tests.architecture.test_access_matrix.transaction.set_rollback", lambda _undo: None)
        path = reverse(name, kwargs=row.kwargs(world))
        ask(world, reader(row), path, row)  # makes the session, fills caches
        before |= counts()
        ask(world, reader(row), path, row)
        after |= counts()
    assert before == after


def counts() -> dict[str, int]:
    tables = {model._meta.db_table for model in apps.get_models(include_auto_created=True)} - NOTED
    with connection.cursor() as cursor:
        union = " UNION ALL ".join(f"SELECT '{table}', count(*) FROM \"{table}\"" for table in sorted(tables))
        cursor.execute(union)
        return dict(cursor.fetchall())


@pytest.mark.django_db
def test_a_form_without_its_token_changes_nothing() -> None:
    world = make_world()
    client = Client(enforce_csrf_checks=True)
    client.force_login(world.people["ada"])
    path = reverse("accounts:member-invite", kwargs={"slug": world.acme.slug})
    response = client.post(path, {"email": "new@example.com", "role": "viewer"})
    assert response.status_code == 403
    assert world.acme.invitations.count() == 1


@pytest.mark.django_db
def test_cookies_are_kept_from_scripts_and_other_sites(client: Client) -> None:
    create_user(actor=None, email="dev@example.com", password="a phrase for this test")
    client.get(reverse("account_login"))
    client.post(reverse("account_login"), {"login": "dev@example.com", "password": "a phrase for this test"})
    for name in (settings.SESSION_COOKIE_NAME, settings.CSRF_COOKIE_NAME):
        cookie = client.cookies[name]
        assert cookie["httponly"]
        assert cookie["samesite"] == "Lax"
        assert cookie["path"] == "/"
        assert not cookie["domain"]


@pytest.mark.django_db
@pytest.mark.parametrize("name", [name for name in GETS if not name.startswith("api-")])
def test_a_page_asks_the_database_few_times(name: str) -> None:
    world = make_world()
    for row in (row for row in TABLES[name] if row.method == "get"):
        client, person = Client(), reader(row)
        if person:
            client.force_login(world.people[person])
        path = reverse(name, kwargs=row.kwargs(world)) + row.query
        client.get(path)  # notes the session
        with CaptureQueriesContext(connection) as caught:
            client.get(path)
        asked = [query["sql"] for query in caught if not query["sql"].startswith(("SAVEPOINT", "RELEASE"))]
        assert len(asked) <= MOST_QUERIES, "\n".join(asked)
