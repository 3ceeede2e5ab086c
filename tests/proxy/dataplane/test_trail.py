"""What a record says of an upstream's failure: each attempt, how far it came, and how long each part of it took."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apimgr.contracts import snapshot
from apimgr.contracts.outcomes import OUTCOMES
from apimgr.contracts.usage import MAX_TRAIL_BYTES
from proxy.dataplane.trail import Step, written
from tests.proxy.dataplane.support import Handler, Running, World, request, response
from tests.proxy.dataplane.test_gateway import play
from tests.proxy.dataplane.test_upstreams import OK, answers, call

pytestmark = pytest.mark.processes

HALF = OK + b"Content-Length: 9\r\n\r\nhalf"
STAGES: dict[str, tuple[Handler, dict[str, Any], str]] = {
    "hangs unheard": (
        answers(),
        {"stage": "answer", "limit": "read_timeout_ms", "limit_ms": 300},
        "upstream_timeout",
    ),
    "hangs in its head": (answers(OK + b"X: y"), {"stage": "head", "limit_ms": 300}, "upstream_timeout"),
    "hangs in its body": (
        answers(HALF),
        {"stage": "body", "limit_ms": 300, "status": 200, "relayed_bytes": 4},
        "upstream_timeout",
    ),
    "closes unheard": (answers(then="close"), {"stage": "answer"}, "upstream_unreachable"),
    "resets in its body": (answers(HALF, then="reset"), {"stage": "body", "relayed_bytes": 4}, "upstream_aborted"),
    "speaks nonsense": (answers(b"SSH-2.0\r\n\r\n"), {"stage": "head"}, "upstream_invalid"),
}


def trail(gateway: Running) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads(gateway.recorder.records[-1].trail)
    return steps


@pytest.mark.parametrize("status", [500, 503, 599])
def test_a_failure_of_the_upstream_s_own_is_explained(tmp_path: Path, status: int) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = answers(b"HTTP/1.1 %d So\r\nContent-Length: 4\r\n\r\nhalf" % status)
        await call(gateway)
        assert gateway.recorder.records[-1].outcome == 0, "it was relayed"
        *_, plan, upstream, ended = trail(gateway)
        assert plan["step"] == "plan"
        told = {"step": "upstream", "attempt": 1, "stage": "whole", "status": status, "relayed_bytes": 4}
        assert upstream.items() >= told.items()
        assert ended == {"step": "ended", "code": "ok", "detail": f"The upstream itself answered {status}."}

    play(tmp_path, scenario)


def test_what_the_upstream_says_of_the_caller_needs_no_explanation(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = answers(b"HTTP/1.1 499 So\r\nContent-Length: 0\r\n\r\n")
        await call(gateway)
        assert gateway.recorder.records[-1].trail == b""

    play(tmp_path, scenario)


@pytest.mark.parametrize("what", STAGES)
def test_how_far_the_upstream_came(tmp_path: Path, what: str) -> None:
    handler, expected, code = STAGES[what]

    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = handler
        await call(gateway)
        *_, plan, upstream, ended = trail(gateway)
        assert plan["step"] == "plan", "who called comes before"
        assert (ended["step"], ended["code"]) == ("ended", code)
        assert ended["detail"]
        told = {"step": "upstream", "attempt": 1, "connection": "new", **expected}
        assert upstream.items() >= told.items()
        assert ("limit" in upstream) is (code == "upstream_timeout")
        assert upstream["host"].startswith("127.0.0.1:")
        assert all(upstream[name] >= 0 for name in ("resolve_ms", "connect_ms", "sent_after_ms", "took_ms"))
        if "limit_ms" in upstream:
            assert upstream["took_ms"] >= upstream["limit_ms"]

    play(tmp_path, scenario, read_timeout_ms=300)


def test_each_attempt_is_told(tmp_path: Path) -> None:
    """A kept connection that had closed of old age, then a new one that fares no better."""

    async def scenario(gateway: Running) -> None:
        async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if gateway.upstream.connections == 1:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(response(b"{}"))
            await reader.readuntil(b"\r\n\r\n")  # and no answer

        gateway.upstream.handler = once
        assert (await gateway.get()).status == 200
        assert (await gateway.get()).status == 502
        *_, kept, new, _ended = trail(gateway)
        assert [(step["attempt"], step["connection"]) for step in (kept, new)] == [(1, "kept"), (2, "new")]
        assert "connect_ms" not in kept, "it was open already"

    play(tmp_path, scenario)


def test_an_upstream_that_does_not_accept_connections(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]

        async def scenario(gateway: Running) -> None:
            assert (await gateway.get()).status == 502
            *_, upstream, ended = trail(gateway)
            assert upstream["stage"] == "connect"
            assert "connection" not in upstream, "there was none"
            assert ended["detail"] == "The upstream does not accept connections."

        play(tmp_path, scenario, url=f"http://127.0.0.1:{port}")


def test_a_name_that_is_not_found(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def nowhere(host: str, port: int) -> list[Any]:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        gateway.worker.pools.resolve = nowhere
        await gateway.get()
        *_, upstream, _ended = trail(gateway)
        assert (upstream["stage"], upstream["host"]) == ("resolve", "nowhere.example:443")

    play(tmp_path, scenario, url="https://nowhere.example")


def test_a_caller_who_leaves_while_the_upstream_works(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = answers()
        _, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        while not gateway.recorder.held:
            await asyncio.sleep(0.01)
        writer.transport.abort()
        while not gateway.recorder.frames:
            await asyncio.sleep(0.01)
        *_, upstream, ended = trail(gateway)
        assert (upstream["stage"], ended["code"]) == ("answer", "client_aborted")

    play(tmp_path, scenario)


def test_a_call_that_went_well_leaves_no_trail(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get()
        assert gateway.recorder.records[-1].trail == b""

    play(tmp_path, scenario)


def every_limit(amount: int, *, first: int, apis: tuple[int, ...]) -> tuple[snapshot.LimitDocument, ...]:
    """One of each kind and period, for all calls and for those of one API and operation."""
    periods = {"rate": snapshot.PERIOD_SECONDS, "quota": ("day", "month", "billing"), "concurrency": ("none",)}
    places = [
        (kind, period, api, operation)
        for kind, each in periods.items()
        for period in each
        for api in apis
        for operation in (0, 1)
    ]
    return tuple(
        snapshot.LimitDocument(number, kind, amount, period, api, operation)  # type: ignore[arg-type]
        for number, (kind, period, api, operation) in enumerate(places, first)
    )


def test_a_refusal_under_very_many_limits_is_explained(tmp_path: Path) -> None:
    """The last of them denies; it is told with its numbers, and so is how many there was no room for."""
    world = World()
    of_plan, of_api = every_limit(1000, first=1, apis=(0, 10)), every_limit(1000, first=101, apis=(0,))
    of_api = (*of_api[:-1], replace(of_api[-1], amount=1))  # calls at once of one operation
    world.plan = replace(world.plan, limits=of_plan)
    world.version = replace(world.version, limits=of_api)

    async def scenario(gateway: Running) -> None:
        gateway.upstream.handler = answers()
        _, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        while not gateway.recorder.held:
            await asyncio.sleep(0.01)
        assert (await gateway.get()).status == 429
        raw = gateway.recorder.records[-1].trail
        assert len(raw) <= MAX_TRAIL_BYTES
        *before, refused = json.loads(raw)
        assert refused == {
            "step": "refused", "code": "concurrency_exceeded", "detail": "The API allows 1 call at once.",
        }  # fmt: skip
        assert [step["step"] for step in before if step["step"] != "limit"] == [
            "route", "operation", "credential", "application", "subscription", "plan",
        ]  # fmt: skip
        *limits, denied, more = [step for step in before if step["step"] == "limit"]
        assert denied == {
            "step": "limit", "name": "api-concurrency-operation", "amount": 1, "left": 0, "retry_after_s": 1,
        }  # fmt: skip
        assert not any("retry_after_s" in step for step in limits)
        assert len(limits) > 10
        assert len(limits) + 1 + more["more"] == len(of_plan) + len(of_api)
        writer.close()

    play(tmp_path, scenario, world)


TEXTS = st.text(max_size=3000) | st.sampled_from(["\ud800" * 900, "\0" * 3000, "\U0001f600" * 800, '"' * 2500, ""])
NUMBERS = st.integers(0, 2**63)
TIMES = st.floats(0, 1e9).map(lambda ms: round(ms, 1))
ATTEMPTS = st.fixed_dictionaries({
    "step": st.just("upstream"), "attempt": st.integers(1, 3), "stage": st.just("connect"),
    "connection": st.just("kept"), "resolve_ms": TIMES, "connect_ms": TIMES, "sent_after_ms": TIMES, "took_ms": TIMES,
    "status": st.integers(100, 599), "relayed_bytes": NUMBERS, "limit": st.just("connect_timeout_ms"),
    "limit_ms": st.integers(1, 3_600_000), "host": TEXTS,
})  # fmt: skip
LIMITS = st.lists(
    st.fixed_dictionaries({
        "step": st.just("limit"), "name": st.just("api-quota-billing-operation"), "amount": st.integers(1, 10**12),
        "left": st.integers(0, 10**12), "reset_s": st.integers(0, 2_678_400),
    }),
    max_size=100,
)  # fmt: skip
CODES = st.sampled_from([outcome.code for outcome in OUTCOMES])


@given(texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), attempts=st.lists(ATTEMPTS, max_size=3), code=CODES,
       limits=LIMITS, order=st.randoms(use_true_random=False))  # fmt: skip
@example(("",) * 5, [], "rate_limited", [], None)
def test_every_trail_is_whole(
    texts: tuple[str, ...], attempts: list[Step], code: str, limits: list[Step], order: Any
) -> None:
    """Whatever an API, a plan or an upstream is called, and whatever goes wrong with it."""
    base_path, version, chosen_by, plan, detail = texts
    states = [{"step": name, "state": "suspended"} for name in ("credential", "application", "subscription")]
    before: list[Step] = [
        {"step": "route", "base_path": base_path, "version": version, "chosen_by": chosen_by},
        {"step": "operation", "id": str(2**63)},
        *states,
        {"step": "plan", "name": plan},
    ]
    last: Step = {"step": "refused", "code": code, "detail": detail}
    limits = [step | {"amount": 10**12 - number} for number, step in enumerate(limits)]
    by_weight = list(range(len(limits)))
    if order is not None:
        order.shuffle(by_weight)
    raw = written([*before, *attempts, last], len(before), limits, by_weight)
    assert len(raw) <= MAX_TRAIL_BYTES
    steps = json.loads(raw)
    told = steps[len(before) : len(steps) - 1 - len(attempts)]
    assert [step["step"] for step in steps[: len(before)]] == [step["step"] for step in before]
    assert [step["attempt"] for step in steps[len(before) + len(told) : -1]] == [step["attempt"] for step in attempts]
    assert (steps[-1]["step"], steps[-1]["code"]) == ("refused", code)
    assert is_what_is_left(steps[-1]["detail"], detail)
    if limits:
        assert limits[by_weight[0]] in told
        left_out = [step["more"] for step in told if "more" in step]
        assert len(told) - len(left_out) + sum(left_out) == len(limits)
        assert [step for step in told if "more" not in step] == [step for step in limits if step in told]


def is_what_is_left(told: str, whole: str) -> bool:
    whole = whole.encode(errors="replace").decode()
    return told == whole or (told.endswith("…") and whole.startswith(told[:-1]))


@pytest.mark.parametrize("length", range(1700, 2000, 7))
def test_nothing_is_cut_where_there_is_room(length: int) -> None:
    steps: list[Step] = [{"step": "ended", "code": "upstream_invalid", "detail": "x" * length}]
    whole = json.dumps(steps, separators=(",", ":")).encode()
    assert (written(steps) == whole) is (len(whole) <= MAX_TRAIL_BYTES)
