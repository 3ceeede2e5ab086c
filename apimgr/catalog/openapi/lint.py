"""What is wrong, or could be better, in an OpenAPI document: findings with a pointer and a line. Pure.

An error keeps a document from being used, because the gateway or the reference could not work with it. A warning or a
note does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from apimgr.catalog.openapi import schema
from apimgr.catalog.openapi.parse import METHODS, Facts, as_list, describe, follow, resolve
from apimgr.catalog.openapi.pointers import Steps, escape, pointer_of
from apimgr.catalog.openapi.syntax import Source
from apimgr.contracts.bounds import problem_of_paths
from apimgr.contracts.templates import MAX_WAYS, most_ways

Severity = Literal["error", "warning", "info"]
_ORDER: Final = {"error": 0, "warning": 1, "info": 2}
MAX_PER_CODE: Final = 50  # The fifty-first of a kind tells nobody anything.
MAX_PATH_CHARS: Final = 500
# Values under these keys are data, where "$ref" is a word like any other.
_DATA: Final = frozenset({"example", "default", "enum", "const", "value"})
# Under these the keys are names somebody chose, so that "example" may be one of them.
_NAMED: Final = frozenset(
    [
        "properties",
        "patternProperties",
        "schemas",
        "definitions",
        "responses",
        "parameters",
        "examples",
        "requestBodies",
        "headers",
        "links",
        "paths",
        "securitySchemes",
        "securityDefinitions",
        "callbacks",
        "pathItems",
        "webhooks",
        "$defs",
        "dependentSchemas",
        "variables",
        "content",
        "encoding",
    ]
)


@dataclass(frozen=True, slots=True)
class Finding:
    """``pointer`` is a JSON pointer into the document, ``line`` counts from 1; 0 is not known yet."""

    severity: Severity
    code: str
    message: str
    pointer: str
    line: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check(source: Source) -> tuple[Facts, list[Finding]]:
    """Read the facts and everything worth saying, worst first. Raises ``UnreadableDocument`` for what is no OpenAPI.

    Of a document that could not be kept or used whatever else it holds nothing more is said: it would take long.
    """
    facts = describe(source.value)
    found = [finding for rule in _FIRST_RULES for finding in _capped(rule(source.value, facts))]
    if not found:
        found += [
            Finding("error", "duplicate_key", f"The key {pointer!r} is there twice.", pointer, line)
            for pointer, line in source.duplicates
        ]
        for rule in _RULES:
            found += _capped(rule(source.value, facts))
        found += _capped(_departures(source, facts, {finding.pointer for finding in found}))
    unplaced = {finding.pointer for finding in found if not finding.line}
    lines = source.lines(unplaced) if unplaced else {}
    placed = [_placed(finding, lines) for finding in found]
    return facts, sorted(placed, key=lambda finding: (_ORDER[finding.severity], finding.line))


def _placed(finding: Finding, lines: dict[str, int]) -> Finding:
    line = finding.line or lines[finding.pointer]
    return Finding(finding.severity, finding.code, finding.message, finding.pointer, line)


def _capped(findings: Iterator[Finding]) -> Iterator[Finding]:
    seen: dict[str, int] = {}
    for finding in findings:
        seen[finding.code] = seen.get(finding.code, 0) + 1
        if seen[finding.code] <= MAX_PER_CODE:
            yield finding


def _departures(source: Source, facts: Facts, told: set[str]) -> Iterator[Finding]:
    """Where the document departs from the official schema and no rule of ours has said so already.

    Warnings: documents in the wild are rarely perfect, and neither gateway nor reference needs them to be.
    """
    try:
        for pointer, message in schema.violations(source.value, facts.openapi_version):
            if pointer not in told:
                yield Finding("warning", "schema_violation", message, pointer)
    except schema.Unfinished:
        message = "The document is too large to be held against the OpenAPI schema as a whole; all else is checked."
        yield Finding("info", "schema_unchecked", message, "")


# --- Rules: each takes the document and its facts, and says what it finds ---------------------------------------------


def _structure(document: dict[str, Any], facts: Facts) -> Iterator[Finding]:
    info = document.get("info")
    if not isinstance(info, dict):
        yield Finding("error", "info_missing", "The document has no “info” object.", "/info")
    for name, value in (("title", facts.title), ("version", facts.version)) if isinstance(info, dict) else ():
        if not value:
            yield Finding("error", f"{name}_missing", f"“info” has no {name}.", f"/info/{name}")
    paths = document.get("paths")
    if not isinstance(paths, dict):
        yield Finding("error", "paths_missing", "The document has no “paths” object.", "/paths")
        return
    if not facts.operations:
        yield Finding("error", "no_operations", "The document has no operations: there is nothing to call.", "/paths")
    for path, item in paths.items():
        yield from _path_item(document, path, item)


def _path_item(document: dict[str, Any], path: str, item: Any) -> Iterator[Finding]:
    pointer = f"/paths/{escape(path)}"
    if path.startswith("x-"):
        return
    if not path.startswith("/"):
        yield Finding("error", "path_without_slash", f"The path {path!r} does not start with a slash.", pointer)
    if not isinstance(item, dict):
        yield Finding("error", "path_not_object", f"The path {path!r} is not an object.", pointer)
        return
    yield from _template(path, pointer)
    if len(path) > MAX_PATH_CHARS:
        return  # what else there may be to say would repeat it
    for method, operation in item.items():
        if method.lower() in METHODS and method not in METHODS:
            message = f"The method {method!r} of {path} must be lower case."
            yield Finding("error", "method_upper_case", message, f"{pointer}/{escape(method)}")
        elif method in METHODS:
            yield from _operation(document, path, method, operation, f"{pointer}/{method}")


def _template(path: str, pointer: str) -> Iterator[Finding]:
    if "{" in (rest := re.sub(r"\{[^{}/]+\}", "", path)) or "}" in rest:
        yield Finding("error", "path_template", f"The braces in the path {path!r} do not match.", pointer)
    if len(path) > MAX_PATH_CHARS:
        yield Finding("error", "path_too_long", f"The path is longer than {MAX_PATH_CHARS} characters.", pointer)
    if "?" in path or "#" in path:
        message = f"The path {path!r} holds a query or a fragment: no call can match it."
        yield Finding("warning", "path_never_matches", message, pointer)


def _operation(document: dict[str, Any], path: str, method: str, operation: Any, pointer: str) -> Iterator[Finding]:
    name = f"{method.upper()} {path}"
    if not isinstance(operation, dict):
        yield Finding("error", "operation_not_object", f"{name} is not an object.", pointer)
        return
    if not operation.get("responses") and not _responses_are_optional(document):
        yield Finding("warning", "no_responses", f"{name} names no responses.", pointer)
    if not operation.get("summary") and not operation.get("description"):
        yield Finding("info", "no_summary", f"{name} has neither summary nor description.", pointer)
    declared = {
        str(parameter.get("name"))
        for owner in (follow(document, document["paths"][path]), operation)
        for parameter in (follow(document, each) for each in as_list(owner.get("parameters")))
        if parameter.get("in") == "path"
    }
    for parameter in re.findall(r"\{([^{}/]+)\}", path):
        if parameter not in declared:
            message = f"{name} does not describe the path parameter {parameter!r}."
            yield Finding("warning", "parameter_undeclared", message, pointer)


def _responses_are_optional(document: dict[str, Any]) -> bool:
    """OpenAPI 3.1 made ``responses`` optional."""
    return str(document.get("openapi", "")).startswith(("3.1", "3.2"))


def _duplicates(document: dict[str, Any], facts: Facts) -> Iterator[Finding]:
    shapes: dict[tuple[str, str], str] = {}
    ids: dict[str, str] = {}
    for operation in facts.operations:
        name = f"{operation.method} {operation.path}"
        if operation.shape in shapes:
            message = f"{name} is the same operation as {shapes[operation.shape]}: only the parameter names differ."
            yield Finding("error", "duplicate_operation", message, operation.pointer)
        shapes.setdefault(operation.shape, name)
        if operation.operation_id in ids:
            message = f"{name} has the operationId {operation.operation_id!r} of {ids[operation.operation_id]}."
            yield Finding("error", "duplicate_operation_id", message, f"{operation.pointer}/operationId")
        if operation.operation_id:
            ids.setdefault(operation.operation_id, name)


def _amount(document: dict[str, Any], facts: Facts) -> Iterator[Finding]:
    """A gateway keeps all of a version in mind, and reads all of it whenever something of it changes."""
    if problem := problem_of_paths([operation.path for operation in facts.operations]):
        message = f"{problem[0].upper()}{problem[1:]}: every gateway keeps them all. Split the API into several."
        yield Finding("error", "too_many_operations", message, "/paths")


def _ways(document: dict[str, Any], facts: Facts) -> Iterator[Finding]:
    paths = (operation.path for operation in facts.operations if len(operation.path) <= MAX_PATH_CHARS)
    if (ways := most_ways(paths)) > MAX_WAYS:
        message = (
            f"One path could lead to {ways:,} places of the templates, more than {MAX_WAYS:,}: there are too many "
            "parameters beside literals, or patterns beside each other."
        )
        yield Finding("error", "paths_branch_too_far", message, "/paths")


def _references(document: dict[str, Any], facts: Facts) -> Iterator[Finding]:
    good: set[str] = set()
    for steps, reference in _find_references(document):
        if reference in good:
            continue
        if not reference.startswith("#"):
            message = f"{reference!r} is outside the document. It is not fetched; put what it names into the document."
            yield Finding("warning", "external_reference", message, pointer_of(steps))
        elif reference == "#" or reference.startswith("#/"):
            try:
                resolve(document, reference)
                good.add(reference)
            except KeyError:
                message = f"{reference!r} points at nothing in the document."
                yield Finding("error", "broken_reference", message, pointer_of(steps))


def _find_references(document: dict[str, Any]) -> Iterator[tuple[Steps, str]]:
    """Steps and target of each ``$ref``, in document order. ``named``: the keys here are names, not keywords."""
    stack: list[tuple[Any, Steps, bool]] = [(document, None, False)]
    while stack:
        value, steps, named = stack.pop()
        if isinstance(value, list):
            stack += [(item, (steps, index), False) for index, item in reversed(list(enumerate(value)))]
        elif isinstance(value, dict):
            reference = value.get("$ref")
            if isinstance(reference, str) and not named:
                yield (steps, "$ref"), reference
            for key, item in reversed(value.items()):
                if isinstance(item, dict | list) and (named or not (key in _DATA or key.startswith("x-"))):
                    stack.append((item, (steps, key), not named and key in _NAMED))


def _storable(document: dict[str, Any], facts: Facts) -> Iterator[Finding]:
    """PostgreSQL keeps neither NUL nor half of a surrogate pair in text."""
    stack: list[tuple[Any, Steps]] = [(document, None)]
    while stack:
        value, steps = stack.pop()
        if isinstance(value, str) and _UNSTORABLE.search(value):
            message = "The text holds a character that is no Unicode text."
            yield Finding("error", "bad_character", message, pointer_of(steps))
        elif isinstance(value, dict):
            for key, item in value.items():
                if _UNSTORABLE.search(key):
                    yield Finding(
                        "error", "bad_character", "A key holds a character that is no text.", pointer_of(steps)
                    )
                stack.append((item, (steps, key)))
        elif isinstance(value, list):
            stack += [(item, (steps, index)) for index, item in enumerate(value)]


_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _servers(document: dict[str, Any], facts: Facts) -> Iterator[Finding]:
    if not facts.upstream_url:
        message = "No server has an absolute address: give the upstream yourself."
        yield Finding("info", "no_absolute_server", message, "/host" if "swagger" in document else "/servers")
    if facts.openapi_version.startswith("3.2"):
        message = "OpenAPI 3.2 is read like 3.1: methods that are new in it are not served."
        yield Finding("info", "openapi_3_2", message, "/openapi")


Rule = Callable[[dict[str, Any], Facts], Iterator[Finding]]
_FIRST_RULES: Final[tuple[Rule, ...]] = (_amount, _storable)
_RULES: Final[tuple[Rule, ...]] = (_structure, _duplicates, _ways, _references, _servers)
