"""An OpenAPI document as callers of the gateway need it: our address, our key, nothing of the upstream's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
KEY_HEADER: Final = "X-Api-Key"
_SCHEME: Final = {"type": "apiKey", "in": "header", "name": KEY_HEADER, "description": "Your API key."}


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
    """``document`` with the gateway as its only server and the API key, if it needs one, as its only way in.

    Servers and security of single paths and operations go, too: they would name the upstream. ``choice`` becomes a
    parameter of every path. The input is not changed.
    """
    public = {key: value for key, value in document.items() if key not in {"servers", "host", "basePath", "schemes"}}
    public["paths"] = _public_paths(document.get("paths"), choice, swagger="swagger" in document)
    schemes = {"apiKey": _SCHEME} if needs_key else {}
    public["security"] = [{name: []} for name in schemes]
    if "swagger" in document:
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


def _public_paths(paths: Any, choice: VersionChoice | None, *, swagger: bool) -> dict[str, Any]:
    if not isinstance(paths, dict):
        return {}
    public = {path: _public_path(item, choice) if isinstance(item, dict) else item for path, item in paths.items()}
    if choice is not None:
        for item in public.values():
            if isinstance(item, dict):
                item["parameters"] = [*_without(item.get("parameters"), choice), choice.parameter(swagger=swagger)]
    return public


def _public_path(item: dict[str, Any], choice: VersionChoice | None) -> dict[str, Any]:
    return {
        key: _public_operation(value, choice) if key in METHODS else value
        for key, value in item.items()
        if key != "servers"
    }


def _public_operation(operation: Any, choice: VersionChoice | None) -> Any:
    if not isinstance(operation, dict):
        return operation
    public = {key: value for key, value in operation.items() if key not in {"servers", "security"}}
    if choice is not None and "parameters" in public:
        public["parameters"] = _without(public["parameters"], choice)  # an operation's own would hide the path's
    return public


def _without(parameters: Any, choice: VersionChoice) -> list[Any]:
    """The parameters but the one that the document itself has for what chooses."""
    given = parameters if isinstance(parameters, list) else []
    return [item for item in given if not (isinstance(item, dict) and choice.is_of(item))]
