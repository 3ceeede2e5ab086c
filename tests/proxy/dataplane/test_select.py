"""Which version a call means, as a table: what it sends, what it gets."""

from __future__ import annotations

import pytest

from apimgr.contracts import selection
from apimgr.contracts.snapshot import ChoiceDocument, RouteDocument, Selection
from proxy.dataplane.http import fields
from proxy.dataplane.http.fields import PLAIN, WITHHELD, kind_of
from proxy.dataplane.http.request import parse_request
from proxy.dataplane.http.vary import vary_on
from proxy.dataplane.policies.refusal import Refusal
from proxy.dataplane.policies.select import Fork

CHOICES = (ChoiceDocument("2024-10-01", 1), ChoiceDocument("2025-04-01", 2), ChoiceDocument("v3", 3))
NAMES_NONE, TWICE, UNKNOWN = "names no version", "more than once", "is not here"


def none_retired(version_id: int) -> bool:
    """Whether a version is retired: none is."""
    return False


def fork(select_by: Selection, name: str, default: int = 0) -> Fork:
    return Fork(RouteDocument("", "/orders", default, select_by, name, CHOICES), 10, none_retired)


def chosen(fork: Fork, target: str = "/orders", *lines: str) -> int | str:
    head = parse_request("\r\n".join([f"GET {target} HTTP/1.1", "Host: a", *lines, "", ""]).encode())
    assert head is not None
    try:
        return fork.version_id(head)
    except Refusal as refusal:
        return f"{refusal.outcome.code}: {refusal.detail}"


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["X-Version: 2024-10-01"], 1),
        (["x-version:2025-04-01"], 2),
        (["X-VERSION: \t v3 \t"], 3),
        (["X.Version: v3"], 3),
        (["X_Version: v3"], 3),  # an upstream that reads "_" as "-" would be told the same
        ([], NAMES_NONE),
        (["X-Versions: v3"], NAMES_NONE),
        (["X-Version: V3"], UNKNOWN),
        (["X-Version:"], UNKNOWN),
        (["X-Version: v3, v3"], UNKNOWN),
        (["X-Version: 2024-10-01", "X-Version: v3"], TWICE),
        (["X-Version: v3", "X-Version: v3"], TWICE),
        (["X-Version: v3", "X_Version: v3"], TWICE),
        (["X-Version: v3", "Connection: X-Version"], "keeps the version's name to this hop"),
        (["Connection: x-version"], "keeps the version's name to this hop"),
    ],
)
def test_by_header(lines: list[str], expected: int | str) -> None:
    found = chosen(fork("header", "X-Version"), "/orders?X-Version=v3", *lines)
    assert found == expected if isinstance(expected, int) else expected in str(found)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("?v=2024-10-01", 1),
        ("?a=1&v=2025-04-01&b", 2),
        ("?v=%76%33", 3),
        ("?%76=v3", 3),
        ("?a=%zz&v=v3", 3),
        ("", NAMES_NONE),
        ("?", NAMES_NONE),
        ("?vv=v3&a=v&_v=v3&v_=v3", NAMES_NONE),
        # The plain name, to servers that do not mind case, or make arrays and variables of names.
        ("?V=v3", "differ"),
        ("?v=v3&V=2024-10-01", "differ"),
        ("?v=v3&v[]=2024-10-01", "differ"),
        ("?v%5B0%5D=v3", "differ"),
        ("?a=1;%56=v3", "differ"),
        ("?%20v=v3", "differ"),
        ("?+v=v3", "differ"),
        ("?v%00=v3", "differ"),
        ("?a=?v=v3", NAMES_NONE),
        ("?a=1&v", UNKNOWN),
        ("?v=", UNKNOWN),
        ("?v=v4", UNKNOWN),
        ("?v=V3", UNKNOWN),
        ("?v=v3+", UNKNOWN),
        ("?v=v3%20", UNKNOWN),
        ("?v=%2576%2533", UNKNOWN),  # decoded once, not twice
        ("?v=v%3", UNKNOWN),
        ("?v=v=v3", UNKNOWN),
        ("?v=v3&v=v3", TWICE),
        ("?v=v3&v=2024-10-01", TWICE),
        ("?v=v3&%76=2024-10-01", TWICE),
        ("?v=v3&v", TWICE),
        ("?a=1;v=v3", "semicolons"),
        ("?v=v3;a=1", "semicolons"),
        ("?v=v3&a=1;v=v3", "semicolons"),
        ("?a=1;b=2&v=v3", 3),
    ],
)
def test_by_query(query: str, expected: int | str) -> None:
    found = chosen(fork("query", "v"), f"/orders{query}", "v: 2024-10-01")
    assert found == expected if isinstance(expected, int) else expected in str(found)


@pytest.mark.parametrize("name", ["api_version", "api.version", "Api-Version"])
def test_names_that_servers_make_the_same_variable_of(name: str) -> None:
    for other in ("api_version", "api.version", "API_VERSION", "api%20version", "api+version"):
        if other != name:
            expected = "differ" if name != "Api-Version" else NAMES_NONE
            assert expected in str(chosen(fork("query", name), f"/orders?{other}=v3"))


def test_a_call_that_names_none_gets_the_default_and_no_other_call_does() -> None:
    by_header, by_query = fork("header", "X-Version", 2), fork("query", "v", 2)
    assert chosen(by_header) == chosen(by_query) == 2
    assert UNKNOWN in str(chosen(by_header, "/orders", "X-Version: v4"))
    assert UNKNOWN in str(chosen(by_query, "/orders?v="))


def test_a_refusal_names_the_choices_and_repeats_nothing_of_the_call() -> None:
    detail = chosen(fork("header", "X-Version"), "/orders", "X-Version: <script>")
    assert detail == (
        "version_unknown: The call names a version that is not here. "
        "Send one of 2024-10-01, 2025-04-01, v3 in the header field X-Version."
    )


def test_many_choices_are_not_all_named() -> None:
    many = tuple(ChoiceDocument(f"v{number}", number) for number in range(1, 31))
    detail = chosen(Fork(RouteDocument("", "/", 0, "query", "v", many), 10, none_retired))
    assert "v20 and 10 more in the query parameter v." in str(detail)


@pytest.mark.parametrize(
    ("lines", "varied"),
    [
        (b"", b"Vary: X-Version\r\n"),
        (b"ETag: 1\r\n", b"ETag: 1\r\nVary: X-Version\r\n"),
        (b"Vary: Accept\r\nETag: 1\r\n", b"ETag: 1\r\nVary: Accept, X-Version\r\n"),
        (b"ETag: 1\r\nvary:Accept , Origin\r\nVary: DNT\r\n", b"ETag: 1\r\nVary: Accept, Origin, DNT, X-Version\r\n"),
        (b"Vary: *\r\n", b"Vary: *\r\n"),
        (b"Vary: Accept, x-version\r\n", b"Vary: Accept, x-version\r\n"),
        (b"Vary: \r\n", b"Vary: X-Version\r\n"),
        (b"X-Vary: Accept\r\n", b"X-Vary: Accept\r\nVary: X-Version\r\n"),
    ],
)  # fmt: skip
def test_vary_says_it_once_in_one_field(lines: bytes, varied: bytes) -> None:
    assert vary_on(lines, b"X-Version") == varied


@pytest.mark.parametrize(
    ("select_by", "name", "is_fit"),
    [
        ("header", "X-Api-Version", True),
        ("header", "Api-Version", True),
        ("header", "Accept", True),
        ("header", "X-Api-Key", False),
        ("header", "authorization", False),
        ("header", "Cookie", False),
        ("header", "Connection", False),
        ("header", "Transfer-Encoding", False),
        ("header", "Content-Type", False),
        ("header", "X-Forwarded-Version", False),
        ("header", "X-Consumer-Version", False),
        ("header", "X_Version", False),
        ("header", "X Version", False),
        ("header", "X-Version\r\nX", False),
        ("header", "", False),
        ("query", "api-version", True),
        ("query", "$version", False),
        ("query", "a=b", False),
        ("query", "v%20", False),
        ("query", "api_key", False),
        ("query", "Access-Token", False),
    ],
)
def test_names_that_can_choose(select_by: Selection, name: str, is_fit: bool) -> None:
    assert (selection.problem_of(RouteDocument("", "/", 0, select_by, name, CHOICES)) == "") is is_fit
    if select_by == "header" and is_fit:
        assert kind_of(name.encode()) in {PLAIN, WITHHELD}, "the gateway reads what may choose"


def test_a_field_that_the_gateway_reads_or_drops_cannot_choose() -> None:
    prefixed = {prefix + b"x" for prefix in fields._DROPPED_PREFIXES} - {b"x-api-x"}
    for name in {*fields._KINDS, *prefixed, *fields._METHOD_OVERRIDES}:
        assert selection.is_reserved("header", name.decode()), name


@pytest.mark.parametrize(
    ("choices", "problem"),
    [
        ((ChoiceDocument("a", 1), ChoiceDocument("a", 2)), "two versions have one value"),
        ((ChoiceDocument("a b", 1),), "no value"),
        ((ChoiceDocument("", 1),), "no value"),
        (tuple(ChoiceDocument(f"v{n}", n) for n in range(201)), "more than 200"),
    ],
)
def test_values_that_can_be_told_apart(choices: tuple[ChoiceDocument, ...], problem: str) -> None:
    assert problem in selection.problem_of(RouteDocument("", "/", 0, "query", "v", choices))


def test_choices_without_a_selection_mean_nothing() -> None:
    assert selection.problem_of(RouteDocument("", "/", 1, "", "", CHOICES))
    assert not selection.problem_of(RouteDocument("", "/", 1))


def test_the_fields_that_differ_from_call_to_call_cannot_choose() -> None:
    """They are kept apart from those that are looked at."""
    head = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nIdempotency-Key: 1\r\nCookie: a\r\nTraceparent: 1\r\n\r\n")
    assert head is not None
    assert len(head.own_fields) == 3
    for name, _ in head.own_fields:
        assert selection.is_reserved("header", name.decode())
