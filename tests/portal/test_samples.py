from __future__ import annotations

import ast
import json
import shlex
from typing import Any

import pytest
from django.conf import settings

from portal.reference import VersionChoice, public_document
from portal.samples import sample_call
from tests.here import needs_corpus

BASE = "https://api.example.com/orders/v1"


def document(**paths: Any) -> dict[str, Any]:
    return {"openapi": "3.1.0", "paths": {f"/{name}": item for name, item in paths.items()}}


def test_prefers_a_get_that_needs_nothing() -> None:
    needs = {"parameters": [{"name": "q", "in": "query", "required": True, "schema": {"type": "string"}}]}
    call = sample_call(document(a={"post": {}}, b={"get": needs}, c={"get": {"summary": "All"}}), BASE)
    assert call is not None
    assert (call.method, call.url, call.summary, call.is_ready) == ("GET", f"{BASE}/c", "All", True)


def test_fills_in_the_documents_examples() -> None:
    parameter = {"name": "id", "in": "path", "required": True, "schema": {"$ref": "#/components/schemas/Id"}}
    found = {"openapi": "3.1.0", "paths": {"/o/{id}": {"get": {"parameters": [parameter]}}}}
    call = sample_call({**found, "components": {"schemas": {"Id": {"example": "a b"}}}}, BASE)
    assert call is not None
    assert (call.url, call.is_ready) == (f"{BASE}/o/a%20b", True)


def test_a_made_up_value_is_not_sent() -> None:
    call = sample_call({"paths": {"/o/{id}": {"get": {}}}}, BASE)
    assert call is not None
    assert (call.url, call.is_ready) == (f"{BASE}/o/id", False)


def test_braces_that_never_close_name_nothing() -> None:
    """Each of them read to the end of the path would take hours."""
    call = sample_call({"paths": {"/" + "{" * 1_000_000: {"get": {}}}}, BASE)
    assert call is not None
    assert call.is_ready


def test_without_operations_there_is_none() -> None:
    assert sample_call({}, BASE) is None
    assert sample_call({"paths": []}, BASE) is None


@pytest.mark.parametrize("path", ["/a';touch /tmp/x;'", '/a"+evil()+"', "/a`id`$(id)", "/a\\\nb", "/a</script>"])
def test_no_path_ends_a_string(path: str) -> None:
    call = sample_call({"paths": {path: {"get": {}}}}, BASE)
    assert call is not None
    assert shlex.split(call.curl("KEY").replace("\\\n", " ")) == ["curl", call.url, "-H", "X-Api-Key: KEY"]
    strings = [node.value for node in ast.walk(ast.parse(call.python("KEY"))) if isinstance(node, ast.Constant)]
    assert call.url in strings
    assert json.dumps(call.url) in call.javascript("KEY")


def test_the_document_loses_its_own_servers_everywhere() -> None:
    secret = {"servers": [{"url": "http://10.0.0.1"}], "security": [{"internal": []}], "summary": "kept"}
    given = {
        "openapi": "3.1.0",
        "servers": [{"url": "http://10.0.0.1"}],
        "paths": {"/a": {"servers": [{"url": "http://10.0.0.1"}], "get": secret}},
        "components": {"securitySchemes": {"internal": {}}, "schemas": {"A": {}}},
    }
    before = json.dumps(given)
    public = public_document(given, BASE)
    assert json.dumps(given) == before
    assert "10.0.0.1" not in json.dumps(public)
    assert "internal" not in json.dumps(public)
    assert public["paths"]["/a"]["get"] == {"summary": "kept"}
    assert public["components"]["schemas"] == {"A": {}}


def test_swagger_2_speaks_its_own_words() -> None:
    public = public_document({"swagger": "2.0", "host": "10.0.0.1", "basePath": "/", "paths": {}}, BASE)
    assert (public["schemes"], public["host"], public["basePath"]) == (["https"], "api.example.com", "/orders/v1")
    assert "servers" not in public


BY_HEADER = VersionChoice(by_header=True, name="X-Api-Version", value="2024-10-01", is_required=True)
BY_QUERY = VersionChoice(by_header=False, name="api-version", value="2024-10-01", is_required=False)


def test_a_call_carries_what_chooses_the_version() -> None:
    by_header = sample_call(document(a={"get": {}}), BASE, BY_HEADER)
    assert by_header is not None
    assert shlex.split(by_header.curl("KEY").replace("\\\n", " ")) == [
        "curl", f"{BASE}/a", "-H", "X-Api-Key: KEY", "-H", "X-Api-Version: 2024-10-01",
    ]  # fmt: skip
    for code in (by_header.python("KEY"), by_header.javascript("KEY")):
        assert '"X-Api-Key": "KEY", "X-Api-Version": "2024-10-01"' in code
    ast.parse(by_header.python("KEY"))
    needs = {"parameters": [{"name": "q", "in": "query", "required": True, "example": "x"}]}
    by_query = sample_call(document(a={"get": needs}), BASE, BY_QUERY)
    assert by_query is not None
    assert by_query.url == f"{BASE}/a?q=x&api-version=2024-10-01"
    assert by_query.headers("KEY") == [("X-Api-Key", "KEY")]


def test_the_documents_own_word_for_it_gives_way() -> None:
    """A document that names the parameter itself, with another value: once is enough, and ours is right."""
    own = {"name": "api-version", "in": "query", "required": True, "schema": {"type": "string"}}
    given = document(a={"parameters": [own], "get": {"parameters": [own, {"name": "q", "in": "query"}]}, "post": {}})
    call = sample_call(given, BASE, BY_QUERY)
    assert call is not None
    assert (call.url, call.is_ready) == (f"{BASE}/a?api-version=2024-10-01", True)
    public = public_document(given, BASE, BY_QUERY)
    assert public["paths"]["/a"] == {
        "parameters": [
            {
                "in": "query",
                "name": "api-version",
                "description": "Chooses this version of the API.",
                "required": False,
                "schema": {"type": "string", "enum": ["2024-10-01"], "default": "2024-10-01"},
            }
        ],
        "get": {"parameters": [{"name": "q", "in": "query"}]},
        "post": {},
    }


def test_header_names_are_one_whatever_their_case_and_swagger_has_its_own_form() -> None:
    own = {"name": "x-api-version", "in": "header", "type": "string"}
    public = public_document({"swagger": "2.0", "paths": {"/a": {"get": {"parameters": [own]}}}}, BASE, BY_HEADER)
    assert public["paths"]["/a"]["get"]["parameters"] == []
    (parameter,) = public["paths"]["/a"]["parameters"]
    assert (parameter["name"], parameter["type"], parameter["required"]) == ("X-Api-Version", "string", True)
    assert "schema" not in parameter


CORPUS = settings.BASE_DIR.parent / "shared" / "corpora" / "openapi"


@pytest.mark.corpora
@needs_corpus("openapi")
def test_every_real_document_has_a_first_call() -> None:
    for path in CORPUS.glob("*.json"):
        found = json.loads(path.read_bytes())
        assert sample_call(found, BASE) is not None, path.name
        public_document(found, BASE)
