from __future__ import annotations

import pytest
from django.test import Client
from django.urls import reverse

from apimgr.accounts.models import User

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("person", "place"),
    [
        ("alice", "catalog:overview"),
        ("victor", "catalog:overview"),
        ("dev", "portal:applications"),
        ("charlie", "portal:applications"),
        ("olga", "proxy:overview"),
    ],
)
def test_everyone_starts_where_their_work_is(
    client: Client, request: pytest.FixtureRequest, person: str, place: str
) -> None:
    user: User = request.getfixturevalue(person)
    client.force_login(user)
    assert client.get(reverse("home")).url == reverse(place)


def test_a_stranger_is_asked_to_sign_in(client: Client) -> None:
    assert client.get(reverse("home")).url.startswith(reverse("account_login"))
