"""A first call that works, as code to copy: which operation, with which values, in three languages.

Everything here comes from a publisher's document, so every value is quoted for the language it lands in: a path cannot
end a string (security.md P4).
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import quote, urlencode

from portal.reference import KEY_HEADER, METHODS, VersionChoice

KEY_PLACEHOLDER: Final = "YOUR_API_KEY"
_SAFE: Final = ("get", "head")


@dataclass(frozen=True, slots=True)
class SampleCall:
    method: str
    path: str  # template, as the document has it
    url: str
    summary: str
    is_ready: bool  # can be sent as it stands: safe, and no value had to be made up
    fields: tuple[tuple[str, str], ...] = ()  # that it carries besides the key
    needs_key: bool = True

    def headers(self, key: str) -> list[tuple[str, str]]:
        return [(KEY_HEADER, key), *self.fields] if self.needs_key else list(self.fields)

    def curl(self, key: str) -> str:
        verb = "" if self.method == "GET" else f"-X {shlex.quote(self.method)} "
        fields = "".join(f" \\\n  -H {shlex.quote(f'{name}: {value}')}" for name, value in self.headers(key))
        return f"curl {verb}{shlex.quote(self.url)}{fields}"

    def python(self, key: str) -> str:
        return (
            "import urllib.request\n\n"
            "request = urllib.request.Request(\n"
            f"    {json.dumps(self.url)},\n"
            f"    method={json.dumps(self.method)},\n"
            f"    headers={self._object(key)},\n"
            ")\n"
            "with urllib.request.urlopen(request) as response:\n"
            "    print(response.status, response.read().decode())"
        )

    def javascript(self, key: str) -> str:
        return (
            f"const response = await fetch({json.dumps(self.url)}, {{\n"
            f"  method: {json.dumps(self.method)},\n"
            f"  headers: {self._object(key, ' ')},\n"
            "});\n"
            "console.log(response.status, await response.text());"
        )

    def _object(self, key: str, margin: str = "") -> str:
        pairs = ", ".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in self.headers(key))
        return f"{{{margin}{pairs}{margin}}}" if pairs else "{}"

    def languages(self, key: str) -> list[tuple[str, str]]:
        return [("curl", self.curl(key)), ("Python", self.python(key)), ("JavaScript", self.javascript(key))]


def sample_call(document: dict[str, Any], base_url: str, choice: VersionChoice | None = None) -> SampleCall | None:
    """The best first call: a GET without required parameters, else a GET with example values, else what comes first.

    ``choice`` is what it carries to get the version, so that it works as printed.
    """
    calls = [_call(document, base_url, choice, *found) for found in _operations(document)]
    return max(calls, key=_merit, default=None)


def choosing(call: SampleCall, choice: VersionChoice | None) -> SampleCall:
    """``call`` with what gets it the version."""
    if choice is None:
        return call
    if choice.by_header:
        return replace(call, fields=((choice.name, choice.value),))
    mark = "&" if "?" in call.url else "?"
    return replace(call, url=f"{call.url}{mark}{urlencode({choice.name: choice.value})}")


def _merit(call: SampleCall) -> tuple[bool, bool, bool]:
    # "/" tells a newcomer the least.
    return call.is_ready, call.method == "GET", call.path != "/"


def _operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any], list[Any]]]:
    found = []
    paths = document.get("paths")
    for path, item in paths.items() if isinstance(paths, dict) else ():
        for method in METHODS if isinstance(item, dict) else ():
            operation = item.get(method)
            if isinstance(operation, dict) and not operation.get("deprecated"):
                parameters = [*_list(item.get("parameters")), *_list(operation.get("parameters"))]
                found.append((path, method, operation, parameters))
    return found


def _call(
    document: dict[str, Any],
    base_url: str,
    choice: VersionChoice | None,
    path: str,
    method: str,
    operation: dict[str, Any],
    parameters: list[Any],
) -> SampleCall:
    resolved = [p for p in (_resolve(document, p) for p in parameters) if choice is None or not choice.is_of(p)]
    required = [p for p in resolved if p.get("required") or p.get("in") == "path"]
    values = {str(p.get("name")): _example(document, p) for p in required}
    complete = all(p.get("in") in {"path", "query"} and values[str(p.get("name"))] is not None for p in required)
    names = re.findall(r"{([^{}]+)}", path)
    filled = path
    for name in names:
        value = values.get(name)
        filled = filled.replace(f"{{{name}}}", quote(str(value if value is not None else name), safe=""))
    query = {str(p["name"]): _text(values[str(p["name"])], str(p["name"])) for p in required if p.get("in") == "query"}
    url = base_url.rstrip("/") + quote(filled, safe="/%:@!$&'()*+,;=~") + (f"?{urlencode(query)}" if query else "")
    summary = str(operation.get("summary") or operation.get("operationId") or "")[:200]
    known = set(names) <= values.keys()
    return choosing(SampleCall(method.upper(), path, url, summary, method in _SAFE and complete and known), choice)


def _example(document: dict[str, Any], parameter: dict[str, Any]) -> Any:
    """The document's own example, default or first choice; ``None`` where a value would have to be made up."""
    schema = _resolve(document, parameter.get("schema", {}))
    for source in (parameter, schema):
        for name in ("example", "default"):
            if isinstance(source.get(name), str | int | float):
                return source[name]
        for name in ("examples", "enum"):
            first = (
                next(iter(source[name].values() if isinstance(source[name], dict) else source[name]), None)
                if source.get(name)
                else None
            )
            first = first.get("value") if isinstance(first, dict) else first
            if isinstance(first, str | int | float):
                return first
    return None


def _text(value: Any, otherwise: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return otherwise if value is None else str(value)


def _resolve(document: dict[str, Any], node: Any) -> dict[str, Any]:
    """``node``, or what its local ``$ref`` names."""
    for _hop in range(8):
        if not isinstance(node, dict):
            return {}
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return node
        target: Any = document
        for part in reference[2:].split("/"):
            target = target.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(target, dict) else None
        node = target
    return {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
