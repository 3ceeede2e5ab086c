"""The declarative file: what it stands for, and what is said of one that is wrong."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import jsonschema
import pytest

from apimgr.contracts.snapshot import (
    ApplicationDocument,
    ChoiceDocument,
    CredentialDocument,
    Document,
    LimitDocument,
    PlanDocument,
    RouteDocument,
    VersionDocument,
)
from apimgr.env import BASE_DIR
from proxy.dataplane.replica import declaration
from proxy.dataplane.replica.declaration import InvalidDeclaration

DIGEST = "ab" * 32
FILE = f"""
apimgr: 1
apis:
  - name: Orders
    versions:
      - name: v1
        base_path: /orders/v1
        upstream: http://127.0.0.1:9000/
        operations: [GET /items, "GET /items/{{id}}", POST /items]
        limits:
          - {{rate: 1000, per: second}}
          - {{concurrency: 5, operation: POST /items}}
  - name: Events
    versions:
      - name: "2024"
        host: api.example.com
        base_path: /events/2024
        upstream: {{url: "http://127.0.0.1:9001", read_timeout_ms: 60000}}
        authentication: none
      - name: "2025"
        base_path: /events/2025
        upstream: "http://127.0.0.1:9002"
        upgrades: [websocket]
        sunset_at: 2027-01-01
plans:
  - name: Free
    apis: [Orders]
    without_grantor: closed
    limits:
      - {{rate: 60, per: minute}}
      - {{quota: 1000, per: month}}
      - {{rate: 5, per: minute, api: Orders, version: v1, operation: POST /items}}
applications:
  - name: Shop
    plans: [Free]
    keys:
      - {{digest: "blake2b:{DIGEST}", expires_at: 2027-01-01 12:00, test: true}}
"""
T = TypeVar("T")
NEW_YEAR = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())


def documents(text: str = FILE) -> list[Document]:
    return declaration.parse(text)


def only(kind: type[T], text: str = FILE) -> list[T]:
    return [document for document in documents(text) if isinstance(document, kind)]


def test_versions_and_their_addresses() -> None:
    orders, former, latest = only(VersionDocument)
    assert orders.upstream.url == "http://127.0.0.1:9000"
    assert [(entry.method, entry.path) for entry in orders.operations][1] == ("GET", "/items/{id}")
    assert (orders.unknown_operation, former.unknown_operation) == ("refuse", "pass")
    assert (former.authentication, former.upstream.read_timeout_ms) == ("none", 60_000)
    assert (latest.upgrades, latest.sunset_at) == (("websocket",), NEW_YEAR)
    assert [(route.key, route.version_id) for route in only(RouteDocument)] == [
        ("/orders/v1", orders.id),
        ("api.example.com/events/2024", former.id),
        ("/events/2025", latest.id),
    ]


def test_limits_of_an_api_and_of_a_plan() -> None:
    orders = only(VersionDocument)[0]
    post = orders.operations[2].id
    assert [(limit.kind, limit.amount, limit.period, limit.operation_id) for limit in orders.limits] == [
        ("rate", 1000, "second", 0),
        ("concurrency", 5, "none", post),
    ]
    (plan,) = only(PlanDocument)
    assert plan.without_grantor == "closed"
    assert [(limit.kind, limit.amount, limit.period) for limit in plan.limits[:2]] == [
        ("rate", 60, "minute"),
        ("quota", 1000, "month"),
    ]
    assert plan.limits[2] == LimitDocument(plan.limits[2].id, "rate", 5, "minute", orders.api_id, post)


def test_limits_of_two_versions_are_two_limits() -> None:
    """What is spent of one is not of the other: they are counted by their ids."""
    text = """
apimgr: 1
apis:
  - name: Orders
    versions:
      - {name: v1, base_path: /v1, upstream: "http://a", operations: [GET /a], limits: &limits [
          {quota: 5, per: day}, {quota: 2, per: day, operation: GET /a}]}
      - {name: v2, base_path: /v2, upstream: "http://a", operations: [GET /a], limits: *limits}
plans:
  - name: Free
    apis: [Orders]
    limits:
      - {quota: 2, per: day, api: Orders, version: v1, operation: GET /a}
      - {quota: 2, per: day, api: Orders, version: v2, operation: GET /a}
"""
    (plan,) = only(PlanDocument, text)
    limits = [limit for owner in (*only(VersionDocument, text), plan) for limit in owner.limits]
    assert len({limit.id for limit in limits}) == len(limits) == 6


def test_applications_and_their_keys() -> None:
    (application,) = only(ApplicationDocument)
    (plan,) = only(PlanDocument)
    (credential,) = only(CredentialDocument)
    assert [subscription.plan_id for subscription in application.subscriptions] == [plan.id]
    assert application.subscriptions[0].product_id in only(VersionDocument)[0].product_ids
    assert (credential.digest, credential.application_id, credential.test) == (DIGEST, application.id, True)
    assert credential.expires_at == NEW_YEAR + 12 * 3600


def test_what_ended_before_there_were_dates_has_ended() -> None:
    """0 is never."""
    (credential,) = only(CredentialDocument, FILE.replace("2027-01-01 12:00", "1960-01-01"))
    assert credential.expires_at == 1


def test_ids_last_as_long_as_names() -> None:
    assert documents() == documents(FILE + "  - {name: Another, plans: [Free]}\n")[:-1]


def test_json_is_yaml_too() -> None:
    text = json.dumps({"apimgr": 1, "apis": [{"name": "A", "versions": [
        {"name": "v1", "base_path": "/", "upstream": "http://up"}]}]})  # fmt: skip
    assert only(RouteDocument, text)[0].key == "/"


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("apis: [Orders]", "apis: [Orderz]", "plan 'Free' names the API 'Orderz'"),
        ("plans: [Free]", "plans: [Fre]", "application 'Shop' names the plan 'Fre'"),
        ("base_path: /orders/v1", "base_path: orders", "at apis[0].versions[0].base_path"),
        ("host: api.example.com", "host: api.example.com:8443", "at apis[1].versions[0].host"),
        ("host: api.example.com", "host: API.example.com", "at apis[1].versions[0].host"),
        ("base_path: /orders/v1", "base_path: /orders/../v1", "at apis[0].versions[0].base_path"),
        ("{rate: 60, per: minute}", "{rate: 60}", "at plans[0].limits[0]: a limit is a rate per second"),
        ("{quota: 1000, per: month}", "{quota: 0, per: month}", "at plans[0].limits[1]"),
        ("{quota: 1000, per: month}", "{quota: 5, rate: 5, per: day}", "a limit is a rate"),
        ("apimgr: 1", "apimgr: 2", "at apimgr: 1 was expected"),
        ("apimgr: 1", "apimgr: 1\nmore: 1", "'more' was unexpected"),
        ("apimgr: 1", "apimgr: 1\napimgr: 1", "'apimgr' is there twice"),
        ('name: "2025"', 'name: "2024"', "two versions of 'Events' are named '2024'"),
        ("name: Events", "name: Orders", "two apis are named 'Orders'"),
        ("base_path: /events/2025", "base_path: /orders/v1", "the route '/orders/v1' is there twice"),
        ("base_path: /orders/v1", "state: published", "'base_path' is a required property"),
        ("upgrades: [websocket]", "upgrades: [h2c]", "at apis[1].versions[1].upgrades[0]"),
        ("POST /items]", "FETCH /items]", "at apis[0].versions[0].operations[2]"),
        ("http://127.0.0.1:9000/", "ftp://127.0.0.1", "at apis[0].versions[0].upstream"),
        ("upgrades: [websocket]", "websocket_origins: [example.com]", "'example.com' is no origin of a browser"),
        ("upgrades: [websocket]", "tunnel_idle_ms: 1", "at apis[1].versions[1].tunnel_idle_ms"),
        (DIGEST, "12", "at applications[0].keys[0].digest"),
        ("2027-01-01 12:00", '"2027-13-01"', "'2027-13-01' is no date or time: month"),
        ("2027-01-01 12:00", "soon", "'soon' will not do: A date such as 2027-01-01"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:99999", "the upstream 'http://127.0.0.1:99999' is not"),
        ("http://127.0.0.1:9000/", "http://[::1", "version 'v1': the upstream 'http://[::1' is not"),
        ("{quota: 1000, per: month}", "{rate: 9, per: minute}", "plan 'Free': there are two limits (rate, per minute)"),
        ("{quota: 1000, per: month}", "{concurrency: 65536}", "plan 'Free': a limit (concurrency) is 65536"),
        ("apimgr: 1", "apimgr: 1\n? [a]\n: b", "a field has no name"),
        ("apimgr: 1", "apimgr: &a [*a]", "nested too deeply"),
        ("apis:", "apis: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(was: str, becomes: str, says: str) -> None:
    assert was in FILE
    with pytest.raises(InvalidDeclaration) as caught:
        documents(FILE.replace(was, becomes, 1))
    assert says in str(caught.value)


def test_a_version_is_no_larger_than_a_node_should_keep() -> None:
    many = "".join(f"GET /r{n}, " for n in range(9_999))
    with pytest.raises(InvalidDeclaration, match=r"'v1': there are 10,001 operations, more than the 10,000 of a ver"):
        documents(FILE.replace("[GET /items, ", f"[{many}"))
    long = "".join(f"GET /{n:0>200}, " for n in range(6_000))
    with pytest.raises(InvalidDeclaration, match=r"'v1': the paths of all operations have 1,206,017 bytes together"):
        documents(FILE.replace("[GET /items, ", f"[{long}"))


SHARED = """
apimgr: 1
apis:
  - name: Orders
    select: {header: X-Api-Version, host: api.example.com, base_path: /orders, default: v1}
    versions:
      - {name: v1, value: 2024-10-01, upstream: "http://127.0.0.1:9000", operations: [GET /items]}
      - {name: v2, upstream: "http://127.0.0.1:9001", state: retired}
"""


def test_versions_at_one_address_are_chosen_by_what_the_file_says() -> None:
    first, second = only(VersionDocument, SHARED)
    (route,) = only(RouteDocument, SHARED)
    assert route == RouteDocument(
        "api.example.com",
        "/orders",
        first.id,
        "header",
        "X-Api-Version",
        (ChoiceDocument("2024-10-01", first.id), ChoiceDocument("v2", second.id)),
    )
    assert (first.base_path, second.base_path) == ("/orders", "/orders")


def test_without_a_default_nothing_is_chosen_for_a_call_that_names_no_version() -> None:
    (route,) = only(RouteDocument, SHARED.replace(", default: v1", ""))
    assert route.version_id == 0


def test_a_file_that_names_no_address_for_versions_keeps_their_ids() -> None:
    apart = SHARED.replace("select", "x-select")
    with pytest.raises(InvalidDeclaration):
        documents(apart)
    by_path = """
apimgr: 1
apis: [{name: Orders, versions: [{name: v1, base_path: /a, upstream: "http://a"}]}]
"""
    assert only(VersionDocument, by_path)[0].id == only(VersionDocument, SHARED)[0].id


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("header: X-Api-Version", "header: X-Api-Version, query: v", "either by a header or by a query parameter"),
        ("header: X-Api-Version, ", "", "either by a header or by a query parameter"),
        ("header: X-Api-Version", "header: X_Version", "at apis[0].select.header"),
        ("header: X-Api-Version", "header: X-Api-Key", "select of 'Orders': 'X-Api-Key' has another meaning"),
        ("header: X-Api-Version", "query: access_token", "'access_token' has another meaning"),
        ("default: v1", "default: v3", "the default of 'Orders' names the version 'v3'"),
        ("value: 2024-10-01", "value: a b", "at apis[0].versions[0].value"),
        ("value: 2024-10-01", "value: v2", "two versions have one value"),
        ("value: 2024-10-01", "base_path: /orders/v1", "version 'v1' of 'Orders' has an address"),
        ("    select: {header: X-Api-Version, host: api.example.com, base_path: /orders, default: v1}\n", "",
         "'base_path' is a required property"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_selection_is_said(was: str, becomes: str, says: str) -> None:
    assert was in SHARED
    with pytest.raises(InvalidDeclaration) as caught:
        documents(SHARED.replace(was, becomes, 1))
    assert says in str(caught.value)


def test_a_value_without_a_selection_is_an_error() -> None:
    with pytest.raises(InvalidDeclaration, match="has a value, but the API no select"):
        documents(FILE.replace("base_path: /orders/v1", "base_path: /orders/v1\n        value: a"))


@pytest.mark.parametrize("text", ["", "[]", "1", "apimgr: 1", "- a"])
def test_what_is_no_configuration_at_all(text: str) -> None:
    with pytest.raises(InvalidDeclaration):
        documents(text)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.yaml", tmp_path / "odd.yaml", tmp_path):
        with pytest.raises(InvalidDeclaration, match="cannot be read"):
            declaration.read(path)


def test_the_schema_is_one_and_the_example_in_the_docs_is_good() -> None:
    jsonschema.Draft202012Validator.check_schema(declaration.schema())
    page = (BASE_DIR / "docs" / "reference" / "gateway-file.md").read_text()
    example = page.partition("```yaml\n")[2].partition("```")[0]
    assert {type(document) for document in documents(example)} == {
        VersionDocument, RouteDocument, PlanDocument, ApplicationDocument, CredentialDocument,
    }  # fmt: skip


def test_the_docs_name_every_field() -> None:
    page = (BASE_DIR / "docs" / "reference" / "gateway-file.md").read_text()
    missing = []
    for name, part in {"": declaration.schema(), **declaration.schema()["$defs"]}.items():
        for shape in (part, *part.get("oneOf", ())):
            missing += [f"{name}.{field}" for field in shape.get("properties", ()) if f"`{field}`" not in page]
    assert not missing
