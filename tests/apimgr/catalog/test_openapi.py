"""Documents in, facts and findings out: tables of input and what must be said about it."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from apimgr.catalog.openapi import lint, syntax
from apimgr.catalog.openapi.json_text import json_tokens
from apimgr.catalog.openapi.parse import resolve
from apimgr.catalog.openapi.pointers import locate
from apimgr.catalog.openapi.syntax import UnreadableDocument
from tests.effort import in_copies
from tests.here import needs_corpus

CORPORA = Path(__file__).resolve().parents[4] / "shared" / "corpora" / "openapi"
HEAD = "openapi: 3.1.0\ninfo: {title: T, version: '1'}\nservers: [{url: https://t.example}]\n"
ONE = HEAD + "paths:\n  /a:\n    get: {summary: A}\n"


def alias_bomb(levels: int = 9) -> str:
    above = [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, levels)]
    return "\n".join(["a0: &a0 [x, x, x, x, x, x, x, x, x]", *above])


# What cannot be read at all: bytes, code, and what the sentence must say.
UNREADABLE: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"  \n", "document_empty", "empty"),
    "not text": (b"openapi: 3.0.0\nx: \xff\xfe\n", "not_text", "Line 2"),
    "picture": (b"\x89PNG\r\n\x1a\n\x00\x00", "not_text", "Line 1"),
    "not JSON": (b'{"openapi": "3.0.0",\n "info": }', "not_json", "line 2, column 10"),
    "trailing comma": (b'{"openapi": "3.0.0",}', "not_json", "line 1"),
    "JSON with NaN": (b'{"openapi": NaN}', "not_json", "NaN"),
    "JSON with a number beyond all": (b'{"openapi": 1e999}', "not_json", "too large"),
    "not YAML": (b"openapi: 3.0.0\n\tinfo: x", "not_yaml", "line 2, column 1"),
    "YAML that ends early": (b"openapi: [3", "not_yaml", "line 2"),
    "two YAML documents": (b"openapi: 3.0.0\n---\nopenapi: 3.0.0\n", "not_yaml", "line 2"),
    "Python in YAML": (b"openapi: !!python/object/apply:os.system [id]", "not_yaml", "line 1"),
    "alias without anchor": (b"openapi: *x", "not_yaml", "*x"),
    "alias of itself": (b"openapi: &x [*x]", "not_yaml", "*x"),
    "list as key": (b"? [a]\n: b\n", "not_yaml", "line 1"),
    "control character": (b"openapi: 3\nx: \x01", "not_yaml", "line 2"),
    "alias bomb": (alias_bomb().encode(), "alias_bomb", "line"),
    "alias bomb of text": (f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1000)}]".encode(), "alias_bomb", "line 2"),
    "deep JSON": (b"[" * 100 + b"]" * 100, "document_too_deep", "64"),
    "bottomless JSON": (b"[" * 1_000_000, "document_too_deep", "64"),
    "deep YAML": (b"a: " + b"[" * 100 + b"]" * 100, "document_too_deep", "line 1"),
    "YAML deep by aliases": (
        b"\n".join(b"a%d: &a%d {x: {x: %s}}" % (n, n, b"*a%d" % (n - 1) if n else b"1") for n in range(40)),
        "document_too_deep",
        "64",
    ),
    "too large": (b"x" * (syntax.MAX_BYTES + 1), "document_too_large", "20 MiB"),
    "long key": (f'{{"openapi": "3.0.0", "{"k" * 2001}": 1}}'.encode(), "document_too_large", "2,000 characters"),
    "long key in YAML": (f"openapi: 3.0.0\n? {'k' * 2001}\n: 1".encode(), "document_too_large", "2,000"),
    "too many values": (b"[" + b"1," * 2_000_001 + b"1]", "document_too_large", "2,000,000"),
    "a list": (b"[1, 2]", "not_openapi", "not an object"),
    "prose": (b"Dear publisher,", "not_openapi", "not an object"),
    "JSON Schema": (b'{"$schema": "https://json-schema.org/draft/2020-12/schema"}', "not_openapi", "neither"),
    "AsyncAPI": (b"asyncapi: 3.0.0\ninfo: {}", "not_openapi", "neither"),
    "OpenAPI 4": (b"openapi: 4.0.0", "openapi_version_unknown", "4.0.0"),
    "Swagger 1.2": (b"swagger: '1.2'", "openapi_version_unknown", "1.2"),
}


KNOWN = b"[" + b'{"name": "value"}, ' * 5_000 + b"1]"  # of a hundred kilobytes


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_document_says_what_and_where(name: str) -> None:
    raw, code, words = UNREADABLE[name]

    def fail() -> UnreadableDocument:
        with pytest.raises(UnreadableDocument) as error:
            lint.check(syntax.read(raw))
        return error.value

    error, copies = in_copies(KNOWN, fail)
    assert error.code == code
    assert words in error.message
    assert error.message.endswith(".")
    assert copies < 100, "what cannot be read costs little"


# What can be read and has something wrong: document, then severity, code, pointer, line of the finding in question.
FINDINGS: dict[str, tuple[str, tuple[str, str, str, int]]] = {
    "no info": ("openapi: 3.1.0\npaths: {/a: {get: {}}}", ("error", "info_missing", "/info", 1)),
    "no title": ("openapi: 3.1.0\ninfo:\n  version: '1'\npaths: {}", ("error", "title_missing", "/info/title", 2)),
    "no paths": (HEAD, ("error", "paths_missing", "/paths", 1)),
    "no operations": (HEAD + "paths: {}", ("error", "no_operations", "/paths", 4)),
    "no slash": (HEAD + "paths:\n  a: {get: {}}", ("error", "path_without_slash", "/paths/a", 5)),
    "odd braces": (HEAD + "paths:\n  /a/{b: {get: {}}", ("error", "path_template", "/paths/~1a~1{b", 5)),
    "upper case": (HEAD + "paths:\n  /a:\n    GET: {}", ("error", "method_upper_case", "/paths/~1a/GET", 6)),
    "operation is text": (HEAD + "paths:\n  /a:\n    get: x", ("error", "operation_not_object", "/paths/~1a/get", 6)),
    "same key": (ONE + "    get: {summary: B}", ("error", "duplicate_key", "/paths/~1a/get", 7)),
    "same path": (ONE + "  /a:\n    put: {}", ("error", "duplicate_key", "/paths/~1a", 7)),
    "same key in JSON": (
        '{"openapi": "3.1.0",\n"info": {"title": "T", "version": "1"},\n"paths": {"/a": {\n"get": {},\n"get": {}}}}',
        ("error", "duplicate_key", "/paths/~1a/get", 5),
    ),
    "same operation": (
        HEAD + "paths:\n  /a/{id}: {get: {}}\n  /a/{name}: {get: {}}",
        ("error", "duplicate_operation", "/paths/~1a~1{name}/get", 6),
    ),
    "same operationId": (
        HEAD + "paths:\n  /a: {get: {operationId: x}}\n  /b:\n    get: {operationId: x}",
        ("error", "duplicate_operation_id", "/paths/~1b/get/operationId", 7),
    ),
    "broken $ref": (
        ONE + "  /b:\n    get:\n      parameters:\n      - $ref: '#/components/parameters/Nope'",
        ("error", "broken_reference", "/paths/~1b/get/parameters/0/$ref", 10),
    ),
    "broken $ref in JSON": (
        (
            '{"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {"/a": {"get": {}}},\n'
            '"components": {"schemas": {"A":\n{"$ref": "#/components/schemas/B"}}}}'
        ),
        ("error", "broken_reference", "/components/schemas/A/$ref", 3),
    ),
    "$ref to a file": (
        ONE + "  /b:\n    $ref: 'file:///etc/passwd'",
        ("warning", "external_reference", "/paths/~1b/$ref", 8),
    ),
    "$ref to the network": (
        ONE + "components: {schemas: {A: {$ref: 'http://169.254.169.254/'}}}",
        ("warning", "external_reference", "/components/schemas/A/$ref", 7),
    ),
    "undeclared parameter": (
        HEAD + "paths:\n  /a/{id}:\n    get: {}",
        ("warning", "parameter_undeclared", "/paths/~1a~1{id}/get", 6),
    ),
    "operations without end": (
        HEAD + "paths:\n" + "".join(f"  /r{n}: {{get: {{}}}}\n" for n in range(10_001)),
        ("error", "too_many_operations", "/paths", 4),
    ),
    "paths without end": (
        HEAD + "paths:\n" + "".join(f"  /{'r' * 490}{n}: {{get: {{}}}}\n" for n in range(2200)),
        ("error", "too_many_operations", "/paths", 4),
    ),
    "patterns without end": (
        HEAD + "paths:\n" + "".join(f"  /{{x}}.{n}: {{get: {{}}}}\n" for n in range(1000)),
        ("error", "paths_branch_too_far", "/paths", 4),
    ),
    "query in a path": (HEAD + "paths:\n  /a?b=c: {get: {}}", ("warning", "path_never_matches", "/paths/~1a?b=c", 5)),
    "no responses": (
        ONE.replace("3.1.0", "3.0.3"),
        ("warning", "no_responses", "/paths/~1a/get", 6),
    ),
    "relative server": (
        ONE.replace("https://t.example", "/v1"),
        ("info", "no_absolute_server", "/servers", 3),
    ),
    "half a character": (
        '{"openapi": "3.1.0", "info": {"title": "\\ud800", "version": "1"}, "paths": {}}',
        ("error", "bad_character", "/info/title", 1),
    ),
    "unknown field": (ONE + "colour: blue", ("warning", "schema_violation", "", 1)),
    "description of the wrong type": (
        ONE + "tags:\n- name: a\n  description: [1]",
        ("warning", "schema_violation", "/tags/0/description", 9),
    ),
    "field that must be there": (ONE + "tags: [{}]", ("warning", "schema_violation", "/tags/0", 7)),
    "OpenAPI 3.2": (ONE.replace("3.1.0", "3.2.0"), ("info", "openapi_3_2", "/openapi", 1)),
}


@pytest.mark.parametrize("name", FINDINGS)
def test_finding_says_what_and_where(name: str) -> None:
    text, expected = FINDINGS[name]
    _facts, findings = lint.check(syntax.read(text.encode()))
    assert expected in [(each.severity, each.code, each.pointer, each.line) for each in findings]


def test_of_what_can_be_neither_kept_nor_used_only_that_is_said() -> None:
    many = {f"/{number}": {"get": {}} for number in range(10_001)}
    text = json.dumps({"openapi": "3.1.0", "info": {"title": "\ud800"}, "paths": many})
    _facts, findings = lint.check(syntax.read(text.encode()))
    assert [each.code for each in findings] == ["too_many_operations", "bad_character"]


def test_a_text_is_read_no_further_than_to_the_last_that_is_wanted() -> None:
    tokens = iter(json_tokens('{"a": 1, "b": {"c":\n2}, "d": 3}'))
    assert locate(tokens, {"/a", "/b/c"}) == {"/a": 1, "/b/c": 1}
    assert next(tokens) == ("=", "2", 2)


@pytest.mark.parametrize(
    "text",
    [
        ONE,
        # "$ref" as data, and as the name of a property, is no reference.
        ONE + "      \n  /b: {get: {responses: {200: {description: OK, content: {a/b: {example: {$ref: '#/nope'}}}}}}}",
        ONE + "components: {schemas: {A: {properties: {$ref: {type: string}}, default: {$ref: x}, enum: [{$ref: x}]}}}",
        ONE + "x-notes: {$ref: nowhere}",
        # "example" as the name of a schema hides nothing, and its reference is good.
        ONE + "components: {schemas: {example: {$ref: '#/components/schemas/B'}, B: {}}}",
        ONE + "components: {schemas: {A: {$defs: {a/b: {}}}, B: {$ref: '#/components/schemas/A/$defs/a~1b'}}}",
    ],
)
def test_nothing_is_found_where_nothing_is_wrong(text: str) -> None:
    _facts, findings = lint.check(syntax.read(text.encode()))
    assert [each for each in findings if each.code != "no_summary"] == []


@pytest.mark.parametrize(("name", "is_fit"), [("a", True), ("a/b", True), ("a/", False), ("a?", False), ("", False)])
def test_the_name_of_a_path_parameter_ends_as_the_schema_says(name: str, is_fit: bool) -> None:
    text = ONE + f"    parameters: [{{name: '{name}', in: path, required: true, schema: {{}}}}]"
    assert ("schema_violation" in [each.code for each in lint.check(syntax.read(text.encode()))[1]]) is not is_fit


def test_a_long_name_of_a_path_parameter_is_looked_through_once() -> None:
    """Tried from each character to the end, as the schema has it, this takes hours."""
    text = ONE + f"    parameters: [{{name: {'a' * 2_000_000}/, in: path, required: true, schema: {{}}}}]"
    assert "schema_violation" in [each.code for each in lint.check(syntax.read(text.encode()))[1]]


@pytest.mark.parametrize("unit", ["x", "\\n", "x\\n"])
def test_the_walk_over_a_long_text_of_json_remembers_none_of_its_characters(unit: str) -> None:
    text = f'{{"a": "{unit * 500_000}"}}'
    tracemalloc.start()
    try:
        assert [kind for kind, _, _ in json_tokens(text)] == ["{", "=", "=", "}"]
        assert tracemalloc.get_traced_memory()[1] < 8 * len(text)
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "below",
    [
        "[" + "0," * 100_000 + "0]",
        "[" + '{"a": 1, "a": 2},' * 30_000 + "0]",
        "{" + '"a": {"$ref": "#"},' * 30_000 + '"b": 0}',
    ],
)
def test_long_keys_are_not_repeated_for_each_value_below(below: str) -> None:
    for _ in range(20):
        below = f'{{"{"k" * 1999}": {below}}}'
    text = f'{{"openapi": "3.0.0", "x-a": {below}, "paths": {{}}}}'
    tracemalloc.start()
    try:
        _facts, findings = lint.check(syntax.read(text.encode()))
        assert tracemalloc.get_traced_memory()[1] < 80 * len(text)
    finally:
        tracemalloc.stop()
    assert {"no_operations"} < {each.code for each in findings}


def test_named_like_data_is_still_checked() -> None:
    text = ONE + "components: {schemas: {example: {$ref: '#/components/schemas/B'}}}"
    assert "broken_reference" in [each.code for each in lint.check(syntax.read(text.encode()))[1]]


SCALARS = [
    ("3.10", 3.1),
    ("1.50", 1.5),
    ("17", 17),
    ("-0", 0),
    ("017", "017"),
    ("0x1F", "0x1F"),
    ("1e3", 1000.0),
    ("1_000", "1_000"),
    ("2024-10-01", "2024-10-01"),
    ("12:30:00", "12:30:00"),
    ("true", True),
    ("yes", "yes"),
    ("no", "no"),
    ("~", None),
    ("", None),
    (".nan", ".nan"),
    ("1e999", "1e999"),
    ("'1'", "1"),
    ("!!str 1", "1"),
    ("=", "="),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_yaml_scalar_is_read_as_json_would(text: str, value: object) -> None:
    assert syntax.read(f"a: {text}\n".encode()).value == {"a": value}


@pytest.mark.parametrize(
    ("text", "value"), [("3.10", "3.10"), ("2024-10-01", "2024-10-01"), ("1.0", "1.0"), ("2", "2")]
)
def test_version_stays_as_it_is_spelt(text: str, value: str) -> None:
    document = f"openapi: 3.1.0\ninfo:\n  title: T\n  version: {text}\npaths: {{}}\n"
    assert lint.check(syntax.read(document.encode()))[0].version == value


def test_yaml_keys_anchors_and_merges() -> None:
    text = "base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\nboth: {<<: [*b, {z: 4}]}\n200: {on: {null: *b}}\n"
    base = {"x": 1, "y": 2}
    assert syntax.read(text.encode()).value == {
        "base": base,
        "use": {"x": 1, "y": 3},
        "both": {"x": 1, "y": 2, "z": 4},
        "200": {"on": {"null": base}},
    }


@pytest.mark.parametrize(
    "raw", [b"\xef\xbb\xbf" + ONE.encode(), ONE.encode("utf-16"), ONE.replace("\n", "\r\n").encode()]
)
def test_marks_and_line_ends(raw: bytes) -> None:
    assert lint.check(syntax.read(raw))[0].title == "T"


SWAGGER = """
swagger: "2.0"
info: {title: Old, version: "7"}
host: api.example
basePath: /v7
schemes: [http, https]
securityDefinitions: {key: {type: apiKey, in: header, name: X-Key}}
paths:
  /things/{id}:
    parameters: [{name: id, in: path, required: true, type: string}]
    get: {operationId: thing, tags: [a, b], deprecated: true, responses: {200: {description: OK}}}
"""


def test_facts_of_openapi_2() -> None:
    facts, _findings = lint.check(syntax.read(SWAGGER.encode()))
    assert (facts.openapi_version, facts.title, facts.version) == ("2.0", "Old", "7")
    assert facts.servers == ("https://api.example/v7", "http://api.example/v7")
    assert facts.upstream_url == "https://api.example/v7"
    assert [(scheme.name, scheme.detail) for scheme in facts.security_schemes] == [("key", "header X-Key")]
    [operation] = facts.operations
    assert (operation.method, operation.path, operation.operation_id) == ("GET", "/things/{id}", "thing")
    assert (operation.tags, operation.is_deprecated) == (("a", "b"), True)


@pytest.mark.parametrize(
    ("servers", "upstream"),
    [
        ([{"url": "https://a.example/v1/"}], "https://a.example/v1"),
        ([{"url": "/v1"}, {"url": "http://b.example"}], "http://b.example"),
        ([{"url": "https://{r}.c.example", "variables": {"r": {"default": "eu"}}}], "https://eu.c.example"),
        ([{"url": "https://{r}.d.example"}], ""),
        ([{"url": "https://e.example?x=1"}], "https://e.example"),
        ([{"url": "ftp://f.example"}], ""),
        ("nonsense", ""),
        ([7], ""),
        ([], ""),
    ],
)
def test_upstream_comes_from_the_first_absolute_server(servers: Any, upstream: str) -> None:
    document = {"openapi": "3.1.0", "info": {}, "paths": {}, "servers": servers}
    assert lint.check(syntax.read(json.dumps(document).encode()))[0].upstream_url == upstream


def test_path_item_by_reference() -> None:
    text = HEAD + "paths: {/a: {$ref: '#/components/pathItems/A'}}\ncomponents: {pathItems: {A: {get: {summary: A}}}}"
    [operation] = lint.check(syntax.read(text.encode()))[0].operations
    assert (operation.method, operation.path) == ("GET", "/a")


def test_references_in_a_circle_end() -> None:
    text = HEAD + "paths: {/a: {$ref: '#/paths/~1b'}, /b: {$ref: '#/paths/~1a'}}"
    assert lint.check(syntax.read(text.encode()))[0].operations == ()


@pytest.mark.parametrize("reference", ["#/a~1b/0/c%25d", "#/list/1"])
def test_resolve(reference: str) -> None:
    assert resolve({"a/b": [{"c%d": 1}], "list": [0, 1]}, reference) == 1


# --- Real documents ---------------------------------------------------------------------------------------------------

OPERATIONS = {
    "adyen-management-v1": 130,
    "adyen-management-v3": 132,
    "asana.com": 167,
    "digitalocean.com": 290,
    "gitea.io": 346,
    "httpbin.org": 78,
    "wikimedia.org": 35,
}
MOST_COPIES = 400  # a document's own, for reading and checking it: it takes 20 to 150


@pytest.mark.corpora
@needs_corpus("openapi")
@pytest.mark.parametrize("name", OPERATIONS)
def test_real_document(name: str) -> None:
    raw = (CORPORA / f"{name}.json").read_bytes()
    (facts, findings), copies = in_copies(raw, lambda: lint.check(syntax.read(raw)))
    assert copies < MOST_COPIES
    assert len(facts.operations) == OPERATIONS[name]
    assert [each for each in findings if each.severity == "error"] == []
    as_yaml = yaml.dump(json.loads(raw), Dumper=yaml.CSafeDumper, sort_keys=False, allow_unicode=True)
    assert syntax.read(as_yaml.encode()).value == json.loads(raw)


# --- Whatever comes ---------------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["$ref", "name", "in", "x"]), inner),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found += places(item, (*path, key))
    return found


WHOLE = (
    syntax.read(SWAGGER.encode()).value
    | syntax.read(
        (ONE + "components: {schemas: {A: {}}, securitySchemes: {k: {type: http, scheme: basic}}}").encode()
    ).value
)


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(places(WHOLE)), thing=ANYTHING)
def test_anything_anywhere_is_read_or_refused(place: tuple[Any, ...], thing: Any) -> None:
    document = json.loads(json.dumps(WHOLE))
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = thing
    with suppress(UnreadableDocument):
        lint.check(syntax.read(json.dumps(document).encode()))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60) | st.text("{}[]:,-&*!?|>'\"# \nab01", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    with suppress(UnreadableDocument):
        source = syntax.read(raw)
        source.lines({"/a", "/b/0"})
