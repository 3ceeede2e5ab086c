"""Path and method to operation."""

from __future__ import annotations

import pytest

from apimgr.contracts.snapshot import OperationDocument
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


def test_ten_thousand_operations() -> None:
    documents = tuple(OperationDocument(n + 1, "GET", f"/group{n % 100}/thing{n}/{{id}}") for n in range(10_000))
    trie = OperationTrie(documents)
    assert trie.find(b"/group42/thing9942/x", b"GET") == (9943, ())
