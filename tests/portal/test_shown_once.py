"""A key is shown once: then no page, no REST answer, no mail and no row has it again (K6)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from tests.access import World, make_world
from tests.architecture.test_access_matrix import NAMES, TABLES, ask
from tests.leaks import rows_with

pytestmark = pytest.mark.django_db

# Whoever may see anything of the application: its owner, the publisher it calls, the operator.
READERS = {"dev", "ada", "olga"}


def by_page(world: World, path: str) -> str:
    client = Client()
    client.force_login(world.people["dev"])
    page = client.post(path, {"name": "CI", "overlap": "3600"})
    secret: str = page.context["key"].secret
    assert secret in page.content.decode()
    assert "no-store" in page.headers["Cache-Control"]
    return secret


def by_rest(world: World, path: str) -> str:
    headers = {"Authorization": f"Bearer {world.secrets['dev']}"}
    named = {} if path.endswith("/roll") else {"name": "CI"}
    answer = Client().post(path, named, content_type="application/json", headers=headers)
    assert "no-store" in answer.headers["Cache-Control"]
    secret: str = answer.json()["key"]
    return secret


WAYS: list[tuple[Callable[[World, str], str], str, Callable[[World], int]]] = [
    (by_page, "portal:credential-new", lambda world: world.application.pk),
    (by_rest, "api-application-credentials", lambda world: world.application.pk),
    (by_page, "portal:credential-roll", lambda world: world.credential.pk),
    (by_rest, "api-credential-roll", lambda world: world.credential.pk),
]


@pytest.mark.requirement("K6.1", "K3.1")
def test_a_key_is_shown_once() -> None:
    world = make_world()
    secrets = [show(world, reverse(name, args=[of(world)])) for show, name, of in WAYS]
    assert len(set(secrets)) == len(WAYS)
    hidden = [secret.rpartition("_")[2][6:43] for secret in secrets]  # what follows the part shown for recognition
    assert rows_with(hidden) == []
    assert not any(each in str(message.message()) for message in mail.outbox for each in hidden)
    asked = 0
    for name in NAMES:
        for row in TABLES.get(name, ()):
            if row.method != "get":
                continue
            for person in sorted(row.allowed & READERS):
                answer = ask(world, person, reverse(name, kwargs=row.kwargs(world)), row)
                asked += 1
                body = b"" if answer.streaming else answer.content
                said = body + str(answer.headers).encode()
                assert not any(each.encode() in said for each in hidden), f"{name} shows it to {person}"
    assert asked > 100
