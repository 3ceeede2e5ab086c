"""What drf-spectacular cannot see by itself: how callers prove who they are, and how every error looks."""

from __future__ import annotations

from typing import Any, Final

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "description": "What went wrong and what to do about it (RFC 9457).",
    "required": ["type", "title", "status", "code", "detail", "request_id"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string", "description": "The status in words."},
        "status": {"type": "integer"},
        "code": {"type": "string", "description": "Stable, for programs."},
        "detail": {"type": "string", "description": "One plain sentence."},
        "fix": {"type": "string", "description": "What to do about it."},
        "fields": {"type": "object", "description": "By field of the request: what is wrong with it."},
        "request_id": {"type": "string"},
    },
}
# status: sentence, and the methods that can answer it
_PROBLEMS: Final[dict[str, tuple[str, frozenset[str]]]] = {
    "400": ("The request cannot be read, or has a name that is not known; the sentence says where.", frozenset()),
    "401": ("No token, or one that is not known, has expired or was revoked.", frozenset()),
    "403": ("The role of the token's owner does not allow this.", frozenset()),
    "404": ("There is nothing here, or nothing for this token.", frozenset()),
    "409": ("The thing is in a state this change cannot go with.", frozenset({"post", "put", "patch", "delete"})),
    "413": ("The body is too large.", frozenset({"post", "put", "patch"})),
    "415": ("The body is not application/json.", frozenset({"post", "put", "patch"})),
    "422": ("Some fields are not right.", frozenset({"post", "put", "patch"})),
    "429": ("Too many requests with this token.", frozenset()),
}


class Schema(AutoSchema):
    """A view's ``query`` as parameters of its GET: what is documented is what is taken."""

    def get_override_parameters(self) -> list[Any]:
        query = getattr(self.view, "query", None)
        return [query] if query is not None and self.method == "GET" else []


class BearerScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    target_class = "apimgr.accounts.rest.ApiTokenAuthentication"
    name = "token"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "description": "An API token of your organisation."}


def add_problems(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Give every operation its problem answers; an operation that states its own for a status keeps it."""
    components = result.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = PROBLEM
    components["responses"] = {f"Problem{status}": _response(text) for status, (text, _) in _PROBLEMS.items()}
    for path in result["paths"].values():
        for method, operation in path.items():
            for status, (_text, methods) in _PROBLEMS.items():
                if not methods or method in methods:
                    operation["responses"].setdefault(status, {"$ref": f"#/components/responses/Problem{status}"})
            operation["responses"] = dict(sorted(operation["responses"].items()))
    return result


def close_bodies(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """Say of every object of a request's body that it takes no other names."""
    schemas = result["components"]["schemas"]
    open_: list[Any] = [
        content["schema"]
        for path in result["paths"].values()
        for operation in path.values()
        for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    while open_:
        node = open_.pop()
        if not isinstance(node, dict):
            open_ += node if isinstance(node, list) else ()
        elif "$ref" in node:
            open_.append(schemas[node["$ref"].rpartition("/")[2]])
        elif "additionalProperties" not in node:
            if "properties" in node:
                node["additionalProperties"] = False
            open_ += node.values()
    return result


def _response(text: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Problem"}
    return {"description": text, "content": {"application/problem+json": {"schema": schema}}}
