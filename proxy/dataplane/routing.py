"""Path and method to operation: a trie per version. Pure.

A segment matches, in this order, a literal, a pattern such as ``{name}.json`` (most literal characters first), a
parameter ``{id}``, and last a wildcard ``{rest+}`` or ``*``, which takes everything that is left and so stands at the
end alone: a template never matches more than it says. Where the better branch leads nowhere the next is tried, so the
work is bounded by the segments and the templates that share them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from apimgr.contracts.snapshot import OperationDocument
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path

_PARAMETER = re.compile(r"\{[^{}]*\}")


class Node:
    """Where some path has come after so many segments.

    The first literal that may follow and the first method lie in the node itself: few have more, and of ten thousand
    operations each dictionary is some cache lines that no other call has just used.
    """

    __slots__ = ("after", "ids", "literals", "method", "operation", "parameter", "patterns", "wildcard", "word")

    def __init__(self) -> None:
        self.word = b""
        self.after: Node | None = None  # what follows after ``word``
        self.parameter: Node | None = None
        self.method = b""
        self.operation = 0  # of ``method``
        self.patterns: tuple[tuple[int, re.Pattern[bytes], Node], ...] = ()
        self.literals: dict[bytes, Node] | None = None  # the further ones
        self.ids: dict[bytes, int] | None = None  # of further methods
        self.wildcard: Node | None = None

    def literal(self, segment: bytes) -> Node | None:
        if segment == self.word:
            return self.after
        return self.literals.get(segment) if self.literals is not None else None

    def id_of(self, method: bytes) -> int:
        """0 if there is none."""
        if method == self.method:
            return self.operation
        return self.ids.get(method, 0) if self.ids is not None else 0

    def methods(self) -> set[bytes]:
        return {self.method, *(self.ids or ())} if self.method else set()

    def put(self, method: bytes, operation: int) -> None:
        if not self.method:
            self.method, self.operation = method, operation
        elif not self.id_of(method):
            self.ids = self.ids or {}
            self.ids[method] = operation

    def grow(self, word: bytes) -> Node:
        """The node after the literal ``word``, which is made if there is none."""
        child = self.literal(word)
        if child is None:
            child = Node()
            if self.after is None:
                self.word, self.after = word, child
            else:
                self.literals = self.literals or {}
                self.literals[word] = child
        return child


class OperationTrie:
    """The operations of one version, ready to be found by path and method."""

    def __init__(self, operations: tuple[OperationDocument, ...]) -> None:
        self._root = Node()
        self._words: dict[bytes, bytes] = {}  # each once, however many templates hold it
        for operation in operations:
            method = self._one(operation.method.upper().encode())
            self._node_for(operation.path).put(method, operation.id)
        self._words.clear()

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
            found = node.id_of(method)
            if not found and method == b"HEAD":
                found = node.id_of(b"GET")
            if found:
                return found, ()
            allowed |= node.methods()
        if b"GET" in allowed:
            allowed.add(b"HEAD")
        return 0, tuple(sorted(allowed))

    def _node_for(self, template: str) -> Node:
        node = self._root
        *above, last = template.removeprefix("/").split("/")
        for segment in above:
            node = self._child(node, segment)
        if not _is_wildcard(last):
            return self._child(node, last)
        node.wildcard = node.wildcard or Node()
        return node.wildcard

    def _child(self, node: Node, segment: str) -> Node:
        if "{" not in segment:
            return node.grow(self._one(_canonical(segment)))
        if _PARAMETER.fullmatch(segment):
            node.parameter = node.parameter or Node()
            return node.parameter
        literals = [_canonical(part) for part in _PARAMETER.split(segment)]
        pattern = re.compile(b"([^/]+?)".join(map(re.escape, literals)))
        for _, known, child in node.patterns:
            if known.pattern == pattern.pattern:
                return child
        child = Node()
        patterns = [*node.patterns, (sum(map(len, literals)), pattern, child)]
        node.patterns = tuple(sorted(patterns, key=lambda entry: -entry[0]))
        return child

    def _one(self, word: bytes) -> bytes:
        return self._words.setdefault(word, word)


def _is_wildcard(segment: str) -> bool:
    return segment == "*" or (_PARAMETER.fullmatch(segment) is not None and segment[-2] in "+*")


def _canonical(literal: str) -> bytes:
    """A template's literal in the spelling that request paths arrive in."""
    try:
        return canonical_path(b"/" + literal.encode()).removeprefix(b"/")
    except Malformed:
        return literal.encode()


def _first_match(node: Node, segments: list[bytes], method: bytes) -> int:
    """What ``_matches`` would find first, for the usual case that the best branch at each step is the right one."""
    for segment in segments:
        child = node.literal(segment)
        if child is None:
            child = node.parameter
            if child is None or node.patterns or not segment:
                return 0
        node = child
    return node.id_of(method)


def _matches(node: Node, segments: list[bytes], at: int) -> Iterator[Node]:
    if at == len(segments):
        if node.method:
            yield node
        return
    segment = segments[at]
    literal = node.literal(segment)
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
