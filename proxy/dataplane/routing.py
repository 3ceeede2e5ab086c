"""Path and method to operation: a trie per version. Pure.

A segment matches, in this order, a literal, a pattern such as ``{name}.json`` (most literal characters first), a
parameter ``{id}``, and last a wildcard ``{rest+}`` or ``*``, which takes everything that is left. Where the better
branch leads nowhere the next is tried, so the work is bounded by the segments and the templates that share them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from apimgr.contracts.snapshot import OperationDocument
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path

_PARAMETER = re.compile(r"\{[^{}]*\}")


class Node:
    __slots__ = ("literals", "operations", "parameter", "patterns", "wildcard")

    def __init__(self) -> None:
        self.literals: dict[bytes, Node] = {}
        self.patterns: list[tuple[int, re.Pattern[bytes], Node]] = []
        self.parameter: Node | None = None
        self.wildcard: Node | None = None
        self.operations: dict[bytes, int] = {}


class OperationTrie:
    """The operations of one version, ready to be found by path and method."""

    def __init__(self, operations: tuple[OperationDocument, ...]) -> None:
        self._root = Node()
        for operation in operations:
            self._node_for(operation.path).operations.setdefault(operation.method.upper().encode(), operation.id)

    def find(self, path: bytes, method: bytes) -> tuple[int, tuple[bytes, ...]]:
        """``(operation id, ())``; or 0 and the methods that the path does have, none if the path is unknown.

        ``HEAD`` finds the operation of ``GET`` where it has none of its own (RFC 9110 section 9.1).
        """
        segments = path[1:].split(b"/")
        found = _first_match(self._root, segments, method)
        if found:
            return found, ()
        allowed: set[bytes] = set()
        for node in _matches(self._root, segments, 0):
            found = node.operations.get(method, 0)
            if not found and method == b"HEAD":
                found = node.operations.get(b"GET", 0)
            if found:
                return found, ()
            allowed.update(node.operations)
        if b"GET" in allowed:
            allowed.add(b"HEAD")
        return 0, tuple(sorted(allowed))

    def _node_for(self, template: str) -> Node:
        node = self._root
        for segment in template.removeprefix("/").split("/"):
            if _is_wildcard(segment):
                node.wildcard = node.wildcard or Node()
                return node.wildcard
            node = _child(node, segment)
        return node


def _is_wildcard(segment: str) -> bool:
    return segment == "*" or (_PARAMETER.fullmatch(segment) is not None and segment[-2] in "+*")


def _child(node: Node, segment: str) -> Node:
    if "{" not in segment:
        return node.literals.setdefault(_canonical(segment), Node())
    if _PARAMETER.fullmatch(segment):
        node.parameter = node.parameter or Node()
        return node.parameter
    literals = [_canonical(part) for part in _PARAMETER.split(segment)]
    pattern = re.compile(b"([^/]+?)".join(map(re.escape, literals)))
    for _, known, child in node.patterns:
        if known.pattern == pattern.pattern:
            return child
    child = Node()
    node.patterns.append((sum(map(len, literals)), pattern, child))
    node.patterns.sort(key=lambda entry: -entry[0])
    return child


def _canonical(literal: str) -> bytes:
    """A template's literal in the spelling that request paths arrive in."""
    try:
        return canonical_path(b"/" + literal.encode()).removeprefix(b"/")
    except Malformed:
        return literal.encode()


def _first_match(node: Node, segments: list[bytes], method: bytes) -> int:
    """What ``_matches`` would find first, for the usual case that the best branch at each step is the right one."""
    for segment in segments:
        child = node.literals.get(segment)
        if child is None:
            child = node.parameter
            if child is None or node.patterns or not segment:
                return 0
        node = child
    return node.operations.get(method, 0)


def _matches(node: Node, segments: list[bytes], at: int) -> Iterator[Node]:
    if at == len(segments):
        if node.operations:
            yield node
        return
    segment = segments[at]
    literal = node.literals.get(segment)
    if literal is not None:
        yield from _matches(literal, segments, at + 1)
    if segment:
        for _, pattern, child in node.patterns:
            if pattern.fullmatch(segment):
                yield from _matches(child, segments, at + 1)
        if node.parameter is not None:
            yield from _matches(node.parameter, segments, at + 1)
    if node.wildcard is not None:
        yield node.wildcard
