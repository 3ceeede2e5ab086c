"""How far the templates of a version branch: what finding the operation of one call may cost a gateway at most."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

#: Real documents of hundreds of operations come to 15. As many patterns are held against the longest path in 15 ms.
MAX_WAYS: Final = 1_000
_PARAMETER: Final = re.compile(r"\{[^{}]*?([+*]?)\}")

Tree = dict[str, "Tree"]


def most_ways(templates: Iterable[str]) -> int:
    """How many places in the tree of ``templates`` one path can lead to at most.

    Of the literals at a place a segment is one at most. A parameter takes whatever comes, and each pattern might.
    """
    root: Tree = {}
    for template in templates:
        place = root
        for segment in template.removeprefix("/").split("/"):
            # What a parameter is called makes no difference, but one that takes the rest of the path is another.
            place = place.setdefault(_PARAMETER.sub(r"{\1}", segment), {})
    return _ways_from(root)


def _ways_from(root: Tree) -> int:
    """With a list instead of recursion: a template may have as many segments as it has characters."""
    places: list[tuple[Tree, int, bool]] = [(root, 0, False)]  # each before those that follow it
    at = 0
    while at < len(places):
        children = places[at][0].items()
        places += [(child, at, "{" not in segment and segment != "*") for segment, child in children]
        at += 1
    literal, others = [0] * len(places), [0] * len(places)
    for at in range(len(places) - 1, 0, -1):
        _, parent, is_literal = places[at]
        ways = 1 + literal[at] + others[at]
        if is_literal:
            literal[parent] = max(literal[parent], ways)
        else:
            others[parent] += ways
    return 1 + literal[0] + others[0]
