"""JSON text to values and tokens."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from apimgr.catalog.openapi.bounds import UnreadableDocument, check_size, too_deep
from apimgr.catalog.openapi.pointers import Token, pointer_of, walk

# Texts in long strides that are never taken back: a choice for each character would be remembered, 100 bytes a piece.
_JSON_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"|[{}\[\]]|[^\s{}\[\]:,"]+')


def read_json(text: str) -> tuple[Any, bool]:
    """The value, and whether any object has a key twice: ``json`` alone would keep the last and say nothing."""
    has_duplicates = False

    def build(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal has_duplicates
        found = dict(pairs)
        has_duplicates = has_duplicates or len(found) != len(pairs)
        return found

    try:
        value = json.loads(text, object_pairs_hook=build, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise UnreadableDocument(
            f"Not JSON: {error.msg} in line {error.lineno}, column {error.colno}.", code="not_json"
        ) from error
    except RecursionError as error:
        raise too_deep() from error
    except ValueError as error:
        raise UnreadableDocument(f"Not JSON: {error}.", code="not_json") from error
    check_size(value)
    return value, has_duplicates


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def json_tokens(text: str) -> Iterator[Token]:
    line, last = 1, 0
    for match in _JSON_TOKEN.finditer(text):
        start = match.start()
        line += text.count("\n", last, start)
        last = start
        word = match.group()
        if word in "{}[]":
            yield word, "", line
        else:
            yield "=", json.loads(word) if word[0] == '"' else word, line


def json_duplicates(text: str) -> Iterator[tuple[str, int]]:
    seen: dict[int, set[object]] = {}  # by depth, the keys of the object that is open there
    for steps, _, line, depth, is_key in walk(json_tokens(text)):
        key = steps[1] if steps is not None else ""
        if not is_key:
            seen[depth] = set()
        elif key in seen.setdefault(depth, set()):
            yield pointer_of(steps), line
        else:
            seen[depth].add(key)
