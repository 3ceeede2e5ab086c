"""Every outcome that the gateway answers itself, caused once, and what its answer must and must not hold (H18).

The list is closed: an outcome without a way to cause it fails here.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from apimgr.contracts import credentials, snapshot
from apimgr.contracts.addresses import EgressRules
from apimgr.contracts.outcomes import BY_CODE, OUTCOMES
from proxy.dataplane import compiled, listener
from proxy.dataplane.policies.refusal import Refusal
from tests.asynchronous import run
from tests.proxy.dataplane.support import (
    PATIENCE,
    Reply,
    Running,
    World,
    read_message,
    read_reply,
    request,
    running,
    until,
)
from tests.proxy.dataplane.test_gateway import last_outcome

pytestmark = pytest.mark.processes

Cause = Callable[[Running], Awaitable[Reply]]
# What a caller could hope to see again, in whatever it sends.
MARK = "zqxj7"
PAGES = "https://portal.example/docs/outcomes/"

# Answered by nobody: the call ends without an answer of ours.
NOT_ANSWERED = {"ok", "upstream_aborted", "client_aborted", "gateway_aborted", "tunnel_violation"}


def asks(
    method: str = "GET", path: str = "/orders/items/1", *lines: str, keyed: bool = True, body: bytes = b""
) -> Cause:
    async def cause(gateway: Running) -> Reply:
        key = [f"X-Api-Key: {gateway.world.key}"] if keyed else []
        return await gateway.send(request(method, path, *lines, *key, body=body), to_head=method == "HEAD")

    return cause


def raw(text: bytes) -> Cause:
    return lambda gateway: gateway.send(text)


def changed(change: Callable[[World], None]) -> Cause:
    """A call after ``change`` to what is published."""

    async def cause(gateway: Running) -> Reply:
        change(gateway.world)
        gateway.world.publish()
        return await asks(path=f"/orders/items/{MARK}")(gateway)

    return cause


def version(**fields: object) -> Cause:
    return changed(lambda world: setattr(world, "version", replace(world.version, **fields)))  # type: ignore[arg-type]


def credential(**fields: object) -> Cause:
    return changed(lambda world: setattr(world, "credential", replace(world.credential, **fields)))  # type: ignore[arg-type]


def application(**fields: object) -> Cause:
    return changed(lambda world: setattr(world, "application", replace(world.application, **fields)))  # type: ignore[arg-type]


def limited(kind: str, period: str) -> Cause:
    async def cause(gateway: Running) -> Reply:
        limit = snapshot.LimitDocument(1, kind, 1, period)  # type: ignore[arg-type]
        gateway.world.plan = replace(gateway.world.plan, limits=(limit,))
        gateway.world.publish()
        if kind == "concurrency":
            gateway.upstream.handler = _hang
            _, writer = await gateway.connect()
            writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
            await until(lambda: gateway.upstream.connections == 1)
        else:
            await asks()(gateway)
        return await asks(path=f"/orders/items/{MARK}")(gateway)

    return cause


async def _hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(-1)


async def answers_nonsense(gateway: Running) -> Reply:
    gateway.upstream.reply = f"HTTP/1.1 200 OK\r\nA : {MARK}\r\n\r\n".encode()
    return await asks()(gateway)


async def hangs(gateway: Running) -> Reply:
    gateway.upstream.handler = _hang
    return await asks()(gateway)


async def closes(gateway: Running) -> Reply:
    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_message(reader)

    gateway.upstream.handler = close
    return await asks()(gateway)


async def saturated(gateway: Running) -> Reply:
    gateway.upstream.handler = _hang
    _, writer = await gateway.connect()
    writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
    await until(lambda: gateway.upstream.connections == 1)
    return await asks()(gateway)


async def forbidden(gateway: Running) -> Reply:
    gateway.worker.pools._rules = EgressRules()
    return await asks()(gateway)


async def one_too_many(gateway: Running) -> Reply:
    await gateway.connect()
    await until(lambda: gateway.worker.connections)
    reader, _ = await gateway.connect()
    return await read_reply(reader)


async def too_many(gateway: Running) -> Reply:
    gateway.worker.max_per_address = 1
    return await one_too_many(gateway)


async def overloaded(gateway: Running) -> Reply:
    gateway.worker.max_connections = 1
    return await one_too_many(gateway)


async def slow(gateway: Running) -> Reply:
    reader, writer = await gateway.connect()
    writer.write(f"GET /orders/{MARK}".encode())
    return await read_reply(reader)


async def unready(gateway: Running) -> Reply:
    gateway.world.replica.ready = False
    return await asks()(gateway)


async def stale(gateway: Running) -> Reply:
    gateway.worker.runtime.is_stale = True
    return await asks()(gateway)


async def unrecordable(gateway: Running) -> Reply:
    gateway.worker._unrecordable_until = time.monotonic() + 60
    return await asks()(gateway)


async def broken(gateway: Running) -> Reply:
    gateway.worker.runtime.version_at = None  # type: ignore[assignment, method-assign]
    return await asks()(gateway)


async def ungranted(gateway: Running) -> Reply:
    """As if whoever grants the limits were away; and nobody had thought of Retry-After."""

    def refuse(host: str, path: bytes) -> None:
        raise Refusal("limits_unavailable")

    gateway.worker.runtime.version_at = refuse  # type: ignore[assignment, method-assign]
    return await asks()(gateway)


async def unnamed(gateway: Running) -> Reply:
    gateway.world.replica.put(
        snapshot.RouteDocument(
            "", "/orders", 0, "query", "v", (snapshot.ChoiceDocument("1", gateway.world.version.id),)
        )
    )
    return await asks(path=f"/orders/items/1?v={MARK}")(gateway)


HANDSHAKE = ("Upgrade: websocket", "Connection: upgrade")
CAUSES: dict[str, Cause] = {
    "bad_request": raw(f"GET /orders/{MARK} HTTP/1.1\r\nHost: {MARK}\r\n{MARK} : {MARK}\r\n\r\n".encode()),
    "uri_too_long": asks("GET", "/orders/" + MARK * 2000),
    "head_too_large": asks("GET", "/orders/items", "X: " + MARK * 2000),
    "body_too_large": asks("POST", "/orders/items", "Content-Length: 99999999"),
    "request_timeout": slow,
    "method_not_implemented": asks(MARK, "/orders/items"),
    "version_not_supported": raw(f"GET /{MARK} HTTP/2.0\r\n\r\n".encode()),
    "bad_path": asks("GET", f"/orders/{MARK}%2f"),
    "expectation_failed": asks("GET", "/orders/items", f"Expect: {MARK}"),
    "route_not_found": asks("GET", f"/{MARK}"),
    "operation_not_found": asks("GET", f"/orders/{MARK}"),
    "method_not_allowed": asks("DELETE", f"/orders/items/{MARK}"),
    "version_retired": version(state="retired"),
    "version_unknown": unnamed,
    "key_missing": asks(keyed=False),
    "key_malformed": asks("GET", "/orders/items", f"X-Api-Key: {MARK}", keyed=False),
    "key_unknown": asks("GET", "/orders/items", f"X-Api-Key: {credentials.generate_key(MARK).secret}", keyed=False),
    "key_revoked": credential(state="revoked"),
    "key_expired": credential(expires_at=1),
    "key_ambiguous": asks("GET", "/orders/items", f"X-Api-Key: {MARK}"),
    "application_suspended": application(state="suspended"),
    "subscription_missing": application(subscriptions=()),
    "subscription_inactive": application(subscriptions=(snapshot.SubscriptionDocument(50, 30, 40, state="suspended"),)),
    "organisation_suspended": changed(
        lambda world: world.replica.put(snapshot.OrganisationDocument(world.application.organisation_id, "suspended"))
    ),
    "rate_limited": limited("rate", "minute"),
    "quota_exceeded": limited("quota", "month"),
    "concurrency_exceeded": limited("concurrency", "none"),
    "limits_unavailable": ungranted,
    "too_many_connections": too_many,
    "upstream_unreachable": closes,
    "upstream_timeout": hangs,
    "upstream_invalid": answers_nonsense,
    "upgrade_not_allowed": asks("GET", "/orders/items", *HANDSHAKE, f"Sec-WebSocket-Key: {MARK}"),
    "upstream_saturated": saturated,
    "upstream_forbidden": forbidden,
    "gateway_not_ready": unready,
    "usage_unavailable": unrecordable,
    "gateway_overloaded": overloaded,
    "gateway_stale": stale,
    "loop_detected": asks("GET", "/orders/items", f"Via: 1.1 {MARK}, 1.1 apimgr-test"),
    "internal_error": broken,
}
REPLACING = {"limits_unavailable", "internal_error"}  # a method, so that it fails as it never does


@pytest.mark.requirement("H18.2")
def test_the_list_is_closed() -> None:
    assert set(CAUSES) | NOT_ANSWERED == set(BY_CODE)
    assert not set(CAUSES) & NOT_ANSWERED
    assert {outcome.code for outcome in OUTCOMES if not outcome.status} == NOT_ANSWERED


@pytest.mark.requirement("H17.2", "H18.1", "H18.2")
@pytest.mark.parametrize("code", CAUSES)
def test_what_an_answer_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    outcome = BY_CODE[code]
    if code in REPLACING and compiled.is_in_use():
        pytest.skip("replaces a method of a class that is compiled")
    # Short for whoever waits for it, and for nobody else on a machine that is busy.
    if code == "request_timeout":
        monkeypatch.setattr(listener, "HEAD_SECONDS", 0.3)
    if code == "upstream_saturated":
        monkeypatch.setattr(listener, "UPSTREAM_WAIT_SECONDS", 0.3)
    read_timeout_ms = 300 if code == "upstream_timeout" else 60_000

    async def scenario() -> None:
        async with running(tmp_path, max_connections=1, read_timeout_ms=read_timeout_ms) as gateway:
            gateway.worker.outcome_pages = PAGES
            reply = await asyncio.wait_for(CAUSES[code](gateway), PATIENCE)
            check(reply)
            assert last_outcome(gateway) == code
            assert gateway.recorder.records[-1].request_id.hex() == reply.headers["x-request-id"]

    def check(reply: Reply) -> None:
        problem = json.loads(reply.body)
        assert (reply.status, problem["code"], problem["status"]) == (outcome.status, code, outcome.status)
        assert (problem["title"], problem["type"]) == (outcome.title, f"{PAGES}{code}/")
        assert problem["request_id"] == reply.headers["x-request-id"]
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.headers["cache-control"] == "no-store"
        assert ("www-authenticate" in reply.headers) == (outcome.status == 401)
        assert ("allow" in reply.headers) == (outcome.status == 405)
        assert ("retry-after" in reply.headers) == (outcome.status in (429, 503))
        assert int(reply.headers.get("retry-after", "1")) >= 1
        assert not {"server", "x-powered-by"} & reply.headers.keys()
        said = (json.dumps(reply.headers) + reply.body.decode()).lower()
        assert MARK not in said, "nothing of what was sent comes back"
        assert "127.0.0.1" not in said
        assert "traceback" not in said

    run(scenario)


def test_without_the_web_s_address_the_status_is_all_the_type(tmp_path: Path) -> None:
    """RFC 9457, 4.2.1: then the title is the status' own phrase, and the detail says it all."""

    async def scenario() -> None:
        async with running(tmp_path) as gateway:
            problem = json.loads((await asks(keyed=False)(gateway)).body)
            assert (problem["title"], problem["type"]) == ("Unauthorized", "about:blank")
            assert problem["detail"] == BY_CODE["key_missing"].title

    run(scenario)
