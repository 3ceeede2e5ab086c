"""What others change and tell of while something is compiled from rows that are not yet theirs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection, transaction

from apimgr.accounts.models import Organisation, Role, User
from apimgr.accounts.services import add_member, create_organisation, disable_user, enable_user
from apimgr.catalog.models import Version
from apimgr.catalog.services import remove_selection, set_selection
from apimgr.catalog.services.life import deprecate_version, retire_version
from apimgr.catalog.services.publication import publish_version
from apimgr.products.services import LimitTerms, change_api_limits
from portal import services as portal
from portal.models import Application
from tests.changes import is_spoken_of, last_word
from tests.factories import make_api, make_plan, make_product, make_user, make_version
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
    """``first`` is told of and commits when ``second`` waits: to tell what it read before, or to read it."""

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


# Of two that speak of different things, neither is overtaken by the other: what both hang on has to be locked.
IN_EITHER_ORDER = pytest.mark.parametrize("order", [1, -1], ids=["", "the other way round"])


def in_order(order: int, *both: Callable[[], object]) -> None:
    while_untold(*both[::order])


@pytest.fixture
def draft(acme: Organisation) -> Version:
    found = make_version(make_api(acme), state="draft")
    make_plan(make_product(found))
    return found


@IN_EITHER_ORDER
def test_limits_of_an_api_hold_for_a_version_that_is_first_published_beside_them(draft: Version, order: int) -> None:
    in_order(
        order,
        lambda: publish_version(actor=None, version=draft),
        lambda: change_api_limits(actor=None, api=draft.api, limits=(LimitTerms("rate", 5, "second"),)),
    )
    assert [limit.amount for limit in last_word("version", draft.pk).limits] == [5]


@IN_EITHER_ORDER
def test_a_version_that_is_first_published_beside_the_end_of_a_shared_address_is_at_its_own(
    draft: Version, order: int
) -> None:
    set_selection(actor=None, api=draft.api, select_by="header", name="X-Version", base_path="/shared")
    in_order(
        order,
        lambda: publish_version(actor=None, version=draft),
        lambda: remove_selection(actor=None, api=draft.api),
    )
    assert last_word("route", draft.route.base_path).version_id == draft.pk
    assert not is_spoken_of("route", "/shared") or last_word("route", "/shared") is None


@pytest.fixture
def owner(db: None) -> User:
    return make_user("owner")


@IN_EITHER_ORDER
def test_an_organisation_whose_only_owner_comes_and_is_disabled_at_once_is_stopped(
    builders: Organisation, owner: User, order: int
) -> None:
    in_order(
        order,
        lambda: add_member(actor=None, organisation=builders, user=owner, role=Role.DEVELOPER),
        lambda: disable_user(actor=None, user=owner),
    )
    assert last_word("organisation", builders.pk).state == "suspended"


@IN_EITHER_ORDER
def test_an_organisation_whose_only_owner_comes_and_is_enabled_at_once_is_not(
    builders: Organisation, owner: User, order: int
) -> None:
    disable_user(actor=None, user=owner)
    in_order(
        order,
        lambda: add_member(actor=None, organisation=builders, user=owner, role=Role.DEVELOPER),
        lambda: enable_user(actor=None, user=owner),
    )
    assert not is_spoken_of("organisation", builders.pk) or last_word("organisation", builders.pk).state == "active"


@IN_EITHER_ORDER
def test_an_organisation_of_somebody_who_is_disabled_as_they_make_it_is_stopped(owner: User, order: int) -> None:
    in_order(
        order,
        lambda: create_organisation(actor=owner, name="Shed"),
        lambda: disable_user(actor=None, user=owner),
    )
    assert last_word("organisation", Organisation.objects.get(name="Shed").pk).state == "suspended"
