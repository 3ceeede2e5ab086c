"""Bytes to JSON values, with the line of everything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from apimgr.catalog.openapi.bounds import MAX_BYTES, MAX_DUPLICATES, UnreadableDocument
from apimgr.catalog.openapi.json_text import json_duplicates, json_tokens, read_json
from apimgr.catalog.openapi.pointers import locate
from apimgr.catalog.openapi.yaml_text import YamlBuilder, yaml_tokens

__all__ = ["MAX_BYTES", "Source", "Syntax", "UnreadableDocument", "read"]

Syntax = Literal["json", "yaml"]


@dataclass(frozen=True, slots=True)
class Source:
    """A document read: its value, the text to find lines in, and pointer and line of the first keys that came twice."""

    value: Any
    syntax: Syntax
    text: str
    duplicates: tuple[tuple[str, int], ...] = ()

    def lines(self, pointers: Iterable[str]) -> dict[str, int]:
        """The line of each JSON pointer, or of the nearest thing around it. One pass over the text, made when asked."""
        wanted = set(pointers)
        return locate(json_tokens(self.text) if self.syntax == "json" else yaml_tokens(self.text), wanted)


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
        value, has_duplicates = read_json(text)
        return Source(
            value, "json", text, tuple(islice(json_duplicates(text), MAX_DUPLICATES)) if has_duplicates else ()
        )
    builder = YamlBuilder(text)
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
