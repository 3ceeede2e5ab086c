"""YAML text to values and tokens.

YAML is read as JSON would be: no timestamps, no octal, no ``yes`` and ``no``, keys are text. Values are built from
events, not by PyYAML's constructors, so that depth, size and what an alias multiplies are bounded *before* they cost.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

import yaml

from apimgr.catalog.openapi.bounds import (
    MAX_DEPTH,
    MAX_DUPLICATES,
    MAX_EXPANDED,
    MAX_NODES,
    UnreadableDocument,
    check_size,
    too_deep,
    too_many,
)
from apimgr.catalog.openapi.pointers import Token, escape

_YAML_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_YAML_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,100})")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_STANDARD_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
)
# Versions are text however they are spelt: 3.10 is not 3.1.
_TEXT_PATHS = frozenset({("openapi",), ("swagger",), ("info", "version")})


def _yaml_events(text: str) -> Iterator[Any]:
    try:
        yield from yaml.parse(text, Loader=yaml.CSafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" in line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UnreadableDocument(f"Not YAML: {error.problem}{where}.", code="not_yaml") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise UnreadableDocument(f"Not YAML: {error.reason} in line {line}.", code="not_yaml") from error


def yaml_tokens(text: str) -> Iterator[Token]:
    for event in _yaml_events(text):
        line = event.start_mark.line + 1
        match event:
            case yaml.ScalarEvent():
                yield "=", event.value, line
            case yaml.AliasEvent():
                yield "=", f"*{event.anchor}", line
            case yaml.MappingStartEvent():
                yield "{", "", line
            case yaml.MappingEndEvent():
                yield "}", "", line
            case yaml.SequenceStartEvent():
                yield "[", "", line
            case yaml.SequenceEndEvent():
                yield "]", "", line


class _Open:
    """A container whose end has not come yet."""

    __slots__ = ("anchor", "key", "line", "merged", "size", "value")

    def __init__(self, value: dict[str, Any] | list[Any], anchor: str | None, line: int) -> None:
        self.value = value
        self.anchor = anchor
        self.line = line
        self.key: str | None = None
        self.merged: list[dict[str, Any]] = []
        self.size = 0


class YamlBuilder:
    """One YAML document, built from events with a stack of its own: nothing recurses."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = self.expanded = self.documents = 0
        self.result: Any = None
        self.duplicates: list[tuple[str, int]] = []

    def build(self) -> Any:
        for event in _yaml_events(self.text):
            self._take(event, event.start_mark.line + 1)
        check_size(self.result)  # again, with aliases followed: they add depth as well as size
        return self.result

    def _take(self, event: Any, line: int) -> None:
        match event:
            case yaml.ScalarEvent():
                self._scalar(event, line)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._open({} if isinstance(event, yaml.MappingStartEvent) else [], event, line)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._close()
            case yaml.AliasEvent():
                self._alias(event.anchor or "", line)
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise UnreadableDocument(
                        f"A second YAML document starts in line {line}; one is expected.", code="not_yaml"
                    )

    def _scalar(self, event: Any, line: int) -> None:
        self._check_tag(event.tag, line)
        if self._expects_key():
            value: Any = event.value
        else:
            value = event.value if self._is_text(event) else _plain(event.value)
        size = 1 + len(event.value)
        if event.anchor:
            self.anchors[event.anchor] = (value, size)
        self._add(value, size, line)

    def _is_text(self, event: Any) -> bool:
        if event.tag:
            return bool(event.tag.endswith(":str"))
        path = tuple(frame.key for frame in self.stack) if len(self.stack) <= 2 else ()
        return not event.implicit[0] or path in _TEXT_PATHS

    def _open(self, value: dict[str, Any] | list[Any], event: Any, line: int) -> None:
        self._check_tag(event.tag, line)
        if self._expects_key():
            raise UnreadableDocument(f"A key in line {line} is not text.", code="not_yaml")
        if len(self.stack) >= MAX_DEPTH:
            raise too_deep(line)
        if event.anchor:
            self.anchors.pop(event.anchor, None)
        self.stack.append(_Open(value, event.anchor, line))

    def _close(self) -> None:
        frame = self.stack.pop()
        if isinstance(frame.value, dict):
            for source in frame.merged:
                for key, value in source.items():
                    frame.value.setdefault(key, value)
        if frame.anchor:
            self.anchors[frame.anchor] = (frame.value, frame.size)
        self._add(frame.value, frame.size + 1, frame.line, counted=True)

    def _alias(self, anchor: str, line: int) -> None:
        if anchor not in self.anchors:
            raise UnreadableDocument(f"The alias *{anchor} in line {line} has no anchor before it.", code="not_yaml")
        value, size = self.anchors[anchor]
        if self._expects_key() and not isinstance(value, str):
            raise UnreadableDocument(f"A key in line {line} is not text.", code="not_yaml")
        self._add(value, size, line)

    def _add(self, value: Any, size: int, line: int, *, counted: bool = False) -> None:
        """Put a finished value into the container around it. ``size`` is its text with aliases written out."""
        self.nodes += 1
        # The size of a container was added piece by piece already; an alias adds the whole of what it names.
        self.expanded += 1 if counted else size
        if self.nodes > MAX_NODES:
            raise too_many()
        if self.expanded > MAX_EXPANDED:
            raise UnreadableDocument(
                f"Aliases multiply the document beyond {MAX_EXPANDED // 2**20} MiB in line {line}.", code="alias_bomb"
            )
        if not self.stack:
            self.result = value
            return
        frame = self.stack[-1]
        frame.size += size
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is None:
            frame.key = value
            if value in frame.value and len(self.duplicates) < MAX_DUPLICATES:
                self.duplicates.append((self._pointer(), line))
        else:
            self._set(frame, frame.key, value)
            frame.key = None

    def _set(self, frame: _Open, key: str, value: Any) -> None:
        assert isinstance(frame.value, dict)
        sources = value if isinstance(value, list) else [value]
        if key == "<<" and all(isinstance(source, dict) for source in sources):
            frame.merged.extend(sources)
        else:
            frame.value[key] = value

    def _pointer(self) -> str:
        """Where the builder is: the key it has just read, or the item it is about to read."""
        steps = (frame.key if isinstance(frame.value, dict) else len(frame.value) for frame in self.stack)
        return "".join(f"/{escape(str(step))}" for step in steps)

    def _expects_key(self) -> bool:
        return bool(self.stack) and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None

    def _check_tag(self, tag: str | None, line: int) -> None:
        if tag and tag != "!" and tag not in _STANDARD_TAGS:
            raise UnreadableDocument(f"The YAML tag {tag!r} in line {line} is not allowed here.", code="not_yaml")


def _plain(text: str) -> Any:
    """An unquoted scalar, as JSON would have it. What is no JSON value stays text."""
    if text in _YAML_NULL:
        return None
    if text in _YAML_BOOL:
        return _YAML_BOOL[text]
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) and not re.match(r"[-+]?0[0-9]", text) and math.isfinite(number := float(text)):
        return number
    return text
