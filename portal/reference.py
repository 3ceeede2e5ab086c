"""An OpenAPI document as callers of the gateway need it: our address, our key, nothing of the upstream's."""

from __future__ import annotations

from typing import Any, Final

METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch", "trace", "query")
KEY_HEADER: Final = "X-Api-Key"
_SCHEME: Final = {"type": "apiKey", "in": "header", "name": KEY_HEADER, "description": "Your API key."}


def public_document(document: dict[str, Any], base_url: str) -> dict[str, Any]:
    """``document`` with the gateway as its only server and the API key as its only way in.

    Servers and security of single paths and operations go, too: they would name the upstream. The input is not changed.
    """
    public = {key: value for key, value in document.items() if key not in {"servers", "host", "basePath", "schemes"}}
    public["paths"] = _public_paths(document.get("paths"))
    public["security"] = [{"apiKey": []}]
    if "swagger" in document:
        scheme, _separator, rest = base_url.partition("://")
        host, slash, path = rest.partition("/")
        public |= {"schemes": [scheme], "host": host, "basePath": slash + path or "/"}
        public["securityDefinitions"] = {"apiKey": _SCHEME}
    else:
        public["servers"] = [{"url": base_url}]
        components = document.get("components")
        public["components"] = {
            **(components if isinstance(components, dict) else {}),
            "securitySchemes": {"apiKey": _SCHEME},
        }
    return public


def _public_paths(paths: Any) -> dict[str, Any]:
    if not isinstance(paths, dict):
        return {}
    return {path: _public_path(item) if isinstance(item, dict) else item for path, item in paths.items()}


def _public_path(item: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _public_operation(value) if key in METHODS else value for key, value in item.items() if key != "servers"
    }


def _public_operation(operation: Any) -> Any:
    if not isinstance(operation, dict):
        return operation
    return {key: value for key, value in operation.items() if key not in {"servers", "security"}}
