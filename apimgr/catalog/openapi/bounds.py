"""How large, deep and multiplied a document may be, and the error for one that is no document at all."""

from __future__ import annotations

from typing import Any, Final

from apimgr.core.errors import DomainError

MAX_BYTES: Final = 20 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_KEY_CHARS: Final = 2_000  # a finding tells all the keys that lead to it
MAX_DUPLICATES: Final = 50  # are told
MAX_NODES: Final = 2_000_000  # A real document of 20 MB has about 1.2 million.
MAX_EXPANDED: Final = 2 * MAX_BYTES  # text after aliases are written out


class UnreadableDocument(DomainError):
    """Bytes that are no document at all. The message says what and where."""

    code = "document_unreadable"


def check_size(value: Any) -> None:
    """Depth, number of nodes and length of keys, level by level and so without recursion."""
    level, nodes = [value], 0
    for _ in range(MAX_DEPTH + 1):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise too_many()
        following: list[Any] = []
        for item in level:
            if type(item) is dict:
                if item and max(map(len, item)) > MAX_KEY_CHARS:
                    raise UnreadableDocument(
                        f"The document has a key of more than {MAX_KEY_CHARS:,} characters.", code="document_too_large"
                    )
                following.extend(item.values())
            elif type(item) is list:
                following.extend(item)
        if not following:
            return
        level = following
    raise too_deep()


def too_deep(line: int = 0) -> UnreadableDocument:
    where = f" in line {line}" if line else ""
    return UnreadableDocument(f"The document nests deeper than {MAX_DEPTH} levels{where}.", code="document_too_deep")


def too_many() -> UnreadableDocument:
    return UnreadableDocument(f"The document has more than {MAX_NODES:,} values.", code="document_too_large")
