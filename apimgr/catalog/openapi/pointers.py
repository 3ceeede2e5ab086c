"""JSON pointers (RFC 6901), and the lines they lead to: walks over the tokens of a text, whatever its syntax."""

from __future__ import annotations

from collections.abc import Iterator

# A simplified event: "{" "}" "[" "]" open and close, "=" is a scalar or a key with its text; then the line.
Token = tuple[str, str, int]


def escape(key: str) -> str:
    """One step of a pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def walk(tokens: Iterator[Token], around: set[str] | None = None) -> Iterator[tuple[str, int, int, bool]]:
    """Pointer, line and depth of every key and list item; ``False`` marks the opening of an object instead of a key.

    With ``around`` given, containers that are not in it are passed over.
    """
    path: list[str] = []  # the pointer of each open container
    keys: list[str | int | None] = []  # per open container: the key waiting for its value, or the next index
    passing = 0  # how many containers deep in one that is passed over
    yield "", 1, 0, True
    for kind, text, line in tokens:
        if passing:
            passing += (kind in "{[") - (kind in "}]")
            continue
        if kind in "}]":
            path.pop()
            keys.pop()
            continue
        pointer = ""
        if keys:
            waiting = keys[-1]
            if waiting is None and kind == "=":
                keys[-1] = text
                yield f"{path[-1]}/{escape(text)}", line, len(path), True
                continue
            pointer = f"{path[-1]}/{escape(str(waiting))}"
            if isinstance(waiting, int):
                keys[-1] = waiting + 1
                yield pointer, line, len(path), True
            else:
                keys[-1] = None
        if kind in "{[":
            if around is not None and pointer not in around:
                passing = 1
                continue
            path.append(pointer)
            keys.append(None if kind == "{" else 0)
            yield pointer, line, len(path), False


def locate(tokens: Iterator[Token], wanted: set[str]) -> dict[str, int]:
    """The line of each pointer, or of the nearest thing around it."""
    around = {prefix for pointer in wanted for prefix in prefixes(pointer)}
    known: dict[str, int] = {"": 1}
    for pointer, line, _depth, _is_key in walk(tokens, around):
        if pointer in around:
            known.setdefault(pointer, line)
    return {pointer: next(known[p] for p in prefixes(pointer) if p in known) for pointer in wanted}


def prefixes(pointer: str) -> Iterator[str]:
    """The pointer, then everything around it, innermost first."""
    yield pointer
    while pointer:
        pointer = pointer.rpartition("/")[0]
        yield pointer
