"""How two configurations of a version differ, thing by thing. Pure: what is compared comes in, words are for pages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

SECTIONS: Final = ("route", "upstream", "gateway")


@dataclass(frozen=True, slots=True)
class Difference:
    """``part`` is the place of what differs, such as ``upstream.url``. ``None``: it was not there, or is there no more.

    Each operation that one of the two lacks is a difference of its own; its part is ``operations``.
    """

    part: str
    before: Any
    after: Any


def differences(before: dict[str, Any], after: dict[str, Any]) -> list[Difference]:
    """From one configuration, as revisions keep it but with the name of its ``document``, to another."""
    return [*_of_document(before, after), *_of_settings(before, after), *_of_operations(before, after)]


def _of_document(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    if before["document"] != after["document"]:
        yield Difference("document", before["document"], after["document"])


def _of_settings(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    for section in SECTIONS:
        old, new = before[section], after[section]
        for name in dict.fromkeys((*new, *old)):
            if old.get(name) != new.get(name):
                yield Difference(f"{section}.{name}", old.get(name), new.get(name))


def _of_operations(before: dict[str, Any], after: dict[str, Any]) -> Iterator[Difference]:
    old, new = ({(path, method) for _id, method, path in side["operations"]} for side in (before, after))
    for path, method in sorted(old ^ new):
        text = f"{method} {path}"
        is_gone = (path, method) in old
        yield Difference("operations", text if is_gone else None, None if is_gone else text)
