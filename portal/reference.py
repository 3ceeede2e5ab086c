"""An OpenAPI document as callers of the gateway need it: our address, our key, no server of the upstream's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from apimgr.catalog.openapi.parse import follow
from apimgr.contracts.selection import DROPPED_PREFIXES

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
KEY_HEADER: Final = "X-Api-Key"
_SCHEME: Final = {"type": "apiKey", "in": "header", "name": KEY_HEADER, "description": "Your API key."}
_WITHHELD: Final = (*DROPPED_PREFIXES, "x-api-")


@dataclass(frozen=True, slots=True)
class VersionChoice:
    """What a call carries to get a version, where several share an address."""

    by_header: bool
    name: str
    value: str
    is_required: bool  # a call without it is refused, or gets another version

    def is_of(self, parameter: dict[str, Any]) -> bool:
        """Whether a document's own ``parameter`` is what chooses."""
        name = str(parameter.get("name"))
        if self.by_header:
            return parameter.get("in") == "header" and name.lower() == self.name.lower()
        return parameter.get("in") == "query" and name == self.name

    def parameter(self, *, swagger: bool) -> dict[str, Any]:
        """As a parameter of OpenAPI 3, or 2."""
        schema = {"type": "string", "enum": [self.value], "default": self.value}
        return {
            "in": "header" if self.by_header else "query",
            "name": self.name,
            "description": "Chooses this version of the API.",
            "required": self.is_required,
            **(schema if swagger else {"schema": schema}),
        }


def public_document(
    document: dict[str, Any], base_url: str, choice: VersionChoice | None = None, *, needs_key: bool = True
) -> dict[str, Any]:
    """``document`` with the gateway as its only server, and with our key beside its own ways in.

    Servers of single paths and operations go, too: they would name the upstream. What the document asks callers for
    stays, as far as it reaches the upstream; where a key of ours is needed, each of these ways needs that as well.
    ``choice`` becomes a parameter of every path. The input is not changed.
    """
    is_swagger = "swagger" in document
    public = {key: value for key, value in document.items() if key not in {"servers", "host", "basePath", "schemes"}}
    own = _own_schemes(document)
    ways = _KeyedWays.of(document, own) if needs_key else None
    public["security"] = ways.of_all if ways else document.get("security", [])
    public["paths"] = _public_paths(document.get("paths"), choice, ways, swagger=is_swagger)
    schemes = ways.schemes if ways else own
    if is_swagger:
        scheme, _separator, rest = base_url.partition("://")
        host, slash, path = rest.partition("/")
        public |= {"schemes": [scheme], "host": host, "basePath": slash + path or "/"}
        public["securityDefinitions"] = schemes
    else:
        public["servers"] = [{"url": base_url}]
        components = document.get("components")
        public["components"] = {
            **(components if isinstance(components, dict) else {}),
            "securitySchemes": schemes,
        }
    return public


@dataclass(frozen=True, slots=True)
class _KeyedWays:
    """What callers present where they need a key of ours: that, and what of the document's reaches the upstream."""

    ours: str
    schemes: dict[str, Any]
    of_all: list[dict[str, Any]]  # of operations that do not say otherwise

    @classmethod
    def of(cls, document: dict[str, Any], own: dict[str, Any]) -> _KeyedWays:
        passing = {name: scheme for name, scheme in own.items() if _reaches_upstream(follow(document, scheme))}
        ours = next(name for name in _names() if name not in passing)
        schemes = {ours: _SCHEME, **passing}
        return cls(ours, schemes, cls(ours, schemes, []).asked(document.get("security")))

    def asked(self, security: Any) -> list[dict[str, Any]]:
        """The document's alternatives, each with our key and without what would not arrive."""
        ways = [way for way in security if isinstance(way, dict)] if isinstance(security, list) else []
        found: list[dict[str, Any]] = []
        for way in ways or [{}]:
            kept = {name: scopes for name, scopes in way.items() if name in self.schemes and name != self.ours}
            if (keyed := {self.ours: [], **kept}) not in found:
                found.append(keyed)
        return found


def _names() -> Iterator[str]:
    """What our scheme may be called: another name where the document has one of its own that is not ours."""
    yield "apiKey"
    yield from (f"gatewayKey{number or ''}" for number in count())


def _own_schemes(document: dict[str, Any]) -> dict[str, Any]:
    parent = document if "swagger" in document else document.get("components")
    name = "securityDefinitions" if "swagger" in document else "securitySchemes"
    schemes = parent.get(name) if isinstance(parent, dict) else None
    return schemes if isinstance(schemes, dict) else {}


def _reaches_upstream(scheme: dict[str, Any]) -> bool:
    """Whether the gateway passes on what callers of a keyed version present (``policies.identify.passes_on``).

    A Bearer token is taken for a key of ours, and so the tokens of OAuth and OpenID are; TLS ends at the gateway.
    """
    match scheme.get("type"):
        case "basic":
            return True
        case "http":
            return str(scheme.get("scheme")).lower() != "bearer"
        case "apiKey":
            name = str(scheme.get("name")).lower()
            return scheme.get("in") != "header" or not name.startswith(_WITHHELD)
    return False


def _public_paths(
    paths: Any, choice: VersionChoice | None, ways: _KeyedWays | None, *, swagger: bool
) -> dict[str, Any]:
    if not isinstance(paths, dict):
        return {}
    public = {
        path: _public_path(item, choice, ways) if isinstance(item, dict) else item for path, item in paths.items()
    }
    if choice is not None:
        for item in public.values():
            if isinstance(item, dict):
                item["parameters"] = [*_without(item.get("parameters"), choice), choice.parameter(swagger=swagger)]
    return public


def _public_path(item: dict[str, Any], choice: VersionChoice | None, ways: _KeyedWays | None) -> dict[str, Any]:
    return {
        key: _public_operation(value, choice, ways) if key in METHODS else value
        for key, value in item.items()
        if key != "servers"
    }


def _public_operation(operation: Any, choice: VersionChoice | None, ways: _KeyedWays | None) -> Any:
    if not isinstance(operation, dict):
        return operation
    public = {key: value for key, value in operation.items() if key != "servers"}
    if ways is not None and "security" in public:
        public["security"] = ways.asked(public["security"])
        if public["security"] == ways.of_all:
            del public["security"]
    if choice is not None and "parameters" in public:
        public["parameters"] = _without(public["parameters"], choice)  # an operation's own would hide the path's
    return public


def _without(parameters: Any, choice: VersionChoice) -> list[Any]:
    """The parameters but the one that the document itself has for what chooses."""
    given = parameters if isinstance(parameters, list) else []
    return [item for item in given if not (isinstance(item, dict) and choice.is_of(item))]
