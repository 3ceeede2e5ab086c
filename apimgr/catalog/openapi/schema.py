"""A document held against the official JSON Schema of its OpenAPI version.

The schemas of 3.0, 3.1 and 3.2 are the ones drf-spectacular ships. There is none for 2.0: what ``lint`` checks itself
must do there. Schema Objects of 3.1 are not looked into: the official schema leaves them to their own dialect.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from itertools import islice
from time import monotonic
from typing import Any, Final

from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import validator_for

from apimgr.catalog.openapi.pointers import escape

MAX_VIOLATIONS: Final = 50
# Checking costs up to 3 seconds per megabyte, and a publisher is waiting.
TIME_LIMIT_S: Final = 1.5


@cache
def _validator(release: str) -> Validator | None:
    file = files("drf_spectacular") / "validation" / f"openapi_{release.replace('.', '_')}_schema.json"
    if not file.is_file():
        return None
    # The same demand, that the last character is none of these; as written it is tried from each one to the end.
    text = file.read_text(encoding="utf-8").replace('"[^/#?]+$"', '"[^/#?]$"')
    schema = json.loads(text)
    validator: Validator = validator_for(schema)(schema)
    return validator


class Unfinished(Exception):
    """The time was over, or a part nests too deep, before the whole document was checked."""


def violations(document: dict[str, Any], version: str) -> Iterator[tuple[str, str]]:
    """Pointer and sentence of each place that departs from the schema. Raises ``Unfinished`` when it gives up."""
    validator = _validator(".".join(version.split(".")[:2]))
    if validator is None:
        return
    ends_at = monotonic() + TIME_LIMIT_S
    for part in _parts(document):
        try:
            for error in islice(validator.iter_errors(part), MAX_VIOLATIONS):
                # Of all the alternatives that did not fit, the one that came closest.
                closest = best_match([error]) or error
                yield "".join(f"/{escape(str(step))}" for step in closest.absolute_path), _sentence(closest)
        except RecursionError:
            raise Unfinished from None
        if monotonic() > ends_at:
            raise Unfinished


def _parts(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The document in slices, each a small document itself: its head, each path, each component."""
    paths, components = document.get("paths"), document.get("components")
    yield {**document, **({"paths": {}} if paths else {}), **({"components": {}} if components else {})}
    frame = {"openapi": document["openapi"], "info": {"title": "", "version": ""}, "paths": {}}
    if isinstance(paths, dict):
        yield from ({**frame, "paths": {path: item}} for path, item in paths.items())
    elif paths:
        yield {**frame, "paths": paths}
    if not isinstance(components, dict):
        components = {}  # what else it is, the references to it say
    for kind, named in components.items():
        if isinstance(named, dict):
            yield from ({**frame, "components": {kind: {name: item}}} for name, item in named.items())
        else:
            yield {**frame, "components": {kind: named}}


def _sentence(error: ValidationError) -> str:
    """What is wrong, without the value itself: that may be a megabyte."""
    name = str(error.absolute_path[-1]) if error.absolute_path else "the document"
    expected = str(error.validator_value)
    match error.validator:
        case "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            return f"“{name[:80]}” lacks {', '.join(f'“{key}”' for key in missing)}."
        case "type":
            return f"“{name[:80]}” must be of type {expected}."
        case "enum":
            return f"“{name[:80]}” must be one of {expected[:200]}."
        case "additionalProperties" | "unevaluatedProperties":
            return f"“{name[:80]}” holds a field that OpenAPI does not know."
        case _:
            return f"“{name[:80]}” does not follow the OpenAPI schema ({error.validator})."
