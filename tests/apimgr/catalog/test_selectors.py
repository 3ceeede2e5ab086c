from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apimgr.accounts.models import Organisation, User
from apimgr.catalog import selectors
from apimgr.catalog.models import Operation
from apimgr.core.errors import NotFound
from tests.factories import make_api, make_organisation, make_version


def test_others_see_nothing(acme: Organisation, alice: User, victor: User, charlie: User, olga: User) -> None:
    version = make_version(make_api(acme, "Orders"), state="draft")
    for viewer in (alice, victor):
        assert selectors.api_for(viewer, "orders") == version.api
        assert selectors.version_for(viewer, "orders", "v1") == version
        assert selectors.specification_for(viewer, version.specification_id or 0) == version.specification
        assert list(selectors.specifications_for(viewer, version.api)) == [version.specification]
    for viewer in (charlie, olga):
        assert not selectors.apis_for(viewer)
        assert not selectors.specifications_for(viewer, version.api)
        for ask in (
            lambda who: selectors.api_for(who, "orders"),
            lambda who: selectors.version_for(who, "orders", "v1"),
            lambda who: selectors.specification_for(who, version.specification_id or 0),
        ):
            with pytest.raises(NotFound):
                ask(viewer)


def test_catalogue_shows_what_is_public_and_live(acme: Organisation) -> None:
    make_version(make_api(acme, "Live"))
    make_version(make_api(acme, "Old"), state="deprecated")
    make_version(make_api(acme, "Draft"), state="draft")
    make_version(make_api(acme, "Gone"), state="retired")
    make_version(make_api(acme, "Secret", visibility="private"))
    assert [api.name for api in selectors.public_apis()] == ["Live", "Old"]
    assert [version.name for version in selectors.public_apis()[0].live_versions] == ["v1"]
    for slug in ("draft", "gone", "secret"):
        with pytest.raises(NotFound):
            selectors.public_api(slug)
        with pytest.raises(NotFound):
            selectors.public_version(slug, "v1")


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("order", ["Orders", "Shop"]),  # in the name comes before in the description
        ("ORD", ["Orders", "Shop"]),
        ("invoice", ["Shop"]),  # a word of a path
        ("take order", ["Shop"]),
        ("the orders", ["Orders", "Shop"]),
        ("a_b \x00 ª ½ 日本", []),
        ("nothing", []),
        ("  ", ["Orders", "Shop"]),
        ("'); drop & | ! <-> :*", []),
    ],
)
def test_search(acme: Organisation, search: str, found: list[str]) -> None:
    make_version(make_api(acme, "Orders", summary="What was bought"))
    shop = make_version(make_api(acme, "Shop", description="Takes orders."))
    Operation.objects.create(version=shop, method="GET", path="/invoices/{invoiceId}")
    assert [api.name for api in selectors.public_apis(search)] == found


def test_queries_do_not_grow_with_rows(acme: Organisation, alice: User) -> None:
    def count() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            for version in selectors.versions_for(alice):
                assert str(version)
                assert version.route.base_path
                assert version.upstream.url
                assert version.specification.title
            for api in selectors.public_apis("get"):
                assert api.organisation.name
                assert [version.route.base_path for version in api.live_versions]
        return len(queries)

    make_version(make_api(acme))
    one = count()
    for _ in range(19):
        make_version(make_api(acme))
    assert count() == one


def test_lists_leave_the_documents_in_the_database(acme: Organisation, alice: User) -> None:
    version = make_version(make_api(acme, "Orders"))
    with CaptureQueriesContext(connection) as queries:
        list(selectors.versions_for(alice))
        list(selectors.specifications_for(alice, version.api))
    assert not [query for query in queries if '"document",' in query["sql"] or '"raw"' in query["sql"]]


def test_organisation_that_lost_its_apis_rights_sees_none(alice: User, acme: Organisation) -> None:
    make_version(make_api(acme, "Orders"))
    acme.is_publisher = False
    acme.save()
    assert not selectors.apis_for(alice)
    assert make_organisation().is_publisher
