"""What every endpoint answers to what it cannot take: a problem document that says what and where, and never a 500.

Endpoints, people and good bodies come from the access matrix, fields and parameters from the OpenAPI document, so that
a new endpoint is tested as soon as it exists.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from django.core.cache import caches
from django.db import transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import get_resolver, reverse
from drf_spectacular.generators import SchemaGenerator
from pytest_django import DjangoDbBlocker

from apimgr.core.rest_formats import MAX_BODY_BYTES, MAX_DEPTH
from apimgr.core.rest_views import RestView
from tests.access import Row, World, make_world
from tests.architecture.test_access_matrix import METHODS, NAMES, TABLES

pytestmark = pytest.mark.django_db

_VIEWS = {
    entry.name: entry.callback.cls
    for resolver in get_resolver().url_patterns
    if str(resolver.pattern) == "api/v1/"
    for inner in resolver.url_patterns
    for entry in getattr(inner, "url_patterns", [inner])
}
NO_VIEW_OF_OURS = {"api-schema"}
ENDPOINTS = [(name, row) for name in sorted(_VIEWS.keys() - NO_VIEW_OF_OURS) for row in TABLES[name] if row.allowed]
READS = [entry for entry in ENDPOINTS if entry[1].method == "get"]
LISTS = [entry for entry in READS if hasattr(_VIEWS[entry[0]], "list")]
WRITES = [entry for entry in ENDPOINTS if entry[1].method in {"post", "put", "patch"}]
PAGES = [
    (name, row)
    for name in NAMES
    if name not in _VIEWS and name in TABLES
    for row in TABLES[name]
    if row.method in {"get", "post"} and row.allowed
]
DEEP = 100_000


def every(entries: list[tuple[str, Row]]) -> Any:
    ids = [f"{row.method}-{name}{row.query}" for name, row in entries]
    return pytest.mark.parametrize(("name", "row"), entries, ids=ids)


class Caller:
    """Someone who may use one endpoint, and does it wrongly. What is done is undone."""

    def __init__(self, name: str, row: Row, world: World) -> None:
        self.row, self.world = row, world
        self.path = reverse(name, kwargs=row.kwargs(world))
        self.person = min(row.allowed)
        self.client = Client(raise_request_exception=False)
        if not self.path.startswith("/api/"):
            self.client.force_login(world.people[self.person])

    def __call__(
        self, body: bytes = b"", query: str = "", kind: str = "application/json", method: str = "", **headers: str
    ) -> HttpResponse:
        if self.path.startswith("/api/"):
            headers["Authorization"] = f"Bearer {self.world.secrets[self.person]}"
        method = (method or self.row.method).upper()
        caches["throttle"].clear()
        with transaction.atomic():
            answer = self.client.generic(method, self.path + query, body, content_type=kind, headers=headers)
            if answer.streaming:
                answer.close()
            transaction.set_rollback(True)
        return answer

    def send(self, **given: Any) -> HttpResponse:
        return self(json.dumps({**self.row.payload(self.world), **given}).encode())


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """One for all, for each call is undone."""
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)


@pytest.fixture
def caller(name: str, row: Row, world: World) -> Caller:
    return Caller(name, row, world)


@pytest.fixture(scope="module")
def document(world: World) -> dict[str, Any]:
    return json.loads(json.dumps(SchemaGenerator().get_schema(request=None, public=True), default=str))


def described(document: dict[str, Any], name: str, row: Row) -> dict[str, Any]:
    """The operation of the OpenAPI document."""
    (pattern,) = (path for path, _ in get_resolver().reverse_dict.getlist(name)[0][0])
    path = "/" + pattern.replace("%(", "{").replace(")s", "}")
    found: dict[str, Any] = document["paths"][path][row.method]
    return found


def fields(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """The fields of its request."""
    content = operation.get("requestBody", {}).get("content", {})
    return _properties(document, content["application/json"]["schema"]) if content else {}


def _properties(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    found: dict[str, Any] = schema.get("properties", {})
    return found


def nested(document: dict[str, Any], properties: dict[str, Any]) -> Iterator[str]:
    """Fields that are lists of objects."""
    for name, schema in properties.items():
        if schema.get("type") == "array" and _properties(document, schema["items"]):
            yield name


def check(answer: HttpResponse, status: int, code: str = "") -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"].startswith("application/problem+json")
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["code"] == code or not code
    assert body["detail"]
    assert body["fix"]
    return body


# --- The tables are whole ---------------------------------------------------------------------------------------------


def test_every_endpoint_is_checked_in_one_place() -> None:
    assert [name for name in _VIEWS.keys() - NO_VIEW_OF_OURS if not issubclass(_VIEWS[name], RestView)] == []
    assert len(WRITES) > 30
    assert len(LISTS) > 10


def test_every_method_has_a_row() -> None:
    served = {(name, method) for name, view in _VIEWS.items() for method in METHODS if _serves(view, method)}
    assert served == {(name, row.method) for name in _VIEWS for row in TABLES[name]}


def _serves(view: Any, method: str) -> bool:
    return hasattr(view, method) and method in view.http_method_names


# --- Names ------------------------------------------------------------------------------------------------------------


@every(ENDPOINTS)
def test_an_unknown_parameter(caller: Caller, name: str, row: Row, document: dict[str, Any]) -> None:
    told = check(caller(query="?nonsense=1"), 400, "unknown_parameter")
    parameters = described(document, name, row).get("parameters", [])
    known = [entry["name"] for entry in parameters if entry["in"] == "query"]
    _sentence, _, named = told["fields"]["nonsense"].partition("Known are: ")
    assert sorted(named.rstrip(".").split(", ") if named else []) == sorted(known), "as the document says"


@every(WRITES)
def test_an_unknown_field(caller: Caller, name: str, row: Row, document: dict[str, Any]) -> None:
    told = check(caller.send(nonsense=1), 400, "unknown_field")
    assert list(told["fields"]) == ["nonsense"]
    known = fields(document, described(document, name, row))
    assert all(field in told["fields"]["nonsense"] for field in known)
    for field in nested(document, known):
        told = check(caller.send(**{field: [{"nonsense": 1}]}), 400, "unknown_field")
        assert list(told["fields"]) == [f"{field}.0.nonsense"]


@every(WRITES)
def test_the_document_says_that_a_body_is_closed(name: str, row: Row, document: dict[str, Any]) -> None:
    content = described(document, name, row).get("requestBody", {}).get("content", {})
    for schema in (entry["schema"] for entry in content.values()):
        assert document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["additionalProperties"] is False


@every([entry for entry in WRITES if entry[1].method in {"put", "patch"} and _serves(_VIEWS[entry[0]], "get")])
def test_what_was_read_can_be_sent_back(caller: Caller, name: str) -> None:
    read = caller(method="get")
    assert read.status_code == 200
    answer = caller.send(**{**read.json(), **caller.row.payload(caller.world)})
    assert answer.status_code == 200, answer.content


@every(ENDPOINTS)
def test_a_parameter_that_is_given_twice(caller: Caller, name: str) -> None:
    check(caller(query="?format=json&format=json"), 400, "repeated_parameter")


# --- Bodies -----------------------------------------------------------------------------------------------------------

BODIES = {
    "no JSON": (b'{"name": }', "column 10"),
    "two documents": (b"{} {}", "column 4"),
    "a list": (b"[1]", "not an object"),
    "a word": (b'"x"', "not an object"),
    "null": (b"null", "not an object"),
    "a name twice": (b'{"name": "a", "name": "b"}', "given twice"),
    "NaN": (b'{"name": NaN}', "NaN"),
    "Infinity": (b'{"name": -Infinity}', "-Infinity"),
    "a number that becomes infinite": (b'{"name": 1e999}', "too large"),
    "a number of many digits": (b'{"name": ' + b"9" * 5_000 + b"}", "5000 digits"),
    "too deep": (b'{"name": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "32 levels"),
    "far too deep": (b'{"name": ' + b"[" * DEEP + b"]" * DEEP + b"}", "32 levels"),
    "no UTF-8": (b'{"name": "\xff"}', "byte 11"),
    "UTF-16": ('{"name": "x"}'.encode("utf-16"), "UTF-8"),
    "NUL": (b'{"name": "a\\u0000b"}', "name: NUL"),
    "NUL in a name": (b'{"na\\u0000me": "x"}', "na\\0me: NUL"),
    "NUL within": (b'{"name": [{"x": ["\\u0000"]}]}', "name.0.x.0: NUL"),
    "half a pair": (b'{"name": "\\ud800"}', "U+D800"),
    "half a pair in a name": (b'{"\\udfff": "x"}', "U+DFFF"),
}


@every(WRITES)
def test_a_body_that_cannot_be_read(caller: Caller, name: str) -> None:
    for label, (body, sentence) in BODIES.items():
        told = check(caller(body), 400, "parse_error")
        assert sentence in told["detail"], label


@every(WRITES)
def test_a_body_of_another_kind(caller: Caller, name: str) -> None:
    for kind in ("application/xml", "text/plain", "application/x-www-form-urlencoded", "nonsense", ""):
        told = check(caller(b"name=x", kind=kind), 415, "unsupported_media_type")
        assert "application/json" in told["fix"]


@every(WRITES)
def test_a_charset_changes_nothing(caller: Caller, name: str) -> None:
    """JSON is UTF-8; Python knows codecs that are no charsets."""
    for charset in ("utf-16", "latin-1", "zlib", "undefined", "nonsense"):
        told = check(caller(b'{"\xff"', kind=f"application/json; charset={charset}"), 400, "parse_error")
        assert "UTF-8" in told["detail"]


@every(WRITES)
def test_a_body_that_is_too_large(caller: Caller, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most = _VIEWS[name].max_body_bytes
    assert most == MAX_BODY_BYTES or name == "api-specification"
    monkeypatch.setattr(_VIEWS[name], "max_body_bytes", 100)
    assert "100 bytes" in check(caller(b'{"name": "' + b"x" * 100), 413, "body_too_large")["detail"]
    check(caller(b'{"name": "'), 400, "parse_error")


ODD: tuple[Any, ...] = (
    2**63, -(2**63) - 1, 2**100, -1, 0.5, "", "x" * 1_000, True, None, [], {}, [[1]], [{}], {"a": 1}, "9" * 30,
    "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00",
)  # fmt: skip


@every(WRITES)
def test_odd_values_of_every_field(caller: Caller, name: str, row: Row, document: dict[str, Any]) -> None:
    for field in fields(document, described(document, name, row)):
        for value in ODD:
            answer = caller.send(**{field: value})
            assert answer.status_code < 500, f"{field}: {value!r}"
            if answer.status_code >= 400:
                check(answer, answer.status_code)


# --- Addresses --------------------------------------------------------------------------------------------------------


@every(READS)
def test_odd_values_of_every_parameter(caller: Caller, name: str, row: Row, document: dict[str, Any]) -> None:
    for entry in described(document, name, row).get("parameters", []):
        if entry["in"] != "query":
            continue
        for value in ("nonsense", "9" * 30, "-1", "%ff", "%ED%A0%80", "1e999", "x" * 300):
            answer = caller(query=f"?{entry['name']}={value}")
            assert answer.status_code < 500, f"{entry['name']}: {value}"
            if entry["name"] != "q" and (entry["name"], value) != ("limit", "9" * 30):
                check(answer, answer.status_code if answer.status_code in {400, 404} else 422)
        check(caller(query=f"?{entry['name']}=a%00b"), 400, "bad_request")


def cursor(position: str) -> str:
    return quote(b64encode(f"p={quote(position)}".encode()).decode())


@every(LISTS)
def test_a_page_that_is_none(caller: Caller, name: str) -> None:
    positions = ("\0", *(() if name == "api-operations" else ("abc", "9" * 30, "-1", "1.5")))
    for asked in ("nonsense", *map(cursor, positions)):
        assert "cursor" in check(caller(query=f"?cursor={asked}"), 422, "invalid")["fields"]
    for asked in ("0", "-1", "x", "1.5", "", "%C2%B2"):
        assert "limit" in check(caller(query=f"?limit={asked}"), 422, "invalid")["fields"]
    for asked in ("1", "1000", "9" * 30):
        assert caller(query=f"?limit={asked}").status_code == 200


@pytest.mark.parametrize(
    "address", ["apis/a%00b", "apis/orders/versions/a%00b", f"apis/orders/versions/v1/revisions/{'9' * 30}"]
)
def test_an_address_that_leads_nowhere(address: str, world: World) -> None:
    headers = {"Authorization": f"Bearer {world.secrets['alice']}"}
    answer = Client(raise_request_exception=False).get(f"/api/v1/{address}", headers=headers)
    check(answer, 400 if "%00" in address and "versions" in address else 404)


# --- Formats ----------------------------------------------------------------------------------------------------------


@every([*READS, ("api-schema", TABLES["api-schema"][0])])
def test_a_format_that_is_not_there(caller: Caller, name: str) -> None:
    there = [renderer.format for renderer in _VIEWS[name].renderer_classes]
    told = check(caller(query="?format=xml"), 400, "unknown_format")
    assert all(word in told["fields"]["format"] for word in there)
    for accept in ("text/html", "application/xml", "image/*", "nonsense", "/", ";", ""):
        told = check(caller(Accept=accept), 406, "not_acceptable")
        assert "application/json" in told["fix"]


@every([entry for entry in READS if entry[0] != "api-specification"])
def test_a_format_in_the_address_goes_before_accept(caller: Caller, name: str) -> None:
    for accept in ("text/html", "application/json", "*/*"):
        for renderer in _VIEWS[name].renderer_classes:
            query = f"{caller.row.query}{'&' if caller.row.query else '?'}format={renderer.format}"
            answer = caller(query=query, Accept=accept)
            assert answer["Content-Type"].startswith(renderer.media_type), answer.content


# --- Pages ------------------------------------------------------------------------------------------------------------


@every(PAGES)
def test_pages_of_odd_input(caller: Caller, name: str) -> None:
    """Their forms say what is wrong beside the field; here it is enough that nothing breaks."""
    for asked in ("page", "before", "q", "state", "range", "version", "nonsense"):
        for value in ("9" * 30, "-1", "%FF", "%ED%A0%80"):
            assert caller(query=f"?{asked}={value}", method="get").status_code < 500, f"{asked}={value}"
    assert caller(query="?q=%00", method="get").status_code in {302, 400, 405}
    good = caller.row.payload(caller.world)
    for field in good if caller.row.method == "post" else ():
        for value in ("a\0b", "9" * 30, "\ud800", "-1", "1e999", "NaN"):
            form = "&".join(
                f"{quote(key)}={quote(str(sent), errors='surrogatepass')}"
                for key, sent in {**good, field: value}.items()
            )
            answer = caller(form.encode(), kind="application/x-www-form-urlencoded")
            assert answer.status_code < 500, f"{field}={value!r}"
            assert "\0" not in value or answer.status_code in {302, 400}
