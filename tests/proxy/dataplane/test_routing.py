"""Path and method to operation."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimgr.contracts.snapshot import OperationDocument
from proxy.dataplane.http.request import MAX_REQUEST_LINE
from proxy.dataplane.routing import OperationTrie

OPERATIONS = [
    (1, "GET", "/"),
    (2, "GET", "/items"),
    (3, "POST", "/items"),
    (4, "GET", "/items/{id}"),
    (5, "GET", "/items/special"),
    (6, "GET", "/items/{id}.json"),
    (7, "GET", "/items/{id}/parts/{part}"),
    (8, "DELETE", "/items/special/parts"),
    (9, "GET", "/files/{path+}"),
    (10, "GET", "/files/index"),
    (11, "GET", "/jobs/{id}:cancel"),
    (12, "GET", "/caf\u00e9/menu card"),
    (13, "PUT", "/items/{id}"),
    (14, "GET", "/any/*"),
    (15, "HEAD", "/items/special"),
    (16, "GET", "/slash/"),
    (17, "GET", "/trees/{path+}/leaves"),
    (18, "GET", "/trees/*/roots"),
]


@pytest.fixture(scope="module")
def trie() -> OperationTrie:
    return OperationTrie(tuple(OperationDocument(*operation) for operation in OPERATIONS))


@pytest.mark.parametrize(
    ("method", "path", "operation", "allowed"),
    [
        ("GET", "/", 1, ""),
        ("GET", "/items", 2, ""),
        ("POST", "/items", 3, ""),
        ("HEAD", "/items", 2, ""),
        ("HEAD", "/items/special", 15, ""),
        ("GET", "/items/7", 4, ""),
        ("GET", "/items/special", 5, ""),
        ("GET", "/items/7.json", 6, ""),
        ("GET", "/items/.json", 4, ""),
        ("GET", "/items/7/parts/8", 7, ""),
        ("GET", "/items/special/parts/8", 7, ""),  # the literal branch leads nowhere: back to the parameter
        ("PUT", "/items/special", 13, ""),  # the literal has no PUT, the parameter does
        ("GET", "/files/a/b/c", 9, ""),
        ("GET", "/files/index", 10, ""),
        ("GET", "/files/index/more", 9, ""),
        ("GET", "/jobs/9:cancel", 11, ""),
        ("GET", "/caf%C3%A9/menu%20card", 12, ""),
        ("GET", "/any/thing/at/all", 14, ""),
        ("GET", "/slash/", 16, ""),
        ("GET", "/trees/oak/leaves", 17, ""),  # in the middle it is one segment
        ("GET", "/trees/oak/old/leaves", 0, ""),
        ("GET", "/trees/oak", 0, ""),
        ("GET", "/trees/oak/roots", 0, ""),
        ("GET", "/trees/*/roots", 18, ""),
        ("GET", "/slash", 0, ""),
        ("GET", "/items/", 0, ""),
        ("GET", "/nothing", 0, ""),
        ("GET", "/jobs/9", 0, ""),
        ("DELETE", "/items", 0, "GET HEAD POST"),
        ("POST", "/items/special", 0, "GET HEAD PUT"),
        ("GET", "/items/special/parts", 0, "DELETE"),
        ("get", "/items", 0, "GET HEAD POST"),
    ],
)
def test_find(trie: OperationTrie, method: str, path: str, operation: int, allowed: str) -> None:
    found, methods = trie.find(path.encode(), method.encode())
    assert (found, b" ".join(methods).decode()) == (operation, allowed)


def trie_of(*templates: str) -> OperationTrie:
    """The operations are numbered from 1."""
    return OperationTrie(tuple(OperationDocument(n, "GET", template) for n, template in enumerate(templates, 1)))


@pytest.mark.parametrize(
    ("template", "served", "refused"),
    [
        ("{id}.json", "7.json a.json.json ..json", ".json 7.jso 7.json5 json"),
        ("v{id}", "v1 vv", "v w1"),
        ("{a}{b}", "ab abc", "a"),
        ("{a}{b}{c}.json", "abc.json abcd.json", "ab.json .json"),
        ("{a}-{b}", "a-b --- a--b a---", "- -- a- -b ab"),
        ("{a}-{b}-{c}.json", "1-2-3.json --a-b.json ------.json", "---a-.json 1-2.json --3.json 1-2-.json 1-2-3.jso"),
        ("{a}aa{b}", "xaax aaaa aaaaa", "aaa aax xaa"),
        ("a{a}a", "aaa aba", "a aa ab"),
        ("{a}.{b}.tar.gz", "x.y.tar.gz x.y.z.tar.gz", "x.tar.gz x..tar.gz .y.tar.gz"),
        ("{a}\u00e9{b}", "x%C3%A9y", "x%C3%A9 xy"),
        ("{a}.+{b}", "x.+y", "x.y x++y"),  # the text is meant as it stands
        ("{a", "%7Ba", "a xa"),
        ("{}-{}", "a-b", "a- -b"),
    ],
)
def test_texts_and_parameters_of_one_segment(template: str, served: str, refused: str) -> None:
    trie = trie_of(f"/{template}")
    found = {segment for segment in (served + " " + refused).split() if trie.find(f"/{segment}".encode(), b"GET")[0]}
    assert found == set(served.split())


TEXTS = st.text("ab-", max_size=3)


@given(st.lists(TEXTS, min_size=2, max_size=6), st.lists(TEXTS, max_size=8).map("".join))
def test_a_pattern_is_what_a_regular_expression_would_find(literals: list[str], segment: str) -> None:
    trie = trie_of("/" + "{p}".join(literals))
    expected = re.fullmatch(".+".join(map(re.escape, literals)), segment) is not None
    assert bool(trie.find(f"/{segment}".encode(), b"GET")[0]) is expected


@pytest.mark.parametrize(
    ("template", "repeated"),
    [
        ("{a}-{b}-{c}.json", "-"),
        ("{a}{b}{c}{d}.json", "-"),
        ("-".join(["{p}"] * 100) + ".json", "-"),
        ("{p}" * 100 + ".json", "-"),
        ("--".join(["{p}"] * 100) + "+{q}", "-"),
        ("{a}" + "a" * 240 + "b" + "a" * 240 + "{b}", "a"),
        ("{a}" + "\u00e9" * 490 + "b{c}", "%C3%A9"),
    ],
)
def test_a_segment_as_long_as_a_request_is_looked_through_once(template: str, repeated: str) -> None:
    """An expression that tries each place of each text would take from minutes to for ever."""
    segment = repeated * (MAX_REQUEST_LINE // len(repeated))
    assert trie_of(f"/{template}").find(f"/{segment}".encode(), b"GET") == (0, ())


def test_the_way_back_leads_to_the_next_best() -> None:
    trie = trie_of(
        "/a/{x}.{y}/1", "/a/{x}.json/2", "/a/b.json/3", "/a/{x}/4", "/{x}/{y}/5", "/{rest+}", "/a/{x}.json", "/a/c/*"
    )
    paths = ["b.json/3", "b.json/2", "b.json/1", "b.json/4", "b.json/5", "b.json/6", "b.json", "c.json", "c/5", "c"]
    assert [trie.find(f"/a/{path}".encode(), b"GET")[0] for path in paths] == [3, 2, 1, 4, 5, 6, 7, 7, 8, 6]


def test_a_template_of_as_many_segments_as_a_path_can_have() -> None:
    depth = MAX_REQUEST_LINE // 2
    trie = trie_of("/a" * depth + "/{x}", "/{x}" * depth)
    assert trie.find(b"/a" * depth, b"GET") == (2, ())


def test_ten_thousand_operations() -> None:
    documents = tuple(OperationDocument(n + 1, "GET", f"/group{n % 100}/thing{n}/{{id}}") for n in range(10_000))
    trie = OperationTrie(documents)
    assert trie.find(b"/group42/thing9942/x", b"GET") == (9943, ())
