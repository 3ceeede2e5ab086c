"""What others change and tell of while something is compiled from rows that are not yet theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import Version
from apimgr.catalog.services.life import deprecate_version, retire_version
from apimgr.catalog.services.publication import publish_version
from apimgr.products.services import LimitTerms, change_api_limits
from portal import services as portal
from portal.models import Application
from tests.changes import last_word
from tests.factories import make_api, make_plan, make_product, make_version
from tests.locks import somebody_waits

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def version(acme: Organisation) -> Version:
    found = make_version(make_api(acme))
    make_plan(make_product(found))
    return deprecate_version(actor=None, version=publish_version(actor=None, version=found))


@pytest.fixture
def application(builders: Organisation) -> Application:
    return portal.create_application(actor=None, organisation=builders, name="Shop")


def while_untold(first: Callable[[], object], second: Callable[[], object]) -> None:
    """``first`` is told of and commits when ``second``, which has read the rows of before, waits to tell."""

    def go() -> None:
        try:
            second()
        finally:
            connection.close()

    other = threading.Thread(target=go)
    with transaction.atomic():
        first()
        other.start()
        while not somebody_waits():
            assert other.is_alive()
    other.join()


def test_a_subscription_that_is_suspended_beside_another_stays_so(acme: Organisation, application: Application) -> None:
    plans = [make_plan(make_product(make_version(make_api(acme)))) for _ in range(2)]
    one, two = (portal.subscribe(actor=None, application=application, plan=plan) for plan in plans)
    while_untold(
        lambda: portal.suspend_subscription(actor=None, subscription=one),
        lambda: portal.suspend_subscription(actor=None, subscription=two),
    )
    assert [row.state for row in last_word("application", application.pk).subscriptions] == ["suspended"] * 2


def test_a_version_that_is_retired_beside_a_change_of_limits_stays_so(version: Version) -> None:
    while_untold(
        lambda: retire_version(actor=None, version=version),
        lambda: change_api_limits(actor=None, api=version.api, limits=(LimitTerms("rate", 5, "second"),)),
    )
    assert last_word("version", version.pk).state == "retired"


def test_a_key_that_is_revoked_while_all_is_compiled_stays_so(application: Application) -> None:
    key, _ = portal.issue_credential(actor=None, application=application)
    other, _ = portal.issue_credential(actor=None, application=application)
    while_untold(
        lambda: portal.revoke_credential(actor=None, credential=key),
        lambda: call_command("rebuild_gateway", stdout=StringIO()),
    )
    assert last_word("credential", bytes(key.digest).hex()).state == "revoked"
    assert last_word("credential", bytes(other.digest).hex()).state == "active"
