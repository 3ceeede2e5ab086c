"""JSON pointers (RFC 6901), and the lines they lead to: walks over the tokens of a text, whatever its syntax."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# A simplified event: "{" "}" "[" "]" open and close, "=" is a scalar or a key with its text; then the line.
Token = tuple[str, str, int]
#: The way to a value, last step first. As text, a long key would be there once for each of the values below it.
Steps = tuple["Steps", str | int] | None


class Place:
    """A value that somebody wants to find, or one around it. ``line`` is 0 until it is known."""

    __slots__ = ("below", "line")

    def __init__(self) -> None:
        self.line = 0
        self.below: dict[str, Place] = {}  # by the step as a pointer has it


def escape(key: str) -> str:
    """One step of a pointer."""
    return key.replace("~", "~0").replace("/", "~1")


def pointer_of(steps: Steps) -> str:
    found: list[str] = []
    while steps is not None:
        steps, step = steps
        found.append(f"/{escape(str(step))}")
    return "".join(reversed(found))


def walk(tokens: Iterable[Token], around: Place | None = None) -> Iterator[tuple[Steps, Place | None, int, int, bool]]:
    """Steps, place, line and depth of every key and list item; ``False`` marks the opening of an object or a list.

    With ``around`` given, what is not in it is passed over, and has no place.
    """
    path: list[Steps] = []  # the way to each open container
    places: list[Place | None] = []
    keys: list[str | int | None] = []  # per open container: the key waiting for its value, or the next index
    passing = 0  # how many containers deep in one that is passed over
    yield None, around, 1, 0, True
    for kind, text, line in tokens:
        if passing:
            passing += (kind in "{[") - (kind in "}]")
            continue
        if kind in "}]":
            path.pop()
            places.pop()
            keys.pop()
            continue
        steps: Steps = None
        place = around
        if keys:
            waiting = keys[-1]
            if waiting is None and kind == "=":
                keys[-1] = text
                yield (path[-1], text), _below(places[-1], text), line, len(path), True
                continue
            step = str(waiting) if waiting is None else waiting
            steps = path[-1], step
            place = _below(places[-1], step)
            if isinstance(waiting, int):
                keys[-1] = waiting + 1
                yield steps, place, line, len(path), True
            else:
                keys[-1] = None
        if kind in "{[":
            if around is not None and place is None:
                passing = 1
                continue
            path.append(steps)
            places.append(place)
            keys.append(None if kind == "{" else 0)
            yield steps, place, line, len(path), False


def _below(place: Place | None, step: str | int) -> Place | None:
    return place.below.get(escape(str(step))) if place is not None else None


def locate(tokens: Iterable[Token], wanted: set[str]) -> dict[str, int]:
    """The line of each pointer, or of the nearest thing around it. Reads no further than to the last of them."""
    root = Place()
    missing: set[Place] = set()
    for pointer in wanted:
        place = root
        for step in pointer.split("/")[1:]:
            place = place.below.setdefault(step, Place())
        missing.add(place)
    for _, found, line, _, _ in walk(tokens, root):
        if found is not None and not found.line:
            found.line = line
            missing.discard(found)
            if not missing:
                break
    return {pointer: _nearest(root, pointer) for pointer in wanted}


def _nearest(place: Place, pointer: str) -> int:
    line = place.line
    for step in pointer.split("/")[1:]:
        place = place.below[step]
        line = place.line or line
    return line
