"""Versions of an API at one address: services, page, REST, and what of it reaches the gateways."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog import services
from apimgr.catalog.models import API, Selection, Version
from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import ChoiceDocument, RouteDocument, VersionDocument
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from apimgr.products.models import Product
from proxy.models import GatewayChange
from tests.apimgr.catalog.test_api import Caller
from tests.factories import make_api, make_organisation, make_plan, make_product, make_version

PAGE = "/console/apis/orders/settings/selection/"
CHOSEN: dict[str, Any] = {"select_by": "header", "name": "X-Api-Version", "base_path": "/orders"}


@pytest.fixture
def api(acme: Organisation, alice: User) -> API:
    """Orders with v1 and v2 published at /orders/v1 and /orders/v2."""
    api = make_api(acme, "Orders")
    product = None
    for name in ("v1", "v2"):
        version = make_version(api, name, state="draft")
        if product is None:
            product = make_product(version)
            make_plan(product)
        product.versions.add(version)
        services.publish_version(actor=alice, version=version)
    return api


@pytest.fixture
def console(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def version(api: API, name: str) -> Version:
    return Version.objects.get(api=api, name=name)


def log() -> dict[str, Any]:
    """What gateways know of addresses: the last word on each that has one."""
    last: dict[str, Any] = {}
    for change in GatewayChange.objects.filter(kind="route").order_by("sequence"):
        last[change.key] = snapshot.load(change.document) if change.document else None
    return {key: document for key, document in last.items() if document is not None}


def test_all_versions_move_to_one_address_in_one_transaction(api: API, alice: User) -> None:
    assert set(log()) == {"/orders/v1", "/orders/v2"}
    before = GatewayChange.objects.latest("sequence").sequence
    services.set_selection(actor=alice, api=api, **CHOSEN, default_version="v1", values={"v1": "2024-10-01", "v2": ""})
    one, two = version(api, "v1"), version(api, "v2")
    assert log() == {
        "/orders": RouteDocument(
            "",
            "/orders",
            one.pk,
            "header",
            "X-Api-Version",
            (ChoiceDocument("2024-10-01", one.pk), ChoiceDocument("v2", two.pk)),
        )
    }
    changes = GatewayChange.objects.filter(sequence__gt=before)
    assert {(change.kind, change.key, change.document is None) for change in changes} == {
        ("route", "/orders", False),
        ("route", "/orders/v1", True),
        ("route", "/orders/v2", True),
        ("version", str(one.pk), False),
        ("version", str(two.pk), False),
    }
    served = [snapshot.load(change.document or "") for change in changes if change.kind == "version"]
    assert {document.base_path for document in served if isinstance(document, VersionDocument)} == {"/orders"}
    entry = AuditEntry.objects.get(action="catalog.api.selection_set")
    assert entry.data == {"by": "header field", "name": "X-Api-Version", "address": "/orders", "default": "v1"}


def test_and_back(api: API, alice: User) -> None:
    before = log()
    services.set_selection(actor=alice, api=api, **CHOSEN)
    services.remove_selection(actor=alice, api=api)
    assert log() == before
    services.remove_selection(actor=alice, api=api)  # nothing to remove
    assert AuditEntry.objects.filter(action="catalog.api.selection_removed").count() == 1


def test_the_shared_address_may_be_one_that_a_version_has(api: API, alice: User) -> None:
    services.set_selection(actor=alice, api=api, **CHOSEN | {"base_path": "/orders/v1"}, default_version="v1")
    assert set(log()) == {"/orders/v1"}
    services.deprecate_version(actor=alice, version=version(api, "v1"))
    services.deprecate_version(actor=alice, version=version(api, "v2"))
    assert log()["/orders/v1"].select_by == "header"
    services.remove_selection(actor=alice, api=api)
    assert {key: route.version_id for key, route in log().items()} == {
        "/orders/v1": version(api, "v1").pk,
        "/orders/v2": version(api, "v2").pk,
    }
    services.restore_version(actor=alice, version=version(api, "v2"))
    assert "/orders/v1" in log()


def test_a_moved_address_is_given_up_and_kept_from_others(api: API, alice: User, oscar: User) -> None:
    services.set_selection(actor=alice, api=api, **CHOSEN)
    services.set_selection(actor=alice, api=api, **CHOSEN | {"base_path": "/moved"})
    assert set(log()) == {"/moved"}
    assert Selection.objects.filter(api=api).count() == 2
    stranger = make_api(make_organisation("Others"), "Bait")
    bait = make_version(stranger, "v1", state="draft")
    for taken in ("/orders", "/orders/inner", "/moved", "/orders/v1"):
        with pytest.raises(Conflict):
            services.set_route(actor=None, version=bait, base_path=taken)
        with pytest.raises(Conflict):
            services.set_selection(actor=None, api=stranger, **CHOSEN | {"base_path": taken})
    services.set_selection(actor=alice, api=api, **CHOSEN)
    assert set(log()) == {"/orders"}
    assert Selection.objects.filter(api=api).count() == 2


def test_a_new_version_joins_when_it_is_published_and_a_retired_one_stays(api: API, alice: User) -> None:
    services.set_selection(actor=alice, api=api, **CHOSEN, default_version="v1")
    third = make_version(api, "v3", state="draft")
    Product.objects.get().versions.add(third)
    services.set_selection(actor=alice, api=api, **CHOSEN, default_version="v3")
    assert (log()["/orders"].version_id, len(log()["/orders"].choices)) == (0, 2), "a draft answers no call"
    services.publish_version(actor=alice, version=third)
    assert (log()["/orders"].version_id, len(log()["/orders"].choices)) == (third.pk, 3)
    services.deprecate_version(actor=alice, version=version(api, "v1"))
    services.retire_version(actor=alice, version=version(api, "v1"))
    assert ChoiceDocument("v1", version(api, "v1").pk) in log()["/orders"].choices


BAD = {
    "credential": ({"name": "Authorization"}, "name"),
    "our key": ({"name": "x-api-key"}, "name"),
    "hop by hop": ({"name": "Connection"}, "name"),
    "framing": ({"name": "Content-Length"}, "name"),
    "identity": ({"name": "X-Forwarded-Host"}, "name"),
    "secret parameter": ({"select_by": "query", "name": "access_token"}, "name"),
    "odd name": ({"name": "X_Version"}, "name"),
    "two lines": ({"name": "X\r\nY"}, "name"),
    "no name": ({"name": ""}, "name"),
    "no way to choose": ({"select_by": "cookie"}, "select_by"),
    "no path": ({"base_path": "/a/../b"}, "base_path"),
    "no host": ({"host": "a b"}, "host"),
    "another API's address": ({"base_path": "/other/v1"}, "base_path"),
    "no such default": ({"default_version": "v9"}, "default_version"),
    "odd value": ({"values": {"v1": "a b"}}, "values"),
    "long value": ({"values": {"v1": "x" * 41}}, "values"),
    "one value for two": ({"values": {"v1": "v2"}}, "values"),
    "no such version": ({"values": {"v9": "a"}}, "values"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_with_its_reason_on_page_and_rest(
    api: API, acme: Organisation, alice: User, console: Client, case: str
) -> None:
    other = make_version(make_api(acme, "Other"), "v1", state="draft")
    Product.objects.get().versions.add(other)
    services.publish_version(actor=alice, version=other)
    before = GatewayChange.objects.count()
    changes, field = BAD[case]
    given: dict[str, Any] = CHOSEN | changes
    with pytest.raises(DomainError) as error:
        services.set_selection(actor=alice, api=api, **given)
    assert field in error.value.fields
    problem = Caller(alice, acme)("put", "apis/orders/selection", given, status=error.value.status)
    assert problem["fields"][field]
    values = given.pop("values", {})
    response = console.post(PAGE, given | {f"value-{name}": value for name, value in values.items()})
    if case != "no such version":  # the page has no field for it
        assert response.status_code == 422
        errors = response.context["selection_form"].errors
        assert set(errors) == {{"one value for two": "value-v2"}.get(case, "value-v1") if values else field}
        assert GatewayChange.objects.count() == before
        assert not Selection.objects.exists()


def test_the_page_sets_and_ends_it(api: API, console: Client) -> None:
    page = console.get("/console/apis/orders/settings/").content.decode()
    assert 'value="X-Api-Version"' in page
    form = {"select_by": "query", "name": "api-version", "base_path": "/orders", "default_version": "v2"}
    response = console.post(PAGE, form | {"value-v1": "2024-10-01", "value-v2": "v2"})
    assert response.status_code == 302
    assert log()["/orders"].select_name == "api-version"
    page = console.get(response["Location"]).content.decode()
    assert 'value="2024-10-01"' in page
    for place in ("", "versions/", "gateway/?version=v1", "settings/"):
        page = console.get(f"/console/apis/orders/{place}").content.decode()
        assert place == "settings/" or "?api-version=2024-10-01" in page
    assert console.post(PAGE, form | {"select_by": ""}).status_code == 302
    assert set(log()) == {"/orders/v1", "/orders/v2"}


def test_over_rest(api: API, alice: User, acme: Organisation) -> None:
    call = Caller(alice, acme)
    by_path = call("get", "apis/orders/selection")
    assert by_path == {
        "select_by": "path",
        "name": "",
        "host": "",
        "base_path": "",
        "default_version": "",
        "values": {"v1": "v1", "v2": "v2"},
    }
    shown = call("put", "apis/orders/selection", CHOSEN | {"default_version": "v1", "values": {"v2": "2"}})
    assert shown == CHOSEN | {"host": "", "default_version": "v1", "values": {"v1": "v1", "v2": "2"}}
    assert call("get", "apis/orders/selection") == shown
    assert call("put", "apis/orders/selection", CHOSEN)["default_version"] == ""
    assert call("put", "apis/orders/selection", {"select_by": "path"}) == by_path | {"values": {"v1": "v1", "v2": "2"}}
    assert set(log()) == {"/orders/v1", "/orders/v2"}


def test_values_may_change_places(api: API, alice: User) -> None:
    services.set_selection(actor=alice, api=api, **CHOSEN, values={"v1": "v2", "v2": "v1"})
    assert [choice.value for choice in log()["/orders"].choices] == ["v2", "v1"]
    services.set_selection(actor=alice, api=api, **CHOSEN, values={"v1": "v3", "v2": "v2"})
    with pytest.raises(Conflict, match="chooses another version"):
        services.add_version(actor=alice, api=api, name="v3")


def test_other_settings_of_the_api_saved_at_the_same_time_leave_it_alone(api: API, alice: User) -> None:
    read_before = API.objects.get(pk=api.pk)
    services.set_selection(actor=alice, api=api, **CHOSEN)
    services.update_api(actor=alice, api=read_before, summary="Changed")
    assert str(API.objects.get(pk=api.pk).selection) == "/orders"


def test_only_who_may_publish(api: API, victor: User, charlie: User) -> None:
    for person, refusal in ((victor, NotAllowed), (charlie, NotFound)):
        with pytest.raises(refusal):
            services.set_selection(actor=person, api=api, **CHOSEN)
        with pytest.raises(refusal):
            services.remove_selection(actor=person, api=api)


def test_who_is_in_the_way_is_named_only_to_those_who_may_know(api: API, alice: User) -> None:
    services.set_selection(actor=alice, api=api, **CHOSEN)
    others = make_organisation("Others")
    hidden = make_api(others, "Hidden", visibility="private")
    services.set_selection(actor=None, api=hidden, **CHOSEN | {"base_path": "/hidden"})
    with pytest.raises(Conflict) as taken:
        services.set_selection(actor=alice, api=api, **CHOSEN | {"base_path": "/hidden"})
    assert "Hidden" not in taken.value.message
    with pytest.raises(Conflict) as own:
        services.set_selection(actor=alice, api=make_api(api.organisation, "Second"), **CHOSEN)
    assert "Orders" in own.value.message


def test_the_pages_cost_the_same_for_many_versions(api: API, console: Client, alice: User) -> None:
    services.set_selection(actor=alice, api=api, **CHOSEN)

    def cost() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert console.get("/console/apis/orders/settings/").status_code == 200
        return len(queries)

    cost()
    few = cost()
    for number in range(3, 12):
        make_version(api, f"v{number}", state="draft")
    assert cost() == few


def test_json_of_a_shared_route_is_what_nodes_read(api: API, alice: User) -> None:
    services.set_selection(actor=alice, api=api, **CHOSEN)
    change = GatewayChange.objects.get(kind="route", key="/orders")
    assert json.loads(change.document or "")["choices"][0]["value"] == "v1"


def test_who_retires_the_default_is_told_whom_else_it_cuts_off(console: Client, api: API, alice: User) -> None:
    versions, retire = "/console/apis/orders/versions/", "/console/apis/orders/versions/{}/retire/"
    warning = "Calls that do not send <code>X-Api-Version</code> get it, and will be answered 410, too."
    settings = '<a href="/console/apis/orders/settings/#selection">'
    for name in ("v1", "v2"):
        services.deprecate_version(actor=alice, version=version(api, name))
    assert warning not in console.get(versions).content.decode(), "each version has its own address"
    services.set_selection(actor=alice, api=api, **CHOSEN, default_version="v1")
    page = console.get(versions).content.decode()
    assert (page.count(warning), page.count(settings)) == (1, 1)
    assert page.index("Retire Orders v2?") < page.index("Retire Orders v1?") < page.index(warning), (
        "in the dialog of the default"
    )
    said = console.post(retire.format("v2"), follow=True).content.decode()
    assert "Calls that name no version" not in said
    said = console.post(retire.format("v1"), follow=True).content.decode()
    assert "Calls that name no version are answered 410, too." in said
