"""A declarative file into documents: what a node serves without a control plane (docs/reference/gateway-file.md).

The file names things as people do; ids are made from the names, so that usage records of one thing keep one id for as
long as it keeps its name. What is wrong is said with the place in the file; nothing of a wrong file is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import cache
from hashlib import blake2b
from pathlib import Path
from textwrap import shorten
from typing import Any, Final

import jsonschema
import yaml

from apimgr.contracts import bounds, selection, snapshot
from apimgr.contracts.snapshot import (
    ApplicationDocument,
    ChoiceDocument,
    CredentialDocument,
    Document,
    InvalidDocument,
    LimitDocument,
    OperationDocument,
    PlanDocument,
    RouteDocument,
    Selection,
    SubscriptionDocument,
    UpstreamDocument,
    VersionDocument,
)

# Bare hexadecimal may be all digits, and YAML would read it as a number.
DIGEST_PREFIX: Final = "blake2b:"
MAX_BYTES: Final = 64 * 1024 * 1024
SCHEMA_PATH: Final = Path(__file__).with_name("declaration.schema.json")

Entry = dict[str, Any]


class InvalidDeclaration(ValueError):
    """The file cannot be served; the message says where and why."""


@cache
def schema() -> Entry:
    """The JSON Schema (2020-12) of the file."""
    loaded: Entry = json.loads(SCHEMA_PATH.read_text())
    return loaded


def read(path: Path) -> list[Document]:
    """The documents that the file at ``path`` (YAML or JSON) stands for. Raises ``InvalidDeclaration``."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InvalidDeclaration(f"{path} is over {MAX_BYTES // 2**20} MiB")
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidDeclaration(f"{path} cannot be read: {error}") from error
    return parse(text, str(path))


def parse(text: str, name: str = "the file") -> list[Document]:
    """The documents that ``text`` stands for, each key once. Raises ``InvalidDeclaration``."""
    try:
        body = _plain(yaml.load(text, Loader=_Loader))  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidDeclaration(f"{name} is not YAML: {error}") from error
    except RecursionError:
        raise InvalidDeclaration(f"{name} is nested too deeply, or an anchor stands within itself") from None
    _check_shape(body, name)
    try:
        return _checked(list(_documents(body)))
    except InvalidDeclaration as error:
        raise InvalidDeclaration(f"{name}: {error}") from None


class _Loader(yaml.CSafeLoader):
    """Safe, and a field that is there twice is an error: the first one would be lost without a word."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a field has no name", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value!r} is there twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _check_shape(body: Any, name: str) -> None:
    validator = jsonschema.Draft202012Validator(schema())
    errors = sorted(validator.iter_errors(body), key=lambda error: list(map(str, error.absolute_path)))
    if errors:
        first = jsonschema.exceptions.best_match(errors)
        place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first.absolute_path)
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        rule = next((rule for field, rule in _RULES.items() if field in first.absolute_path), "")
        message = rule if rule and first.validator == "oneOf" else _message_of(first)
        raise InvalidDeclaration(f"{name}, at {place.lstrip('.') or 'the top'}: {message}{more}")


def _message_of(error: jsonschema.ValidationError) -> str:
    """What is wrong, in words rather than in an expression where the schema has some."""
    if error.validator == "pattern" and "description" in error.schema:
        return f"{shorten(str(error.instance), 100)!r} will not do: {error.schema['description']}"
    return shorten(error.message, 300)


# What the schema says in a way that only schemas understand.
_RULES: Final = {
    "limits": (
        "a limit is a rate per second, minute, hour or day, a quota per day or month, or a concurrency without per"
    ),
    "select": "versions are chosen either by a header or by a query parameter",
}


def _plain(value: Any) -> Any:
    """Dates are YAML's own: a version's name may look like one, and the schema speaks of text."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.isoformat() if isinstance(value, date) else value


def _checked(documents: list[Document]) -> list[Document]:
    """``documents``, if a node would take each of them and none takes another's place."""
    seen: set[tuple[str, str]] = set()
    for document in documents:
        kind = snapshot.KIND_OF[type(document)]
        try:
            raw = snapshot.dump(document)
            snapshot.load(raw)
            if problem := bounds.problem_of(document) or bounds.problem_of_size(raw):
                raise InvalidDocument(f"{kind} {getattr(document, 'name', document.key)!r}: {problem}")
        except InvalidDocument as error:
            raise InvalidDeclaration(str(error)) from error
        if (kind, document.key) in seen:
            shown = "a key's digest" if kind == "credential" else f"the {kind} {document.key!r}"
            raise InvalidDeclaration(f"{shown} is there twice")
        seen.add((kind, document.key))
    return documents


# --- names to documents ---------------------------------------------------------------------------------------------


def _id(*names: str) -> int:
    """A lasting 63-bit id for something of this name."""
    return int.from_bytes(blake2b("\0".join(names).encode(), digest_size=8).digest(), "big") >> 1 or 1


def _documents(body: Entry) -> Iterator[Document]:
    for what in ("apis", "plans", "applications"):
        _named_once(body.get(what, []), what)
    for api in body.get("apis", []):
        yield from _api(api, body)
    for plan in body.get("plans", []):
        yield _plan(plan, body)
    for application in body.get("applications", []):
        yield from _application(application, body)


def _api(api: Entry, body: Entry) -> Iterator[Document]:
    name = api["name"]
    versions = api["versions"]
    _named_once(versions, f"versions of {name!r}")
    plans = [plan for plan in body.get("plans", []) if name in plan["apis"]]
    if select := api.get("select"):
        versions = [_placed(name, select, version) for version in versions]
    for version in versions:
        yield _version(api, version, tuple(sorted(_id("plan", plan["name"]) for plan in plans)))
    if select:
        yield _shared_route(name, select, versions)
        return
    for version in versions:
        if "value" in version:
            raise InvalidDeclaration(f"version {version['name']!r} of {name!r} has a value, but the API no select")
        yield RouteDocument(version.get("host", ""), version["base_path"], _id("version", name, version["name"]))


def _placed(api: str, select: Entry, version: Entry) -> Entry:
    """The version at the address that it shares with the others."""
    if {"base_path", "host"} & version.keys():
        raise InvalidDeclaration(f"version {version['name']!r} of {api!r} has an address, but the API's select has it")
    return {**version, "base_path": select["base_path"]}


def _shared_route(api: str, select: Entry, versions: list[Entry]) -> RouteDocument:
    default = select.get("default")
    if default is not None:
        _known([default], versions, f"the default of {api!r}", "version")
    by: Selection = "header" if "header" in select else "query"
    route = RouteDocument(
        select.get("host", ""),
        select["base_path"],
        _id("version", api, default) if default is not None else 0,
        by,
        select.get(by, ""),
        tuple(
            ChoiceDocument(
                version["value"] if "value" in version else version["name"], _id("version", api, version["name"])
            )
            for version in versions
        ),
    )
    if problem := selection.problem_of(route):
        raise InvalidDeclaration(f"select of {api!r}: {problem}")
    return route


def _version(api: Entry, version: Entry, product_ids: tuple[int, ...]) -> VersionDocument:
    name = api["name"]
    operations = tuple(_operation(name, version["name"], text) for text in version.get("operations", []))
    given: Entry = {
        field: tuple(version[field]) if isinstance(version[field], list) else version[field]
        for field in ("authentication", "max_body_bytes", "upgrades", "websocket_origins", "tunnel_idle_ms",
                      "max_message_bytes", "when_unrecordable")
        if field in version
    }  # fmt: skip
    return VersionDocument(
        id=_id("version", name, version["name"]),
        api_id=_id("api", name),
        organisation_id=0,
        name=version["name"],
        state=version.get("state", "published"),
        base_path=version["base_path"],
        upstream=_upstream(version["upstream"]),
        product_ids=product_ids,
        operations=operations,
        unknown_operation=version.get("unknown_operation", "refuse" if operations else "pass"),
        deprecated_at=_seconds(version.get("deprecated_at")),
        sunset_at=_seconds(version.get("sunset_at")),
        limits=_limits(version.get("limits", []), ("version", name, version["name"]), name, version["name"]),
        **given,
    )


def _upstream(given: str | Entry) -> UpstreamDocument:
    fields = {"url": given} if isinstance(given, str) else dict(given)
    return UpstreamDocument(**{**fields, "url": fields["url"].rstrip("/")})


def _operation(api: str, version: str, text: str) -> OperationDocument:
    method, path = text.split(" ", 1)
    return OperationDocument(_id("operation", api, version, method, path), method, path)


def _limits(given: list[Entry], owner: tuple[str, ...], api: str = "", version: str = "") -> tuple[LimitDocument, ...]:
    """An operation is one of a version's: that of the owner, or in a plan the one that is written before it."""
    found = []
    for limit in given:
        kind = next(kind for kind in ("rate", "quota", "concurrency") if kind in limit)
        period = limit.get("per", "none")
        narrowed = limit.get("api", ""), limit.get("version", ""), limit.get("operation", "")
        api_name, version_name, operation = narrowed
        found.append(
            LimitDocument(
                _id("limit", *owner, kind, period, *narrowed),
                kind,
                limit[kind],
                period,
                api_id=_id("api", api_name) if api_name else 0,
                operation_id=_operation(api or api_name, version or version_name, operation).id if operation else 0,
            )
        )
    return tuple(found)


def _plan(plan: Entry, body: Entry) -> PlanDocument:
    _known(plan["apis"], body.get("apis", []), f"plan {plan['name']!r}", "API")
    return PlanDocument(
        id=_id("plan", plan["name"]),
        name=plan["name"],
        limits=_limits(plan.get("limits", []), ("plan", plan["name"])),
        without_grantor=plan.get("without_grantor", "open"),
        counts_failures=plan.get("counts_failures", True),
    )


def _application(application: Entry, body: Entry) -> Iterator[Document]:
    name = application["name"]
    _known(application["plans"], body.get("plans", []), f"application {name!r}", "plan")
    yield ApplicationDocument(
        id=_id("application", name),
        organisation_id=0,
        name=name,
        state=application.get("state", "active"),
        subscriptions=tuple(
            SubscriptionDocument(_id("subscription", name, plan), _id("plan", plan), _id("plan", plan))
            for plan in application["plans"]
        ),
    )
    for key in application.get("keys", []):
        yield CredentialDocument(
            id=_id("credential", key["digest"]),
            application_id=_id("application", name),
            digest=key["digest"].removeprefix(DIGEST_PREFIX),
            state=key.get("state", "active"),
            expires_at=_seconds(key.get("expires_at")),
            test=key.get("test", False),
        )


def _named_once(entries: list[Entry], what: str) -> None:
    names = [entry["name"] for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise InvalidDeclaration(f"two {what} are named {twice!r}")


def _known(names: list[str], declared: list[Entry], who: str, what: str) -> None:
    unknown = set(names) - {entry["name"] for entry in declared}
    if unknown:
        raise InvalidDeclaration(f"{who} names the {what} {min(unknown)!r}, which the file does not have")


def _seconds(text: str | None) -> int:
    """0 for never, so that a moment before 1970 is the first second of it."""
    if text is None:
        return 0
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidDeclaration(f"{text!r} is no date or time: {error}") from None
    return max(1, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()))
