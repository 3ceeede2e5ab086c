"""An OpenAPI document as facts: what it is called, where it runs, what can be called. Pure: no Django, no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from apimgr.catalog.openapi.bounds import UnreadableDocument
from apimgr.catalog.openapi.pointers import escape

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class OperationFacts:
    """One method on one path template. ``method`` is upper case; ``pointer`` says where the document has it."""

    method: str
    path: str
    operation_id: str
    summary: str
    tags: tuple[str, ...]
    is_deprecated: bool
    pointer: str

    @property
    def shape(self) -> tuple[str, str]:
        """What a router sees: parameter names make no difference."""
        return self.method, re.sub(r"\{[^{}/]*\}", "{}", self.path)


@dataclass(frozen=True, slots=True)
class SecurityScheme:
    name: str
    type: str
    detail: str  # "header X-Api-Key", "bearer", …


@dataclass(frozen=True, slots=True)
class Facts:
    """What the console shows of a document."""

    openapi_version: str
    title: str
    version: str
    description: str
    servers: tuple[str, ...]  # as written; templates filled with their defaults
    operations: tuple[OperationFacts, ...]
    security_schemes: tuple[SecurityScheme, ...]

    @property
    def upstream_url(self) -> str:
        """The first server a gateway could forward to, without a trailing slash; empty when all are relative."""
        for url in self.servers:
            parts = urlsplit(url)
            if parts.scheme in {"http", "https"} and parts.hostname and "{" not in url:
                return f"{parts.scheme}://{parts.netloc}{parts.path}".rstrip("/")
        return ""


def openapi_version(document: Any) -> str:
    """``2.0``, ``3.0.x``, ``3.1.x`` or ``3.2.x``. Raises ``UnreadableDocument`` for what is no OpenAPI document."""
    if not isinstance(document, dict):
        raise UnreadableDocument(
            "Not OpenAPI: the document is not an object with “openapi” or “swagger” in it.", code="not_openapi"
        )
    declared = document.get("openapi", document.get("swagger"))
    if declared is None:
        raise UnreadableDocument(
            "Not OpenAPI: the document has neither “openapi” nor “swagger” at its top.", code="not_openapi"
        )
    version = str(declared)
    if re.fullmatch(r"2\.0" if "openapi" not in document else r"3\.[012](\.\d{1,3})?", version):
        return version
    raise UnreadableDocument(
        f"OpenAPI {version[:20]} is not supported: 2.0, 3.0, 3.1 and 3.2 are.", code="openapi_version_unknown"
    )


def describe(document: Any) -> Facts:
    """Read the facts; what is broken is left out. Raises ``UnreadableDocument`` for what is no OpenAPI document."""
    version = openapi_version(document)
    info = _object(document.get("info"))
    return Facts(
        openapi_version=version,
        title=_text(info.get("title")),
        version=_text(info.get("version")),
        description=_text(info.get("description")),
        servers=tuple(_servers(document)),
        operations=tuple(_operations(document)),
        security_schemes=tuple(_security_schemes(document)),
    )


def resolve(document: Any, reference: str) -> Any:
    """What a local ``$ref`` (``#/a/b``) points at. Raises ``KeyError`` when there is nothing."""
    if reference == "#":
        return document
    if not reference.startswith("#/"):
        raise KeyError(reference)
    value = document
    for step in reference[2:].split("/"):
        key = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise KeyError(reference)
    return value


def follow(document: JsonObject, value: Any) -> JsonObject:
    """``value``, or what its chain of local ``$ref``s ends at; an empty object when that leads nowhere."""
    for _ in range(16):
        reference = value.get("$ref") if isinstance(value, dict) else None
        if not isinstance(reference, str):
            return _object(value)
        try:
            value = resolve(document, reference)
        except KeyError:
            break
    return {}


def _operations(document: JsonObject) -> Iterator[OperationFacts]:
    for path, item in _object(document.get("paths")).items():
        if not path.startswith("/"):
            continue
        for method, operation in follow(document, item).items():
            if method in METHODS and isinstance(operation, dict):
                yield OperationFacts(
                    method=method.upper(),
                    path=path,
                    operation_id=_text(operation.get("operationId")),
                    summary=_text(operation.get("summary")),
                    tags=tuple(_text(tag) for tag in as_list(operation.get("tags"))),
                    is_deprecated=operation.get("deprecated") is True,
                    pointer=f"/paths/{escape(path)}/{method}",
                )


def _servers(document: JsonObject) -> Iterator[str]:
    if "swagger" in document:
        host, base = _text(document.get("host")), _text(document.get("basePath"))
        schemes = [_text(scheme) for scheme in as_list(document.get("schemes"))] or ["https"]
        # The safe one first: a proposal should not be plain HTTP when it need not be.
        for scheme in sorted(schemes, key=lambda scheme: scheme != "https"):
            yield f"{scheme}://{host}{base}" if host else base
        return
    for server in as_list(document.get("servers")):
        url = _text(_object(server).get("url"))
        for name, variable in _object(_object(server).get("variables")).items():
            url = url.replace("{" + name + "}", _text(_object(variable).get("default")))
        yield url


def _security_schemes(document: JsonObject) -> Iterator[SecurityScheme]:
    schemes = document.get("securityDefinitions") or _object(document.get("components")).get("securitySchemes")
    for name, value in _object(schemes).items():
        scheme = follow(document, value)
        kind = _text(scheme.get("type"))
        detail = f"{_text(scheme.get('in'))} {_text(scheme.get('name'))}" if kind == "apiKey" else ""
        yield SecurityScheme(name, kind, detail or _text(scheme.get("scheme")))


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    """Text; a number is shown as it reads, anything else is nothing."""
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
