"""Bytes to JSON values, with the line of everything: JSON by ``json``, YAML from the events of libyaml.

YAML is read as JSON would be: no timestamps, no octal, no ``yes`` and ``no``, keys are text. Values are built from
events, not by PyYAML's constructors, so that depth, size and what an alias multiplies are bounded *before* they cost.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

import yaml

from apimgr.core.errors import DomainError

MAX_BYTES: Final = 20 * 1024 * 1024
MAX_DEPTH: Final = 64
MAX_NODES: Final = 2_000_000  # A real document of 20 MB has about 1.2 million.
MAX_EXPANDED: Final = 2 * MAX_BYTES  # text after aliases are written out

Syntax = Literal["json", "yaml"]
# A simplified event: "{" "}" "[" "]" open and close, "=" is a scalar or a key with its text; then the line.
Token = tuple[str, str, int]


class UnreadableDocument(DomainError):
    """Bytes that are no document at all. The message says what and where."""

    code = "document_unreadable"


@dataclass(frozen=True, slots=True)
class Source:
    """A document read: its value, the text to find lines in, and pointer and line of each key that came twice."""

    value: Any
    syntax: Syntax
    text: str
    duplicates: tuple[tuple[str, int], ...] = ()

    def lines(self, pointers: Iterable[str]) -> dict[str, int]:
        """The line of each JSON pointer, or of the nearest thing around it. One pass over the text, made when asked."""
        wanted = set(pointers)
        return _locate(_json_tokens(self.text) if self.syntax == "json" else _yaml_tokens(self.text), wanted)


def read(raw: bytes) -> Source:
    """Read JSON or YAML. Raises ``UnreadableDocument``."""
    if len(raw) > MAX_BYTES:
        raise UnreadableDocument(
            f"The document has {len(raw) / 2**20:.1f} MiB; the limit is {MAX_BYTES // 2**20} MiB.",
            code="document_too_large",
        )
    text = _decode(raw)
    if not text.strip():
        raise UnreadableDocument("The document is empty.", code="document_empty")
    # A YAML document may open with a brace too; a quote after it means JSON.
    if re.match(r"\s*(\[|\{\s*[\"}])", text):
        value, has_duplicates = _read_json(text)
        return Source(value, "json", text, tuple(_json_duplicates(text)) if has_duplicates else ())
    builder = _YamlBuilder(text)
    return Source(builder.build(), "yaml", text, tuple(builder.duplicates))


def _decode(raw: bytes) -> str:
    try:
        if raw[:2] in {b"\xff\xfe", b"\xfe\xff"}:
            return raw.decode("utf-16")
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableDocument(
            f"Line {line} is not text in UTF-8.", code="not_text", fix="Save the document in UTF-8."
        ) from error


# --- JSON -----------------------------------------------------------------------------------------------------------


def _read_json(text: str) -> tuple[Any, bool]:
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
        raise _too_deep() from error
    except ValueError as error:
        raise UnreadableDocument(f"Not JSON: {error}.", code="not_json") from error
    _check_size(value)
    return value, has_duplicates


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"the number {text[:20]} is too large")
    return number


def _check_size(value: Any) -> None:
    """Depth and number of nodes, level by level and so without recursion."""
    level, nodes = [value], 0
    for _ in range(MAX_DEPTH + 1):
        nodes += len(level)
        if nodes > MAX_NODES:
            raise _too_many()
        following: list[Any] = []
        for item in level:
            if type(item) is dict:
                following.extend(item.values())
            elif type(item) is list:
                following.extend(item)
        if not following:
            return
        level = following
    raise _too_deep()


def _too_deep(line: int = 0) -> UnreadableDocument:
    where = f" in line {line}" if line else ""
    return UnreadableDocument(f"The document nests deeper than {MAX_DEPTH} levels{where}.", code="document_too_deep")


def _too_many() -> UnreadableDocument:
    return UnreadableDocument(f"The document has more than {MAX_NODES:,} values.", code="document_too_large")


_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]|[^\s{}\[\]:,"]+')


def _json_tokens(text: str) -> Iterator[Token]:
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


def _json_duplicates(text: str) -> Iterator[tuple[str, int]]:
    seen: dict[int, set[str]] = {}
    for pointer, line, depth, is_key in _walk(_json_tokens(text)):
        if not is_key:
            seen[depth] = set()
        elif pointer in seen.setdefault(depth, set()):
            yield pointer, line
        else:
            seen[depth].add(pointer)


# --- YAML -----------------------------------------------------------------------------------------------------------

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


def _yaml_tokens(text: str) -> Iterator[Token]:
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


class _YamlBuilder:
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
        _check_size(self.result)  # again, with aliases followed: they add depth as well as size
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
            raise _too_deep(line)
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
            raise _too_many()
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
            if value in frame.value:
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


# --- Lines ----------------------------------------------------------------------------------------------------------


def escape(key: str) -> str:
    """One step of a JSON pointer (RFC 6901)."""
    return key.replace("~", "~0").replace("/", "~1")


def _walk(tokens: Iterator[Token], around: set[str] | None = None) -> Iterator[tuple[str, int, int, bool]]:
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


def _locate(tokens: Iterator[Token], wanted: set[str]) -> dict[str, int]:
    around = {prefix for pointer in wanted for prefix in _prefixes(pointer)}
    known: dict[str, int] = {"": 1}
    for pointer, line, _depth, _is_key in _walk(tokens, around):
        if pointer in around:
            known.setdefault(pointer, line)
    return {pointer: next(known[p] for p in _prefixes(pointer) if p in known) for pointer in wanted}


def _prefixes(pointer: str) -> Iterator[str]:
    """The pointer, then everything around it, innermost first."""
    yield pointer
    while pointer:
        pointer = pointer.rpartition("/")[0]
        yield pointer
