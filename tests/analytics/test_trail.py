"""What a trail of the gateway's reads like: one table per kind of step, and that none is forgotten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import proxy.dataplane
from analytics.views import trail
from analytics.views.trail import CONNECTIONS, STAGES, STEPS, TIMEOUTS, TOLD, Call, Row
from analytics.views.trail_limits import limit_in
from apimgr.contracts.snapshot import LimitDocument
from proxy.dataplane.limits.windows import name_of

CALL = Call(
    at=datetime(2026, 11, 26, 3, 55, 47, 250_000, UTC),
    version="Orders v1",
    operation="GET /orders/{id}",
    application="Orders shop",
    product="Orders",
    key_end="wxyz",
)
NOBODY = Call(at=CALL.at)


def row(step: Any, call: Call = CALL) -> Row:
    (found,) = trail.rows([step], call)
    return replace(found, text=found.text.replace("\u00a0", " "))  # between a number and its unit


def limit(name: str, amount: int, left: int, reset_s: int | None = None, **refused: int) -> dict[str, Any]:
    step: dict[str, Any] = {"step": "limit", "name": name, "amount": amount, "left": left, **refused}
    return step if reset_s is None else {**step, "reset_s": reset_s}


ROUTES = [
    ({"base_path": "/orders/v1", "version": "v1"}, "Orders v1 at /orders/v1"),
    (
        {"base_path": "/orders", "version": "v1", "chosen_by": "the header field X-Version"},
        "Orders v1 at /orders, chosen by the header field X-Version",
    ),
    (
        {"base_path": "/orders", "chosen_by": "the query parameter v"},
        "Several versions at /orders, chosen by the query parameter v: the call got none",
    ),
]


@pytest.mark.parametrize(("facts", "text"), ROUTES)
def test_a_route(facts: dict[str, str], text: str) -> None:
    assert row({"step": "route", **facts}) == Row("Route", text)


def test_a_route_to_what_has_no_name_any_more() -> None:
    assert row({"step": "route", "base_path": "/o", "version": "v1"}, NOBODY).text == "v1 at /o"


def test_an_operation() -> None:
    assert row({"step": "operation", "id": "05ahtmb96ygb4"}) == Row("Operation", "GET /orders/{id}")
    assert row({"step": "operation", "id": "05ahtmb96ygb4"}, NOBODY) == Row("Operation", "id: 05ahtmb96ygb4")


KEYS = [
    ({"key_end": "wxyz"}, "Live key ending in wxyz", "active"),
    ({"key_end": "wxyz", "is_test_key": True}, "Test key ending in wxyz", "active"),
    (
        {"key_end": "wxyz", "is_former_secret": True},
        "Former secret, ending in wxyz, of a key that was rolled",
        "active",
    ),
    ({"key_end": "wxyz", "outcome": "key_expired"}, "Live key ending in wxyz", "expired"),
    ({}, "Live key", "active"),
    ({"is_test_key": True}, "Test key", "active"),
    ({"is_former_secret": True}, "Former secret of a key that was rolled", "active"),
]


@pytest.mark.parametrize(("known", "text", "state"), KEYS)
def test_a_key(known: dict[str, Any], text: str, state: str) -> None:
    assert row({"step": "credential", "state": "active"}, Call(at=CALL.at, **known)) == Row("Key", text, state)


def test_a_key_that_was_revoked() -> None:
    assert row({"step": "credential", "state": "revoked"}) == Row("Key", "Live key ending in wxyz", "revoked")


def test_an_application_a_subscription_and_a_plan() -> None:
    assert row({"step": "application", "state": "suspended"}) == Row("Application", "Orders shop", "suspended")
    assert row({"step": "subscription", "state": "active"}) == Row("Subscription", "To Orders", "active")
    assert row({"step": "plan", "name": "Free"}) == Row("Plan", "Free, a plan of Orders")
    assert row({"step": "plan", "name": "Free"}, NOBODY) == Row("Plan", "Free")


LIMITS = [
    # A quota: a moment of the calendar, to the second whatever parts of one the call has.
    (
        limit("quota-month", 10_000, 61, 417_853),
        "Quota of the month, 10,000 calls: 61 left, starts anew on 1 December 2026 at 00:00 UTC",
    ),
    (
        limit("quota-day", 1, 0, 72_253),
        "Quota of the day, 1 call: none left, starts anew on 27 November 2026 at 00:00 UTC",
    ),
    (
        limit("quota-billing", 10_000, 0, 2),
        "Quota of the billing month, 10,000 calls: none left, starts anew on 26 November 2026 at 03:55:49 UTC",
    ),
    # A rate: a time to wait, for whom it refused.
    (limit("rate-minute", 60, 0, 60, retry_after_s=1), "60 calls in each minute: none left, wait 1 s"),
    (limit("rate-minute", 2, 0, 42, retry_after_s=12), "2 calls in each minute: none left, wait 12 s"),
    (limit("rate-minute", 60, 0, 60), "60 calls in each minute: none left, all of them again after 1 min 0 s"),
    (limit("rate-minute", 60, 12, 48), "60 calls in each minute: 12 left, all of them again after 48 s"),
    (limit("rate-second", 1_000, 1_000, 0), "1,000 calls in each second: 1,000 left"),
    (
        limit("rate-hour", 12, 0, 3_400, retry_after_s=100),
        "12 calls in each hour: none left, wait 1 min 40 s, until 26 November 2026 at 03:57:28 UTC",
    ),
    (
        limit("rate-day", 2, 0, 57_600, retry_after_s=14_400),
        "2 calls in each day, spread over it: none left, wait 4 h 0 min, until 26 November 2026 at 07:55:48 UTC",
    ),
    # Calls at once: what is under way.
    (limit("concurrency", 10, 0, retry_after_s=1), "10 calls at once: 10 under way, wait until one has ended"),
    (limit("concurrency", 10, 2, retry_after_s=1), "10 calls at once: 8 under way, wait until one has ended"),
    (limit("concurrency", 10, 0), "10 calls at once: 10 under way, none left"),
    (limit("concurrency", 1, 1), "1 call at once: 0 under way, 1 left"),
    # Whose calls it counts.
    (limit("rate-minute-operation", 5, 5, 0), "5 calls in each minute (of this operation): 5 left"),
    (limit("rate-minute-of-api", 5, 5, 0), "5 calls in each minute (of this API): 5 left"),
    (limit("api-rate-minute", 5, 5, 0), "5 calls in each minute (of all callers together): 5 left"),
    (
        limit("api-concurrency-operation", 5, 2),
        "5 calls at once (of this operation, of all callers together): 3 under way, 2 left",
    ),
]


@pytest.mark.parametrize(("step", "text"), LIMITS)
def test_a_limit(step: dict[str, Any], text: str) -> None:
    whose = "API" if step["name"].startswith("api-") else "plan"
    assert row(step) == Row(f"Limit of the {whose}", text, mark="Refused this call" if "retry_after_s" in step else "")


def test_a_limit_that_could_not_be_checked() -> None:
    """Which may have some left: it is shared by hosts, and this one cannot ask."""
    step = limit("quota-month", 10_000, 61, 417_853, retry_after_s=1)
    assert row(step, Call(at=CALL.at, outcome="limits_unavailable")).mark == "Could not be checked"


def test_limits_that_are_not_listed() -> None:
    assert row({"step": "limit", "more": 1}).text == "1 more limit, not listed for want of room"
    assert row({"step": "limit", "more": 1_031}).text == "1,031 more limits, not listed for want of room"


UPSTREAMS = [
    (
        {
            "attempt": 1, "stage": "answer", "connection": "new", "resolve_ms": 1.2, "connect_ms": 3.4,
            "sent_after_ms": 5.0, "took_ms": 30000.1, "limit": "read_timeout_ms", "limit_ms": 30000,
            "host": "orders.internal.example:8443",
        },
        (
            "Attempt 1, at orders.internal.example:8443."
            " Over a new connection: name resolved in 1.2 ms, connected in 3.4 ms. Sent after 5 ms."
            " Ended 30,000 ms later, before anything was heard. Each part of the answer may take 30,000 ms."
        ),
    ),
    (
        {"attempt": 2, "stage": "connect", "took_ms": 3000.4, "limit": "connect_timeout_ms", "limit_ms": 3000},
        "Attempt 2. Gave up after 3,000 ms while it connected. Connecting may take 3,000 ms.",
    ),
    (
        {
            "attempt": 1, "stage": "body", "connection": "kept", "sent_after_ms": 0.2, "took_ms": 12.5,
            "status": 200, "relayed_bytes": 65_536,
        },
        (
            "Attempt 1. Over a kept connection. Sent after 0.2 ms."
            " Ended 12.5 ms later, in the middle of the answer's body. Relayed by then: status 200 and 65,536 bytes."
        ),
    ),
    (
        {"attempt": 1, "stage": "whole", "took_ms": 12.5, "status": 503, "relayed_bytes": 1},
        "Attempt 1. Answered in full 12.5 ms later. Relayed by then: status 503 and 1 byte.",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "text"), UPSTREAMS)
def test_an_upstream(facts: dict[str, Any], text: str) -> None:
    assert row({"step": "upstream", **facts}) == Row("Upstream", text)


def test_a_tunnel() -> None:
    ended = {"step": "tunnel", "protocol": "websocket", "ended": "nothing was sent for 300 s"}
    assert row(ended) == Row("Tunnel", "websocket. The end: nothing was sent for 300 s")
    assert row({**ended, "messages_in": 1_200, "messages_out": 3}) == Row(
        "Tunnel",
        "websocket. Messages of the caller: 1,200, of the upstream: 3. The end: nothing was sent for 300 s",
    )


ENDS = [
    ("The plan allows 10000 calls per month.", "The plan allows 10,000 calls per month."),
    ("The API accepts bodies of up to 10485760 bytes.", "The API accepts bodies of up to 10,485,760 bytes."),
    ("Send one of 2024, 2025 in the query parameter v.", "Send one of 2024, 2025 in the query parameter v."),
]


@pytest.mark.parametrize("kind", ["refused", "ended"])
@pytest.mark.parametrize(("detail", "text"), ENDS)
def test_how_it_ended(kind: str, detail: str, text: str) -> None:
    assert row({"step": kind, "code": "quota_exceeded", "detail": detail}) == Row(STEPS[kind], text)


# --- Nothing is forgotten ---------------------------------------------------------------------------------------------


def source() -> Iterator[ast.AST]:
    for path in sorted(Path(proxy.dataplane.__path__[0]).rglob("*.py")):
        yield from ast.walk(ast.parse(path.read_text()))


def texts(value: ast.AST | None) -> set[str]:
    """The texts that an expression may be."""
    match value:
        case ast.Constant(value=str(text)):
            return {text}
        case ast.IfExp(body=body, orelse=orelse):
            return texts(body) | texts(orelse)
        case _:
            return set()


def written_by_the_gateway(name: str) -> set[str]:
    """What the data plane's source says under ``name`` in a step of a trail, itself or by way of a variable."""
    given = [
        value
        for node in source()
        if isinstance(node, ast.Dict)
        for key, value in zip(node.keys, node.values, strict=True)
        if texts(key) == {name}
    ]
    variables = {value.id for value in given if isinstance(value, ast.Name)}
    for node in source():
        match node:
            case ast.Assign(targets=[ast.Name(id=variable)], value=value) if variable in variables:
                given.append(value)
    return set().union(*map(texts, given))


def stages_of_the_gateway() -> set[str]:
    """Of who never got a connection, and of who had one."""
    found: set[str] = set()
    for node in source():
        match node:
            case ast.Call(func=ast.Name(id="CannotConnect"), args=[_, _, stage]):
                found |= texts(stage)
            case ast.Assign(targets=[ast.Name(id="stage")], value=stage):
                found |= texts(stage)
            case ast.FunctionDef(name="_reached", body=body):
                found |= set().union(
                    *(texts(part.value) for line in body for part in ast.walk(line) if isinstance(part, ast.Return))
                )
    return found


def test_every_step_has_a_sentence_of_its_own() -> None:
    assert written_by_the_gateway("step") == set(TOLD)
    assert set(TOLD) < set(STEPS)


def test_every_fact_of_an_attempt_has_its_words() -> None:
    assert written_by_the_gateway("connection") == set(CONNECTIONS)
    assert written_by_the_gateway("limit") == set(TIMEOUTS)
    assert stages_of_the_gateway() == set(STAGES)


KINDS = {
    "rate": ("second", "minute", "hour", "day"),
    "quota": ("day", "month", "billing"),
    "concurrency": ("none",),
}


@pytest.mark.parametrize(("kind", "period"), [(kind, period) for kind, periods in KINDS.items() for period in periods])
@pytest.mark.parametrize("owner", [7, -7])
@pytest.mark.parametrize("narrowed", [{}, {"operation_id": 3}, {"api_id": 3}])
def test_every_limit_has_its_words(kind: Any, period: Any, owner: int, narrowed: dict[str, int]) -> None:
    """As the data plane names them."""
    name = name_of(owner, LimitDocument(1, kind, 5, period, **narrowed))
    found = limit_in(limit(name, 5, 0, 5))
    assert found is not None
    assert found.kind == kind
    assert name not in found.sentence(CALL.at)


# --- Whatever it is, it can be read -----------------------------------------------------------------------------------

DEEP: list[Any] = []
for _ in range(500):
    DEEP = [DEEP]

ODD = [
    (None, []),
    ("text", []),
    (7, []),
    ({"cut": '[["key","ok'}, [Row("Cut short", '[["key","ok')]),
    ({"limit": {"left": 0, "is_hard": True}}, [Row("Limit", "left: 0, is_hard: yes")]),
    ([["plan", "Free"], ["quota", 10_000]], [Row("Plan", "Free"), Row("quota", "10000")]),
    (["text", None, 7, []], [Row("1", "text"), Row("2", "None"), Row("3", "7"), Row("4", "")]),
    ([{}], [Row("1", "")]),
    ([{"step": None}], [Row("None", "")]),
    ([{"step": ["a"], "b": False}], [Row("a", "b: no")]),
    ([[{"a": 1}, 2]], [Row("a: 1", "2")]),
    ([DEEP], [Row("…", "")]),
    ([{"step": DEEP, "of": DEEP}], [Row("…", "of: …")]),
    ([{"step": "later", "of": [1, "a"]}], [Row("later", "of: 1, a")]),
]  # fmt: skip


@pytest.mark.parametrize(("odd", "rows"), ODD)
def test_odd_trails_are_shown_as_they_are(odd: Any, rows: list[Row]) -> None:
    assert trail.rows(odd, CALL) == rows


@pytest.mark.parametrize("kind", sorted(TOLD))
@pytest.mark.parametrize("odd", [None, "", "x", -1, 0, 1.5, True, 10**40, float("inf"), [], {}])
def test_a_step_of_odd_facts_is_shown(kind: str, odd: Any) -> None:
    """Each fact that a step may have, and all of them, of a kind that no gateway writes."""
    names = (
        "base_path", "version", "chosen_by", "id", "state", "name", "amount", "left", "reset_s", "retry_after_s",
        "more", "attempt", "stage", "took_ms", "connection", "resolve_ms", "connect_ms", "sent_after_ms", "status",
        "relayed_bytes", "limit", "limit_ms", "host", "protocol", "messages_in", "messages_out", "ended", "code",
        "detail",
    )  # fmt: skip
    good = {
        "name": "rate-day", "amount": 5, "left": 0, "reset_s": 5, "retry_after_s": 1, "attempt": 1, "stage": "whole",
        "took_ms": 1.5, "connection": "new", "limit": "read_timeout_ms", "code": "rate_limited", "detail": "x",
        "protocol": "x", "ended": "x",
    }  # fmt: skip
    for facts in ({}, dict.fromkeys(names, odd), *({**good, name: odd} for name in names)):
        steps = [{"step": "limit", **facts}, {"step": kind, **facts}]
        for call in (CALL, NOBODY):
            assert len(trail.rows(steps, call)) == 2
