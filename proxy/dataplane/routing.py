"""Path and method to operation: a trie per version. Pure.

A segment matches, in this order, a literal, a pattern such as ``{name}.json`` (most literal characters first), a
parameter ``{id}``, and last a wildcard ``{rest+}`` or ``*``, which takes everything that is left and so stands at the
end alone: a template never matches more than it says. Where the better branch leads nowhere the next is tried. No place
in the tree is visited twice for a call, and a segment is read once for each pattern that it is compared with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from apimgr.contracts.snapshot import OperationDocument
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path

_PARAMETER = re.compile(r"\{[^{}]*\}")


class Pattern:
    """A segment with text around or between its parameters, each of which takes one byte or more: ``{name}.{kind}``.

    Nothing is tried twice: where a text occurs first is the best place for it, for it leaves the most to those that
    follow. A regular expression of the whole would try every other place as well before it gives up.
    """

    __slots__ = ("child", "literals", "middle", "prefix", "size", "suffix")

    def __init__(self, literals: list[bytes]) -> None:
        self.literals = literals  # what is around and between the parameters: one more than there are of those
        self.prefix = literals[0]
        self.suffix = literals[-1]
        # Not ``bytes.find``, whose steps may be as many as the product of both lengths. An expression without operators
        # is looked for in one pass (Knuth, Morris and Pratt), whatever the text repeats.
        self.middle = tuple(re.compile(re.escape(literal)) for literal in literals[1:-1])
        self.size = sum(map(len, literals))
        self.child = Node()

    def matches(self, segment: bytes) -> bool:
        if not (segment.startswith(self.prefix) and segment.endswith(self.suffix)):
            return False
        at = len(self.prefix)
        end = len(segment) - len(self.suffix)
        for literal in self.middle:
            found = literal.search(segment, at + 1, end)
            if found is None:
                return False
            at = found.end()
        return at < end


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
        self.patterns: tuple[Pattern, ...] = ()  # those with most text first
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
        for node in _matches(self._root, segments):
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
        # What stands beside a parameter is no segment of its own: a dot there is a dot.
        literals = [_canonical("x" + part)[1:] for part in _PARAMETER.split(segment)]
        if len(literals) == 1:  # a brace that opens nothing
            return node.grow(self._one(literals[0]))
        for known in node.patterns:
            if known.literals == literals:
                return known.child
        pattern = Pattern(literals)
        node.patterns = tuple(sorted([*node.patterns, pattern], key=lambda each: -each.size))
        return pattern.child

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


def _matches(root: Node, segments: list[bytes]) -> Iterator[Node]:
    """Each node that the whole path leads to, the best first."""
    last = len(segments)
    ahead = [(root, 0)]  # the best at the end
    while ahead:
        node, at = ahead.pop()
        if at == last:
            if node.method:
                yield node
            continue
        segment = segments[at]
        if node.wildcard is not None:
            ahead.append((node.wildcard, last))
        if segment:
            if node.parameter is not None:
                ahead.append((node.parameter, at + 1))
            if node.patterns:
                ahead += [(each.child, at + 1) for each in reversed(node.patterns) if each.matches(segment)]
        literal = node.literal(segment)
        if literal is not None:
            ahead.append((literal, at + 1))
