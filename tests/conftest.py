"""The cast: Alice publishes, Oscar owns the product, Dev builds, Victor only looks, Ada administers, Olga operates the
platform, and Charlie is a stranger who tries every door."""

from __future__ import annotations

import socket
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.db import connection
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django import DjangoDbBlocker

from apimgr.accounts.models import Organisation, Role, User
from tests.factories import make_member, make_organisation, make_user

pytest_plugins = ["tests.here", "tests.browser", "tests.redis_server", "tests.stack"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keys", type=int, default=100_000, help="how many keys to generate and compare")
    parser.addoption("--update-golden", action="store_true", help="write the snapshots in tests/golden anew")


# Examples are judged by what they do, not by how long a busy machine takes over them.
hypothesis_settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("unhurried")


def pytest_configure() -> None:
    # Hashed names need `collectstatic`; tests serve the files as they lie in static/.
    settings.STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}
    # WhiteNoise warns of a folder that `collectstatic` has not made, and warnings are errors.
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Quotas of a day and a month begin anew at midnight (UTC): nothing that spends them begins shortly before.

    As much before as a test may take; and outside of that time, which a fixture would have to share.
    """
    left = 86_400 - time.time() % 86_400
    if left < float(item.config.getini("timeout") or 0) and item.get_closest_marker("processes"):
        time.sleep(left)
    return (yield)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A thread or process of a test may hold its session to the end, and a database in use cannot be dropped."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


@pytest.fixture(scope="session", autouse=True)
def names_of_nobody() -> Iterator[None]:
    """Only this machine has a name: no resolver is asked, which might hang or make some address up."""
    ask = socket.getaddrinfo

    def answer(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002
        if host not in {None, "", "localhost"}:
            flags |= socket.AI_NUMERICHOST
        return ask(host, port, family, type, proto, flags)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", answer)
        yield


@pytest.fixture(autouse=True)
def limits_start_anew(request: pytest.FixtureRequest) -> Iterator[None]:
    """Limits on signing in lie in a table that Django does not know; after a committed test they would stay."""
    if not {"transactional_db", "live_server"} & set(request.fixturenames):
        yield
        return
    request.getfixturevalue("transactional_db")
    yield
    cache.clear()


@pytest.fixture
def acme(db: None) -> Organisation:
    return make_organisation("Acme")


@pytest.fixture
def alice(acme: Organisation) -> User:
    return make_member(make_user("alice"), acme, Role.PUBLISHER).user


@pytest.fixture
def ada(acme: Organisation) -> User:
    return make_member(make_user("ada"), acme, Role.ADMINISTRATOR).user


@pytest.fixture
def oscar(acme: Organisation) -> User:
    return make_member(make_user("oscar"), acme, Role.PRODUCT_OWNER).user


@pytest.fixture
def victor(acme: Organisation) -> User:
    return make_member(make_user("victor"), acme, Role.VIEWER).user


@pytest.fixture
def builders(db: None) -> Organisation:
    return make_organisation("Builders", is_publisher=False)


@pytest.fixture
def dev(builders: Organisation) -> User:
    return make_member(make_user("dev"), builders, Role.ADMINISTRATOR).user


@pytest.fixture
def charlie(db: None) -> User:
    return make_member(
        make_user("charlie"), make_organisation("Strangers", is_publisher=False), Role.ADMINISTRATOR
    ).user


@pytest.fixture
def olga(db: None) -> User:
    return make_user("olga", is_operator=True)
