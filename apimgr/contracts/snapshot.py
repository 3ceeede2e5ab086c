"""The documents a gateway loads: what the control plane promises and the data plane relies on.

One document per thing that changes on its own, so that a change costs O(change) on every node. ``proxy.compiler`` makes
them from rows, the change log carries them, a node's replica keeps them as JSON under ``(kind, key)``. Keys:

=============  ============================================  ==========================================
kind           key                                           found by
=============  ============================================  ==========================================
route          ``host + base_path`` (host empty for any)     the request's authority and path
version        version id, decimal                           its route
plan           plan id, decimal                              the application's subscription
application    application id, decimal                       its credential
credential     digest of the key, hexadecimal                the key in the request
organisation   organisation id, decimal                      the application's owner
=============  ============================================  ==========================================

An organisation without a document is an active one: documents are written for those that are, or were, suspended.

Reading is strict: an unknown format, kind, field value or type raises ``InvalidDocument``, so that a node keeps its
last good document instead of guessing.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal, TypeVar, get_args

FORMAT: Final = 1

VersionState = Literal["published", "deprecated", "retired"]
LimitKind = Literal["rate", "quota", "concurrency"]
LimitPeriod = Literal["second", "minute", "hour", "day", "month", "billing", "none"]
WithoutGrantor = Literal["open", "closed"]
Selection = Literal["", "header", "query"]
UnknownOperation = Literal["refuse", "pass"]
WhenUnrecordable = Literal["refuse", "pass"]
Authentication = Literal["key", "none"]
ActiveState = Literal["active", "suspended"]
CredentialState = Literal["active", "revoked"]

# Rate windows are fixed lengths; a quota's day and month follow the UTC calendar instead.
PERIOD_SECONDS: Final[dict[str, int]] = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}


# Within these more requests would follow, past every check of the gateway; so they are never switched to.
_CARRIES_REQUESTS: Final = ("h2", "h3", "http", "tls", "connect-")


def may_switch_to(protocol: str) -> bool:
    """Whether a version may list ``protocol`` among its ``upgrades``."""
    return not protocol.startswith(_CARRIES_REQUESTS)


class InvalidDocument(ValueError):
    """A document this node does not understand; the message says which one and why."""


@dataclass(frozen=True, slots=True)
class OperationDocument:
    """``path`` is an OpenAPI path template below the version's base path, such as ``/orders/{id}``."""

    id: int
    method: str
    path: str


@dataclass(frozen=True, slots=True)
class UpstreamDocument:
    """Where calls go: ``url`` is ``http(s)://host[:port][/prefix]`` without a trailing slash. Times in milliseconds."""

    url: str
    connect_timeout_ms: int = 5_000
    read_timeout_ms: int = 30_000
    max_connections: int = 256
    preserve_host: bool = False


@dataclass(frozen=True, slots=True)
class ChoiceDocument:
    """What a caller writes to get a version, such as ``2024-10-01``."""

    value: str
    version_id: int


@dataclass(frozen=True, slots=True)
class RouteDocument:
    """A public address: host (lower case, empty for any) and base path (``/`` or ``/a/b``, no trailing slash).

    Several versions share an address where callers choose by the header field or query parameter ``select_name``.
    ``version_id`` is then what a call gets that names none; 0 for none.
    """

    host: str
    base_path: str
    version_id: int
    select_by: Selection = ""
    select_name: str = ""
    choices: tuple[ChoiceDocument, ...] = ()

    @property
    def key(self) -> str:
        return self.host + self.base_path


@dataclass(frozen=True, slots=True)
class LimitDocument:
    """``amount`` calls per ``period``.

    A rate smooths traffic; a quota is a hard count per calendar period in UTC, or per ``billing`` month, which starts
    on the day of the month that the subscription did; concurrency is how many may be under way, its period ``none``.
    ``api_id`` and ``operation_id`` narrow it to the calls of one API or operation; 0 is all of them. ``id`` is what it
    is counted by: limits of several plans have the same one where what is spent of one is spent of all.
    """

    id: int
    kind: LimitKind
    amount: int
    period: LimitPeriod
    api_id: int = 0
    operation_id: int = 0


@dataclass(frozen=True, slots=True)
class VersionDocument:
    """One version of an API. Dates are Unix seconds, 0 for none (RFC 9745 ``Deprecation``, RFC 8594 ``Sunset``).

    ``limits`` hold for all callers of the API together, whatever their plan. ``upgrades`` are the protocols a call may
    switch to, in lower case, such as ``websocket``; ``websocket_origins`` are the origins a browser may come from, none
    for any. ``tunnel_idle_ms`` and ``max_message_bytes`` bound what was switched. ``when_unrecordable`` says whether
    calls are refused or passed without a record while the node's spool is full; ``pass`` is for what nobody pays for.
    """

    id: int
    api_id: int
    organisation_id: int
    name: str
    state: VersionState
    base_path: str
    upstream: UpstreamDocument
    product_ids: tuple[int, ...] = ()
    operations: tuple[OperationDocument, ...] = ()
    authentication: Authentication = "key"
    unknown_operation: UnknownOperation = "refuse"
    max_body_bytes: int = 10 * 1024 * 1024
    deprecated_at: int = 0
    sunset_at: int = 0
    limits: tuple[LimitDocument, ...] = ()
    upgrades: tuple[str, ...] = ()
    websocket_origins: tuple[str, ...] = ()
    tunnel_idle_ms: int = 300_000
    max_message_bytes: int = 1024 * 1024
    when_unrecordable: WhenUnrecordable = "refuse"

    @property
    def key(self) -> str:
        return str(self.id)


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """Limits of one subscription.

    ``without_grantor`` says what happens to calls under limits that several hosts share while nobody can grant more:
    ``open`` passes them by what this node alone knows, ``closed`` refuses them. ``counts_failures`` says whether a call
    that the upstream failed (no answer, or 5xx) counts against quotas. Refusals of ours never do.
    """

    id: int
    name: str
    limits: tuple[LimitDocument, ...] = ()
    without_grantor: WithoutGrantor = "open"
    counts_failures: bool = True

    @property
    def key(self) -> str:
        return str(self.id)


@dataclass(frozen=True, slots=True)
class SubscriptionDocument:
    """``billing_anchor`` is the Unix second at which the first billing month began; 0 is that of the calendar.

    ``counts_as`` is the subscription whose spending it carries on, since who cancels and comes back has no new quota; 0
    is itself.
    """

    id: int
    product_id: int
    plan_id: int
    state: ActiveState = "active"
    billing_anchor: int = 0
    counts_as: int = 0

    @property
    def spender(self) -> int:
        """Whose spending of the plan's limits its calls add to."""
        return self.counts_as or self.id


@dataclass(frozen=True, slots=True)
class ApplicationDocument:
    """An application and every subscription the gateway may honour. ``organisation_id`` is the developer's."""

    id: int
    organisation_id: int
    name: str
    state: ActiveState = "active"
    subscriptions: tuple[SubscriptionDocument, ...] = ()

    @property
    def key(self) -> str:
        return str(self.id)


@dataclass(frozen=True, slots=True)
class CredentialDocument:
    """A key, known by its digest alone. ``expires_at`` in Unix seconds, 0 for never.

    A key that is rolled over has two secrets for a while, so two documents of one ``id``: the old one is ``superseded``
    and ends with the overlap, at its ``expires_at``.
    """

    id: int
    application_id: int
    digest: str = field(repr=False)
    state: CredentialState = "active"
    expires_at: int = 0
    test: bool = False
    superseded: bool = False

    @property
    def key(self) -> str:
        return self.digest


@dataclass(frozen=True, slots=True)
class OrganisationDocument:
    """A developers' organisation: while it is suspended, nothing it owns is let through."""

    id: int
    state: ActiveState = "active"

    @property
    def key(self) -> str:
        return str(self.id)


Document = (
    RouteDocument | VersionDocument | PlanDocument | ApplicationDocument | CredentialDocument | OrganisationDocument
)
KINDS: Final[dict[str, type[Document]]] = {
    "route": RouteDocument,
    "version": VersionDocument,
    "plan": PlanDocument,
    "application": ApplicationDocument,
    "credential": CredentialDocument,
    "organisation": OrganisationDocument,  # the order is that of epochs on disk: add at the end
}
KIND_OF: Final[dict[type[Document], str]] = {cls: kind for kind, cls in KINDS.items()}

_NESTED: Final[dict[tuple[type, str], type]] = {
    (RouteDocument, "choices"): ChoiceDocument,
    (VersionDocument, "upstream"): UpstreamDocument,
    (VersionDocument, "limits"): LimitDocument,
    (VersionDocument, "operations"): OperationDocument,
    (PlanDocument, "limits"): LimitDocument,
    (ApplicationDocument, "subscriptions"): SubscriptionDocument,
}
_CHOICES: Final[dict[str, Any]] = {
    "VersionState": VersionState,
    "LimitKind": LimitKind,
    "LimitPeriod": LimitPeriod,
    "WithoutGrantor": WithoutGrantor,
    "Selection": Selection,
    "UnknownOperation": UnknownOperation,
    "WhenUnrecordable": WhenUnrecordable,
    "Authentication": Authentication,
    "ActiveState": ActiveState,
    "CredentialState": CredentialState,
}
_SCALARS: Final[dict[str, type]] = {"int": int, "str": str, "bool": bool}

T = TypeVar("T")


def dump(document: Document) -> bytes:
    """The document as canonical JSON: the same document always gives the same bytes."""
    body = {"format": FORMAT, "kind": KIND_OF[type(document)], **asdict(document)}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


_MIN_INT: Final = -(2**63)  # a usage record and the database have no room for more
_MAX_INT: Final = 2**63 - 1


def load(raw: bytes | str) -> Document:
    """Read a document back. Raises ``InvalidDocument`` for anything this code does not fully understand."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise InvalidDocument(f"not JSON: {error}") from error
    if not isinstance(body, dict):
        raise InvalidDocument("not a JSON object")
    if body.pop("format", None) != FORMAT:
        raise InvalidDocument(f"not of format {FORMAT}")
    kind = body.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise InvalidDocument(f"unknown kind {kind!r}")
    return _build(KINDS[kind], body, kind)


def _build(cls: type[T], body: Any, where: str) -> T:
    if not isinstance(body, dict):
        raise InvalidDocument(f"{where}: not an object")
    fields = cls.__dataclass_fields__  # type: ignore[attr-defined]
    unknown = body.keys() - fields.keys()
    if unknown:
        raise InvalidDocument(f"{where}: unknown field {min(unknown)!r}")
    values = {name: _value(cls, name, fields[name].type, value, f"{where}.{name}") for name, value in body.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise InvalidDocument(f"{where}: {error}") from error


def _value(cls: type, name: str, annotation: str, value: Any, where: str) -> Any:
    nested = _NESTED.get((cls, name))
    if annotation.startswith("tuple["):
        if not isinstance(value, list):
            raise InvalidDocument(f"{where}: not a list")
        if nested:
            return tuple(_build(nested, item, f"{where}[{index}]") for index, item in enumerate(value))
        scalar = _SCALARS[annotation.removeprefix("tuple[").partition(",")[0]]
        if any(type(item) is not scalar for item in value):
            raise InvalidDocument(f"{where}: not a list of {scalar.__name__}")
        return tuple(value)
    if nested:
        return _build(nested, value, where)
    if annotation in _CHOICES:
        for choice in get_args(_CHOICES[annotation]):
            if value == choice:
                return choice  # one object for all documents: there are many
        raise InvalidDocument(f"{where}: unknown value {value!r}")
    if type(value) is not _SCALARS[annotation]:
        raise InvalidDocument(f"{where}: not {annotation}")
    if type(value) is int and not _MIN_INT <= value <= _MAX_INT:
        raise InvalidDocument(f"{where}: does not fit into 64 bits")
    return value
