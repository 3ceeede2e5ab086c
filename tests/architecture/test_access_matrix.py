"""Every URL × every person (security.md P1). A URL that no table lists fails, and so does a row without a URL."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from tests.access import EVERYONE, PEOPLE, Row, World, make_world

TESTS = Path(__file__).resolve().parent.parent
METHODS = ("get", "post", "put", "patch", "delete")


def url_names(patterns: list[Any], prefix: str = "") -> Iterator[str]:
    for entry in patterns:
        if isinstance(entry, URLResolver):
            namespace = f"{prefix}{entry.namespace}:" if entry.namespace else prefix
            yield from url_names(entry.url_patterns, namespace)
        elif isinstance(entry, URLPattern):
            yield prefix + (entry.name or f"<unnamed {entry.pattern}>")


def tables() -> dict[str, tuple[Row, ...]]:
    found: dict[str, tuple[Row, ...]] = {}
    for path in sorted(TESTS.glob("*/**/access.py")):
        module = importlib.import_module(".".join(path.relative_to(TESTS.parent).with_suffix("").parts))
        for name, rows in module.ACCESS.items():
            assert name not in found, f"{name} is listed twice"
            found[name] = rows if isinstance(rows, tuple) else (rows,)
    return found


NAMES = sorted(set(url_names(get_resolver().url_patterns)))
TABLES = tables()


def ask(world: World, person: str | None, path: str, row: Row, method: str = "") -> HttpResponse:
    """One request as ``person`` (nobody for ``None``), undone afterwards so that the next finds the same world."""
    client = Client(raise_request_exception=True)
    headers, content_type = {}, None
    if path.startswith("/api/"):
        content_type = "application/json"
        if person:
            headers["Authorization"] = f"Bearer {world.secrets[person]}"
    elif person:
        client.force_login(world.people[person])
    extra: dict[str, Any] = {"headers": headers}
    payload = row.payload(world)
    method = method or row.method
    if method != "get" and content_type:
        extra["content_type"] = content_type
    with transaction.atomic():
        response = getattr(client, method)(path + row.query, payload, **extra)
        if getattr(response, "streaming", False):
            response.close()
        transaction.set_rollback(True)
    return response


def turned_away(response: HttpResponse) -> bool:
    to_login = response.status_code == 302 and response["Location"].startswith(reverse(settings.LOGIN_URL))
    return to_login or response.status_code in {401, 403, 404}


@pytest.mark.django_db
@pytest.mark.parametrize("name", NAMES)
def test_only_the_listed_people_get_in(name: str) -> None:
    assert name in TABLES, f"{name} has no row: add one to the app's tests/**/access.py"
    world = make_world()
    for row in TABLES[name]:
        path = reverse(name, kwargs=row.kwargs(world))
        for person in (None, *PEOPLE):
            response = ask(world, person, path, row)
            may = row.anonymous if person is None else person in row.allowed
            verdict = f"{person or 'anonymous'} {row.method.upper()} {path} → {response.status_code}"
            assert turned_away(response) != may, f"{verdict}, but {'may' if may else 'must not'} get in"
            assert response.status_code < 500, verdict
            assert not may or response.status_code != 405, f"{verdict}: the row names the wrong method"


@pytest.mark.django_db
@pytest.mark.parametrize("name", sorted(name for name, rows in TABLES.items() if name in NAMES))
def test_a_stranger_finds_no_door_by_another_method(name: str) -> None:
    """Charlie and Rita, of other tenants, try each method on what no row opens to them."""
    world = make_world()
    rows = TABLES[name]
    for person in ("charlie", "rita"):
        open_methods = {row.method for row in rows if person in row.allowed}
        if open_methods:
            continue
        for method in METHODS:
            response = ask(world, person, reverse(name, kwargs=rows[0].kwargs(world)), rows[0], method)
            verdict = f"{person} {method.upper()} {name} → {response.status_code}"
            assert turned_away(response) or response.status_code == 405, verdict


def test_no_row_outlives_its_url() -> None:
    assert not TABLES.keys() - set(NAMES)


def test_rows_name_known_people() -> None:
    assert not {person for rows in TABLES.values() for row in rows for person in row.allow} - EVERYONE
