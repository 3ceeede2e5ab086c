"""A real worker between a real client and a real upstream, over loopback, byte for byte."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import time
import tracemalloc
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from apimgr.contracts import credentials, snapshot
from apimgr.contracts.addresses import EgressRules
from apimgr.contracts.outcomes import BY_CODE, BY_NUMBER
from apimgr.contracts.usage import FLAG_OLD_SECRET
from proxy.dataplane import listener, stats
from proxy.dataplane.http.body import MAX_TRAILERS
from proxy.dataplane.http.request import MAX_HEAD, MAX_REQUEST_LINE
from proxy.dataplane.policies.identify import passes_on
from tests.asynchronous import run
from tests.proxy.dataplane.support import (
    PATIENCE,
    Running,
    World,
    digest,
    read_message,
    read_reply,
    request,
    response,
    running,
    stopwatch,
    until,
)

pytestmark = pytest.mark.processes

Scenario = Callable[[Running], Awaitable[None]]


def play(tmp_path: Path, scenario: Scenario, world: World | None = None, **upstream: object) -> None:
    async def whole() -> None:
        async with running(tmp_path, world, **upstream) as gateway:
            await asyncio.wait_for(scenario(gateway), 3 * PATIENCE)

    run(whole, uvloop.new_event_loop)


def last_outcome(gateway: Running) -> str:
    return BY_NUMBER[gateway.recorder.records[-1].outcome].code


# --- the plain road -------------------------------------------------------------------------------------------------


def test_relays_and_records(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reply = await gateway.get("/orders/items/7?a=1&b=%2F")
        assert (reply.status, reply.body) == (200, b'{"hello": "world"}')
        (sent,) = gateway.upstream.received
        assert sent.startswith(b"GET /base/items/7?a=1&b=%2F HTTP/1.1\r\nHost: 127.0.0.1:")
        (record,) = gateway.recorder.records
        assert record.request_id.hex() == reply.headers["x-request-id"]
        assert (record.api_id, record.version_id, record.operation_id) == (10, 20, 1)
        assert (record.application_id, record.credential_id, record.plan_id) == (60, 70, 40)
        assert (record.status, record.upstream_status, record.outcome) == (200, 200, 0)
        assert (record.bytes_in, record.bytes_out, record.path, record.trail) == (0, 18, b"", b"")
        assert record.client.endswith(b"\xff\xff\x7f\0\0\1")
        assert abs(record.started_at_us / 1e6 - time.time()) < 10

    play(tmp_path, scenario)


def test_a_call_is_on_disk_before_its_upstream_hears_of_it(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        held: list[int] = []

        def answer(_: bytes) -> bytes:
            held.append(len(gateway.recorder.held))
            return response(b"{}")

        gateway.upstream.reply = answer
        reply = await gateway.get()
        assert held == [1]
        assert gateway.recorder.held == {}, "its record has taken its place"
        (record,) = gateway.recorder.records
        assert record.request_id.hex() == reply.headers["x-request-id"]
        await gateway.get(key="")
        assert gateway.recorder.slots == 1, "a refusal is recorded at once"
        counted = gateway.worker.stats
        assert (counted[stats.GENERATED], counted[stats.SPOOLED]) == (2, 2)

    play(tmp_path, scenario)


def test_a_long_answer_is_noted_as_it_comes(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        over = asyncio.Event()

        async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab")
            await over.wait()
            writer.write(b"cde")

        gateway.upstream.handler = trickle
        call = asyncio.ensure_future(gateway.get())
        while not gateway.recorder.noted:
            await asyncio.sleep(0.05)
        assert set(gateway.recorder.noted) == {(1, 0, 2, 200)}
        over.set()
        assert (await call).body == b"abcde"

    play(tmp_path, scenario)


@pytest.mark.parametrize("when", ["refuse", "pass"])
def test_a_full_spool_refuses_or_lets_pass_as_the_version_says(tmp_path: Path, when: str) -> None:
    world = World()
    world.version = replace(world.version, when_unrecordable=when)  # type: ignore[arg-type]

    async def scenario(gateway: Running) -> None:
        gateway.recorder.is_full = True
        reply = await gateway.get()
        assert (reply.status, len(gateway.upstream.received)) == ((200, 1) if when == "pass" else (503, 0))
        assert gateway.recorder.slots == 0
        counted = gateway.worker.stats
        if when == "pass":
            assert gateway.recorder.records == [], "what room there is belongs to calls that must have a row"
            assert (counted[stats.GENERATED], counted[stats.UNRECORDED], counted[stats.SPOOLED]) == (1, 1, 0)
        gateway.recorder.is_full = False
        assert (await gateway.get()).status == 200
        assert last_outcome(gateway) == "ok"
        assert counted[stats.UNRECORDED] == (when == "pass")

    play(tmp_path, scenario, world)


@pytest.mark.requirement("H7.1", "H8.1", "H9.1", "H11.1")
def test_strips_what_is_not_the_upstreams_to_know(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        await gateway.get(
            "/orders/items/1",
            "X-Forwarded-For: 6.6.6.6",
            "x_forwarded_for: 6.6.6.6",
            "Forwarded: for=6.6.6.6",
            "X-Real-IP: 6.6.6.6",
            "X-Consumer-Id: root",
            "X_Consumer_Id: root",
            "X-Request-Id: mine",
            "Proxy-Authorization: x",
            "TE: trailers",
            "Keep-Alive: timeout=5",
            "Connection: keep-alive, X-Secret, X-Forwarded-Host",
            "X-Secret: hop",
            "X-HTTP-Method-Override: DELETE",
            "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "Cookie: a=b",
        )
        sent = gateway.upstream.received[0].lower()
        assert b"6.6.6.6" not in sent
        for name in (
            b"consumer",
            b"proxy-auth",
            b"\r\nte:",
            b"keep-alive",
            b"x-secret",
            b"override",
            b"mine",
            b"api-key",
        ):
            assert name not in sent
        assert b"\r\ntraceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n" in sent
        assert b"\r\ncookie: a=b\r\n" in sent
        assert (
            b"\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: http\r\nx-forwarded-host: gateway.test\r\n" in sent
        )
        assert gateway.world.key.encode().lower() not in sent

    play(tmp_path, scenario)


@pytest.mark.requirement("H7.1")
def test_response_fields_are_rebuilt(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = response(
            b"{}", "200 Fine", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: 5", "X-Request-Id: theirs", "X-Kept: 1"
        )
        reply = await gateway.get()
        assert "x-hop" not in reply.headers
        assert "keep-alive" not in reply.headers
        assert reply.headers["x-kept"] == "1"
        assert reply.headers["x-request-id"] != "theirs"

    play(tmp_path, scenario)


@pytest.mark.requirement("M2")
def test_head_and_bodiless_answers(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        gateway.upstream.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n"
        writer.write(request("HEAD", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        reply = await read_reply(reader, to_head=True)
        assert (reply.status, reply.headers["content-length"]) == (200, "1234")
        for status in ("204 No Content", "304 Not Modified"):
            gateway.upstream.reply = f"HTTP/1.1 {status}\r\nETag: x\r\n\r\n".encode()
            writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
            reply = await read_reply(reader)
            assert f"{reply.status}" in status
            assert "content-length" not in reply.headers
            assert "transfer-encoding" not in reply.headers
        gateway.upstream.reply = response(b"after")
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        assert (await read_reply(reader)).body == b"after"
        assert gateway.upstream.connections == 2, "a HEAD's answer announces a body; were it to come, nobody may get it"

    play(tmp_path, scenario)


@pytest.mark.requirement("M5", "H3.4")
def test_chunked_both_ways(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            b"4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nX-Trailer: 1\r\n\r\n"
        )
        head = request("POST", "/orders/items", f"X-Api-Key: {gateway.world.key}", "Transfer-Encoding: chunked")
        reply = await gateway.send(head + b"5;x=y\r\nhello\r\n06\r\n world\r\n0\r\nVary: *\r\n\r\n")
        assert (reply.status, reply.body, reply.headers["transfer-encoding"]) == (200, b"Wikipedia", "chunked")
        sent_head, _, sent_body = gateway.upstream.received[0].partition(b"\r\n\r\n")
        assert b"Transfer-Encoding: chunked" in sent_head
        assert b"Content-Length" not in sent_head
        assert sent_body in (b"b\r\nhello world\r\n0\r\n\r\n", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        (record,) = gateway.recorder.records
        assert (record.bytes_in, record.bytes_out) == (11, 9)

    play(tmp_path, scenario)


@pytest.mark.requirement("M6")
def test_close_delimited_and_http10(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
        gateway.upstream.close_after = True
        assert (await gateway.get()).body == b"until the end"
        raw = f"GET /orders/items/1 HTTP/1.0\r\nX-Api-Key: {gateway.world.key}\r\n\r\n".encode()
        reply = await gateway.send(raw)
        assert (reply.body, reply.headers["connection"]) == (b"until the end", "close")
        assert "transfer-encoding" not in reply.headers

    play(tmp_path, scenario)


def test_a_worker_looks_again_whatever_failed_in_a_look(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Deadlines and revocations hang on it."""

    async def scenario(gateway: Running) -> None:
        worker = gateway.worker
        worker.syncer = object()  # type: ignore[assignment]
        began = worker.wheel.now
        while worker.wheel.now < began + 1.5:
            await asyncio.sleep(0.05)
        worker.syncer = None

    play(tmp_path, scenario)
    assert {record.message for record in caplog.records} == {"A worker's look at what it has under way failed"}


@pytest.mark.parametrize("keeps", [False, True], ids=["upstream's", "caller's"])
def test_whose_host_the_upstream_is_sent(tmp_path: Path, keeps: bool) -> None:
    """With its port. Of a call that names none it is the upstream's own, and nothing is said of the caller's."""

    async def scenario(gateway: Running) -> None:
        own = gateway.world.version.upstream.url.removeprefix("http://").partition("/")[0]
        await gateway.get()
        await gateway.send(f"GET /orders/items/1 HTTP/1.0\r\nX-Api-Key: {gateway.world.key}\r\n\r\n".encode())
        key = f"X-Api-Key: {gateway.world.key}\r\n"
        await gateway.send(f"GET /orders/items/1 HTTP/1.1\r\nHost: Gateway.test:8080\r\n{key}\r\n".encode())
        named, nameless, ported = (sent.decode().split("\r\n") for sent in gateway.upstream.received)
        assert ported[1] == f"Host: {'gateway.test:8080' if keeps else own}"
        assert "X-Forwarded-Host: gateway.test:8080" in ported
        assert named[1] == f"Host: {'gateway.test' if keeps else own}"
        assert "X-Forwarded-Host: gateway.test" in named
        assert nameless[1] == f"Host: {own}"
        assert not any(line.startswith("X-Forwarded-Host") for line in nameless)

    play(tmp_path, scenario, preserve_host=keeps)


@pytest.mark.requirement("M1")
def test_pipelining_keeps_order(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = lambda sent: response(sent.split(b" ")[1])
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(
            request("GET", "/orders/items/1", key)
            + request("POST", "/orders/items", key, body=b"x" * 100)
            + request("GET", "/orders/nothing", key)
            + request("GET", "/orders/items/2", key)
        )
        replies = [await read_reply(reader) for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 404, 200]
        assert [replies[at].body for at in (0, 1, 3)] == [b"/base/items/1", b"/base/items", b"/base/items/2"]

    play(tmp_path, scenario)


async def most_in_a_round(gateway: Running, callers: int, pipeline: bytes, answer: bytes) -> int:
    """Have ``callers`` send ``pipeline``, of 400 requests. Returns the most begun in a round of the event loop."""
    answers = []
    for _ in range(callers):
        reader, writer = await gateway.connect()
        writer.write(pipeline)
        writer.write_eof()
        answers.append(asyncio.ensure_future(reader.read()))
    most, before = 0, gateway.worker.stats[stats.REQUESTS]
    while not all(answered.done() for answered in answers):
        await asyncio.sleep(0)  # once around
        now = gateway.worker.stats[stats.REQUESTS]
        most, before = max(most, now - before), now
    assert [answered.result().count(answer) for answered in answers] == [400] * callers
    return most


@pytest.mark.requirement("M1")
def test_a_long_pipeline_is_answered_a_few_at_a_time(tmp_path: Path) -> None:
    """Between them others have a turn, and the clock: refusals need nobody who would hold them up."""

    async def scenario(gateway: Running) -> None:
        assert 0 < await most_in_a_round(gateway, 1, request("GET", "/nowhere") * 400, b"HTTP/1.1 404 ") <= 10

    play(tmp_path, scenario)


@pytest.mark.requirement("M1")
def test_pipelines_to_an_upstream_that_is_not_there_are_answered_a_few_at_a_time(tmp_path: Path) -> None:
    """All that wait for a connection are told in one go; what they had sent ahead waits for its turn even so."""

    async def scenario(gateway: Running) -> None:
        pipeline = request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}") * 400
        assert 0 < await most_in_a_round(gateway, 40, pipeline, b"HTTP/1.1 502 ") <= 100

    play(tmp_path, scenario, egress=EgressRules([]), max_connections=20)


@pytest.mark.requirement("M1")
def test_a_pipeline_whose_answers_are_read_late_is_answered_whole(tmp_path: Path) -> None:
    """The caller sends until no more is begun, for it has read nothing yet; then it ends its side, and reads."""

    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        writer.transport.pause_reading()
        count, before = 0, gateway.worker.stats[stats.REQUESTS]

        async def is_held_up() -> bool:
            for _ in range(50):
                if gateway.worker.stats[stats.REQUESTS] == before + count:
                    return False
                await asyncio.sleep(0.002)
            return True

        while not await is_held_up():
            count += 100
            writer.write(request("GET", "/nowhere") * 100)
            await writer.drain()
        writer.write_eof()
        await asyncio.sleep(0.1)
        writer.transport.resume_reading()
        answers = await reader.read(-1)
        assert (answers.count(b"HTTP/1.1 404 "), answers.count(b"HTTP/1.1 400 ")) == (count, 0)

    play(tmp_path, scenario)


@pytest.mark.requirement("M4")
def test_expect_continue(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(request("POST", "/orders/items", key, "Expect: 100-continue", "Content-Length: 5"))
        assert (await read_reply(reader)).status == 100
        writer.write(b"hello")
        assert (await read_reply(reader)).status == 200
        assert gateway.upstream.received[0].endswith(b"\r\n\r\nhello")
        assert b"Expect" not in gateway.upstream.received[0]
        # A refusal comes instead of 100, and the body is never asked for.
        reply = await gateway.send(request("POST", "/orders/items", "Expect: 100-continue", "Content-Length: 5"))
        assert reply.status == 401

    play(tmp_path, scenario)


@pytest.mark.requirement("M3")
def test_interim_responses_pass(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"ok")
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        hints = await read_reply(reader)
        assert (hints.status, hints.headers["link"]) == (103, "</a>")
        assert (await read_reply(reader)).body == b"ok"

    play(tmp_path, scenario)


# --- refusals -------------------------------------------------------------------------------------------------------


def _problem(reply_body: bytes) -> dict[str, object]:
    body = json.loads(reply_body)
    assert {"type", "title", "status", "detail", "code", "request_id"} <= body.keys()
    return body


@pytest.mark.requirement("H9.3", "K2.1", "H18.1", "H18.2")
@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ([], "key_missing"),
        (["Authorization: Basic dXNlcjpwYXNz"], "key_missing"),
        (["X-Api-Key: nonsense"], "key_malformed"),
        (["X-Api-Key: " + "a" * 5000], "key_malformed"),
        (["X-Api-Key: "], "key_malformed"),
        (["X-Api-Key: {key}x"], "key_malformed"),
        (["X-Api-Key: {other}"], "key_unknown"),
        (["Authorization: Bearer {other}"], "key_unknown"),
        (["X-Api-Key: {key}", "X-Api-Key: {key}"], "key_ambiguous"),
        (["X-Api-Key: {key}", "Authorization: Bearer {key}"], "key_ambiguous"),
        (["Authorization: Bearer {key}", "Authorization: Bearer {other}"], "key_ambiguous"),
    ],
)
def test_unauthorised(tmp_path: Path, lines: list[str], code: str) -> None:
    async def scenario(gateway: Running) -> None:
        other = credentials.generate_key("acme").secret
        filled = [line.format(key=gateway.world.key, other=other) for line in lines]
        reply = await gateway.get("/orders/items/1", *filled, key="")
        assert (reply.status, _problem(reply.body)["code"]) == (401, code)
        assert reply.headers["www-authenticate"].startswith("Bearer")
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-type"] == "application/problem+json"
        assert gateway.upstream.received == []
        assert last_outcome(gateway) == code
        assert gateway.world.key.encode() not in reply.body
        record = gateway.recorder.records[-1]
        assert record.path == b"/orders/items/1"
        assert json.loads(record.trail)[-1]["code"] == code
        if code == "key_malformed":
            assert not [kind for kind, _ in gateway.world.replica.lookups if kind == "credential"]

    play(tmp_path, scenario)


@pytest.mark.requirement("K2.1")
def test_what_is_not_well_formed_costs_no_look_up(tmp_path: Path) -> None:
    """Not in the replica, and there is nowhere else to look (K2)."""

    async def scenario(gateway: Running) -> None:
        key = gateway.world.key
        assert (await gateway.get()).status == 200
        gateway.world.replica.lookups.clear()
        other_mode, other_end = key.replace("_live_", "_test_"), key[:-1] + ("a" if key[-1] != "a" else "b")
        wrong = [
            other_mode,
            other_end,
            key[:-1],
            key + "0",
            key.upper(),
            "x" + key[1:],
            key.replace("_", "-"),
            f"{key},{key}",
        ]
        for text in (*wrong, "", "null", "../..", "%00", "\xe9", "a" * 8000):
            for line in (f"X-Api-Key: {text}", f"Authorization: Bearer {text}"):
                raw = f"GET /orders/items/1 HTTP/1.1\r\nHost: gateway.test\r\n{line}\r\n\r\n".encode("latin-1")
                assert (await gateway.send(raw)).status == 401, line
                assert last_outcome(gateway) == ("key_malformed" if text or "X-Api" in line else "key_missing")
        assert gateway.world.replica.lookups == []
        assert len(gateway.upstream.received) == 1

    play(tmp_path, scenario)


@pytest.mark.requirement("K9.1", "H18.1")
@pytest.mark.requirement("K5.1")
def test_refusing_takes_the_same_steps_however_much_of_a_key_is_right(tmp_path: Path) -> None:
    """One look-up by a digest, for which all of the key counts alike; ``tests.bench keys`` has the times."""

    async def scenario(gateway: Running) -> None:
        key = gateway.world.key
        wrong_end, other_prefix = credentials.generate_key("acme").secret, credentials.generate_key("other").secret
        for text, status in ((key, 200), (wrong_end, 401), (other_prefix, 401)):
            gateway.world.replica.lookups.clear()
            assert (await gateway.get(key=text)).status == status
            asked = [found for found in gateway.world.replica.lookups if found[0] == "credential"]
            assert asked == [("credential", digest(text))]

    play(tmp_path, scenario)


@pytest.mark.parametrize("name", ["api_key", "apikey", "key", "access_token", "X-Api-Key", "token"])
def test_a_key_in_the_address_is_no_key(tmp_path: Path, name: str) -> None:
    """It is not read from there, and neither record nor trail keeps it, wherever in the address it stands (K9)."""

    async def scenario(gateway: Running) -> None:
        key = gateway.world.key
        for path, code in (
            (f"/orders/items/1?{name}={key}", "key_missing"),
            (f"/orders/items/{key}", "key_missing"),
            (f"/orders/{name}/{key}?x={key}", "operation_not_found"),
            (f"/{name}/{key}", "route_not_found"),
            (f"/orders/items;{name}={key}", "bad_path"),
        ):
            reply = await gateway.get(path, key="")
            assert _problem(reply.body)["code"] == code
            assert key.encode() not in reply.body
        assert gateway.upstream.received == []
        assert key[-49:].encode() not in b"".join(gateway.recorder.frames)
        assert gateway.recorder.records[1].path == b"/orders/items/acme_live_***"

    play(tmp_path, scenario)


@pytest.mark.requirement("H9.1")
def test_bearer_is_a_key_too(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reply = await gateway.get("/orders/items/1", f"Authorization: bearer {gateway.world.key}", key="")
        assert reply.status == 200
        assert b"uthorization" not in gateway.upstream.received[0]

    play(tmp_path, scenario)


@pytest.mark.requirement("K8.1")
@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        (lambda w: setattr(w, "credential", replace(w.credential, state="revoked")), 401, "key_revoked"),
        (lambda w: setattr(w, "credential", replace(w.credential, expires_at=1)), 401, "key_expired"),
        (lambda w: setattr(w, "application", replace(w.application, state="suspended")), 403, "application_suspended"),
        (lambda w: setattr(w, "application", replace(w.application, subscriptions=())), 403, "subscription_missing"),
        (lambda w: setattr(w, "version", replace(w.version, product_ids=(99,))), 403, "subscription_missing"),
        (
            lambda w: setattr(
                w, "application", replace(w.application, subscriptions=(replace(w.subscription, state="suspended"),))
            ),
            403,
            "subscription_inactive",
        ),
        (lambda w: setattr(w, "version", replace(w.version, state="retired")), 410, "version_retired"),
        (lambda w: setattr(w.replica, "ready", False), 503, "gateway_not_ready"),
    ],
)
def test_changes_reach_open_connections(
    tmp_path: Path, change: Callable[[World], None], status: int, code: str
) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        call = request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}")
        writer.write(call)
        assert (await read_reply(reader)).status == 200
        change(gateway.world)
        gateway.world.publish()
        writer.write(call)
        reply = await read_reply(reader)
        assert (reply.status, _problem(reply.body)["code"]) == (status, code)
        assert len(gateway.upstream.received) == 1
        record = gateway.recorder.records[-1]
        assert BY_NUMBER[record.outcome].code == code
        if code in {"key_revoked", "key_expired"}:
            assert record.application_id == 60, "the developer sees the refused call in the request list"

    play(tmp_path, scenario)


@pytest.mark.requirement("H11.2", "H12.1", "H15.1", "H6.3")
@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (request("GET", "/elsewhere"), 404, "route_not_found"),
        (request("GET", "/ordersx/items/1"), 404, "route_not_found"),
        (request("GET", "/orders/else"), 404, "operation_not_found"),
        (request("DELETE", "/orders/items"), 405, "method_not_allowed"),
        (request("TRACE", "/orders/items"), 501, "method_not_implemented"),
        (request("get", "/orders/items"), 501, "method_not_implemented"),
        (request("GET", "/orders/items/%2e%2e%2fx"), 400, "bad_path"),
        (request("GET", "/orders/items", "Bad Name: x"), 400, "bad_request"),
        (request("GET", "/" + "a" * 9000), 414, "uri_too_long"),
        (request("GET", "/orders/items", "X: " + "a" * 9000), 431, "head_too_large"),
        (request("GET", "/orders/items", *(f"X{n}: 1" for n in range(120))), 431, "head_too_large"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "version_not_supported"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_not_supported"),
        (b"GET /orders/items HTTP/1.1\nHost: x\n\n", 400, "bad_request"),
        (request("GET", "/orders/items", "Expect: magic"), 417, "expectation_failed"),
        (request("GET", "/orders/items", "Upgrade: websocket", "Connection: upgrade"), 403, "upgrade_not_allowed"),
        (request("GET", "/orders/items", "Via: 1.1 other, 1.1 apimgr-test"), 508, "loop_detected"),
        (request("GET", "/orders/items", "Via: 1.1 apimgr-test,1.1 other"), 508, "loop_detected"),
        (request("GET", "/orders/items", "Via: 1.0 a", "via: 1.1 apimgr-test (x)"), 508, "loop_detected"),
        (request("POST", "/orders/items", "Content-Length: 99999999"), 413, "body_too_large"),
    ],
)
def test_refused_before_the_upstream(tmp_path: Path, raw: bytes, status: int, code: str) -> None:
    async def scenario(gateway: Running) -> None:
        reply = await gateway.send(raw)
        assert (reply.status, _problem(reply.body)["code"]) == (status, code)
        assert gateway.upstream.connections == 0
        assert last_outcome(gateway) == code
        assert len(gateway.recorder.records) == 1
        if status == 405:
            assert reply.headers["allow"] == "GET, HEAD, POST"

    play(tmp_path, scenario)


def test_unknown_operations_may_pass(tmp_path: Path) -> None:
    world = World()
    world.version = replace(world.version, unknown_operation="pass")

    async def scenario(gateway: Running) -> None:
        assert (await gateway.get("/orders/anything/else")).status == 200
        (record,) = gateway.recorder.records
        assert (record.operation_id, record.path) == (0, b"/orders/anything/else")

    play(tmp_path, scenario, world)


def test_no_key_wanted(tmp_path: Path) -> None:
    world = World()
    world.version = replace(world.version, authentication="none")

    async def scenario(gateway: Running) -> None:
        assert (await gateway.get("/orders/items/1", "Authorization: Bearer theirs", key="")).status == 200
        assert b"\r\nAuthorization: Bearer theirs\r\n" in gateway.upstream.received[0]
        assert (await gateway.get("/orders/items/1", f"Authorization: Bearer {gateway.world.key}")).status == 200
        assert b"uthorization" not in gateway.upstream.received[1]

    play(tmp_path, scenario, world)


@pytest.mark.requirement("H9.1", "H9.3")
@pytest.mark.parametrize("authentication", ["key", "none"])
@pytest.mark.parametrize("value", ["{key}", "Token {key}", "Bearer\t{key}", "Key k={key}", "ApiKey=x{key}, other"])
def test_a_key_of_ours_never_passes_in_authorization(tmp_path: Path, authentication: str, value: str) -> None:
    """However it is dressed up; what is not ours passes where the API takes other credentials too (H9)."""
    world = World()
    world.version = replace(world.version, authentication=authentication)  # type: ignore[arg-type]

    async def scenario(gateway: Running) -> None:
        theirs = "Authorization: Basic dXNlcjpwYXNz"
        reply = await gateway.get("/orders/items/1", "Authorization: " + value.format(key=gateway.world.key), theirs)
        assert reply.status == 200
        (sent,) = gateway.upstream.received
        assert gateway.world.key.encode() not in sent
        assert sent.count(b"uthorization") == 1
        assert theirs.encode() in sent

    play(tmp_path, scenario, world)


@pytest.mark.requirement("H9.1", "H9.3")
@pytest.mark.parametrize("authentication", ["key", "none"])
@pytest.mark.parametrize("scheme", ["Basic ", "BASIC  ", "basic\t"])
@pytest.mark.parametrize("named", ["{key}:", "user:{key}", "a:b{key}c", "{key}"])
def test_a_key_of_ours_never_passes_in_basic_credentials(
    tmp_path: Path, authentication: str, scheme: str, named: str
) -> None:
    """``curl -u <key>:`` beside a good key, and where none is wanted: padded or not, in either alphabet (H9)."""
    world = World()
    world.version = replace(world.version, authentication=authentication)  # type: ignore[arg-type]
    ours = named.format(key=world.key).encode()
    forms = {b64encode(ours), b64encode(ours).rstrip(b"="), urlsafe_b64encode(b"\xff?" + ours)}

    async def scenario(gateway: Running) -> None:
        for form in sorted(forms):
            theirs = "Authorization: Basic dXNlcjpwYXNz"
            reply = await gateway.get("/orders/items/1", f"Authorization: {scheme}{form.decode()}", theirs)
            assert reply.status == 200
            sent = gateway.upstream.received.pop()
            assert form not in sent
            assert sent.count(b"uthorization") == 1
            assert theirs.encode() in sent

    play(tmp_path, scenario, world)


@pytest.mark.requirement("H9.1")
@pytest.mark.parametrize(
    "theirs", ["Basic", "Basic ", "Basic x", "Basic ====", "Basic \u20ac", "Basically dXNlcjpwYXNz"]
)
def test_what_is_no_basic_is_looked_at_as_text(theirs: str) -> None:
    key = credentials.generate_key("acme").secret
    for keyed in (True, False):
        assert passes_on(theirs.encode(), keyed=keyed)
        assert not passes_on(f"{theirs} {key}".encode(), keyed=keyed)


def test_deprecated_versions_say_so(tmp_path: Path) -> None:
    world = World()
    world.version = replace(world.version, state="deprecated", deprecated_at=1_700_000_000, sunset_at=1_800_000_000)

    async def scenario(gateway: Running) -> None:
        reply = await gateway.get()
        assert reply.status == 200
        assert reply.headers["deprecation"] == "@1700000000"
        assert reply.headers["sunset"] == "Fri, 15 Jan 2027 08:00:00 GMT"

    play(tmp_path, scenario, world)


def _limited(*limits: snapshot.LimitDocument) -> World:
    world = World()
    world.plan = replace(world.plan, limits=limits)
    return world


def test_rate_and_quota(tmp_path: Path) -> None:
    world = _limited(
        snapshot.LimitDocument(1, "rate", 3, "minute"),
        snapshot.LimitDocument(2, "quota", 100, "month"),
    )

    async def scenario(gateway: Running) -> None:
        replies = [await gateway.get() for _ in range(4)]
        assert [reply.status for reply in replies] == [200, 200, 200, 429]
        assert replies[0].headers["ratelimit-policy"].startswith('"rate-minute";q=3;w=60, "quota-month";q=100;w=')
        assert replies[0].headers["ratelimit"].startswith('"rate-minute";r=2;t=20, "quota-month";r=99;t=')
        refused = replies[3]
        assert _problem(refused.body)["code"] == "rate_limited"
        assert 1 <= int(refused.headers["retry-after"]) <= 20
        assert '"quota-month";r=97' in refused.headers["ratelimit"], "a refused call spends nothing"
        # Raising the plan's limit is felt at once and keeps what was spent.
        gateway.world.plan = replace(gateway.world.plan, limits=(snapshot.LimitDocument(2, "quota", 4, "month"),))
        gateway.world.publish()
        assert [(await gateway.get()).status for _ in range(2)] == [200, 429]
        assert last_outcome(gateway) == "quota_exceeded"

    play(tmp_path, scenario, world)

    async def restarted(gateway: Running) -> None:
        assert (await gateway.get()).status == 429, "a restart does not hand the month out again"

    world.replica.epochs.clear()
    play(tmp_path, restarted, world)


@pytest.mark.requirement("H12.1")
def test_chunked_body_over_the_limit(tmp_path: Path) -> None:
    world = World()
    world.version = replace(world.version, max_body_bytes=1000)

    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(request("POST", "/orders/items", key, "Transfer-Encoding: chunked") + b"1f4\r\n" + b"x" * 500)
        await asyncio.sleep(0.05)
        writer.write(b"\r\n3e8\r\n" + b"x" * 1000 + b"\r\n0\r\n\r\n")
        reply = await read_reply(reader)
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert await reader.read() == b""
        assert gateway.upstream.received == [], "the upstream never saw a whole request"

    play(tmp_path, scenario, world)


@pytest.mark.requirement("H3.1", "H3.2", "H3.3")
@pytest.mark.parametrize(
    "body",
    [b"5\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b"5\r\nhelloX0\r\n\r\n"],
)
def test_broken_chunks(tmp_path: Path, body: bytes) -> None:
    async def scenario(gateway: Running) -> None:
        key = f"X-Api-Key: {gateway.world.key}"
        reply = await gateway.send(request("POST", "/orders/items", key, "Transfer-Encoding: chunked") + body)
        assert reply.status == 400
        await asyncio.sleep(0.02)
        assert gateway.upstream.received == []

    play(tmp_path, scenario)


# --- upstreams that misbehave ---------------------------------------------------------------------------------------


def test_upstream_refuses(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reply = await gateway.get()
        assert (reply.status, _problem(reply.body)["code"]) == (502, "upstream_unreachable")
        assert last_outcome(gateway) == "upstream_unreachable"

    play(tmp_path, scenario, url="http://127.0.0.1:1")


def test_upstream_hangs(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)

        gateway.upstream.handler = hang
        started = time.monotonic()
        async with stopwatch() as seconds:
            reply = await gateway.get()
            assert (reply.status, _problem(reply.body)["code"]) == (504, "upstream_timeout")
            assert seconds() < 2
        assert time.monotonic() - started >= 0.3

    play(tmp_path, scenario, read_timeout_ms=300)


def test_an_answer_in_time_counts_though_the_worker_was_kept_from_reading_it(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        loop = asyncio.get_running_loop()
        reading, writing = socket.socketpair()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_message(reader)

            def stand_still() -> None:
                """After the answer has gone out, and before anybody could read it; the time for it passes."""
                loop.remove_reader(reading)
                os.write(writer.get_extra_info("socket").fileno(), response(b"here"))
                time.sleep(1)

            loop.add_reader(reading, stand_still)
            writing.send(b"1")
            await reader.read(-1)

        gateway.upstream.handler = answer
        with reading, writing:
            reply = await gateway.get()
        assert (reply.status, reply.body) == (200, b"here")

    play(tmp_path, scenario, read_timeout_ms=300)


@pytest.mark.requirement("H5.2")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nBad Name: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: half",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ],
)
def test_upstream_answers_nonsense(tmp_path: Path, answer: bytes) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = answer
        gateway.upstream.close_after = True
        reply = await gateway.get()
        assert reply.status == 502
        assert last_outcome(gateway) in {"upstream_invalid", "upstream_unreachable"}
        gateway.upstream.reply = response(b"fine")
        assert (await gateway.get()).body == b"fine"

    play(tmp_path, scenario)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
def test_upstream_stops_in_the_middle(tmp_path: Path, answer: bytes) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = answer
        gateway.upstream.close_after = True
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await gateway.get()
        assert last_outcome(gateway) == "upstream_aborted"
        assert gateway.recorder.records[-1].upstream_status == 200

    play(tmp_path, scenario)


@pytest.mark.requirement("H5.1")
@pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS"])
def test_a_body_that_means_nothing_is_sent_over_a_connection_of_its_own(tmp_path: Path, method: str) -> None:
    """An upstream that leaves it unread takes it for the next request, and answers that to whoever comes next."""

    async def scenario(gateway: Running) -> None:
        paths = []

        async def without_bodies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                paths.append(head.split()[1])
                writer.write(response(b"answer to " + paths[-1]))
                if b"\r\nConnection: close\r\n" in head:
                    return

        gateway.upstream.handler = without_bodies
        inner = b"DELETE /base/admin HTTP/1.1\r\nHost: x\r\n\r\n"
        first = request(method, "/orders/items/1", f"X-Api-Key: {gateway.world.key}", body=inner)
        replies = await asyncio.gather(gateway.send(first), gateway.get("/orders/items/2"))
        assert [reply.body for reply in replies] == [b"answer to /base/items/1", b"answer to /base/items/2"]
        assert paths == [b"/base/items/1", b"/base/items/2"]

    world = World()
    world.version = replace(world.version, operations=(), unknown_operation="pass")
    play(tmp_path, scenario, world, max_connections=1)


@pytest.mark.requirement("H5.1")
@pytest.mark.parametrize("status", ["200 OK", "304 Not Modified"])
def test_a_body_that_must_not_come_is_nobodys_answer(tmp_path: Path, status: str) -> None:
    async def scenario(gateway: Running) -> None:
        async def with_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            poison = response(b"poison")
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if b"/items/2" in head:
                    writer.write(response(b"mine"))
                    continue
                coding = b"%x\r\n%b\r\n0\r\n\r\n" % (len(poison), poison)
                writer.write(f"HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
                await asyncio.sleep(0.05)
                writer.write(coding[4:])

        gateway.upstream.handler = with_body
        first = gateway.get(method="HEAD" if status == "200 OK" else "GET")
        replies = await asyncio.gather(first, gateway.get("/orders/items/2"))
        assert (replies[0].status, replies[1].body) == (int(status[:3]), b"mine")

    play(tmp_path, scenario, max_connections=1)


@pytest.mark.requirement("H5.1")
def test_bytes_after_a_response_end_the_connection(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = response(b"one") + response(b"poison")
        assert (await gateway.get()).body == b"one"
        gateway.upstream.reply = response(b"two")
        assert (await gateway.get()).body == b"two"
        assert gateway.upstream.connections == 2

    play(tmp_path, scenario)


def test_connection_of_old_age_is_replaced(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        first = True

        async def once_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal first
            await read_message(reader)
            writer.write(response(b"ok"))
            if first:
                first = False
                await read_message(reader)  # and hang up on it

        gateway.upstream.handler = once_each
        assert (await gateway.get()).body == b"ok"
        assert (await gateway.get()).body == b"ok"
        assert gateway.upstream.connections == 2
        assert len(gateway.recorder.records) == 2

    play(tmp_path, scenario)


@pytest.mark.requirement("H9.2")
def test_a_call_that_is_sent_again_is_stripped_again(tmp_path: Path) -> None:
    """A kept connection of old age: the second attempt is as clean as the first (H9)."""

    async def scenario(gateway: Running) -> None:
        sent: list[bytes] = []

        async def once_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            sent.append(await read_message(reader))
            writer.write(response(b"ok"))
            sent.append(await read_message(reader))  # and hang up on it

        gateway.upstream.handler = once_each
        ours = "Authorization: Basic " + b64encode(f"{gateway.world.key}:".encode()).decode()
        for _ in range(2):
            reply = await gateway.get("/orders/items/1", "Authorization: Basic eA==", ours, "X-Consumer-Id: root")
            assert reply.body == b"ok"
        assert len(sent) == 3, "the second call was made twice"
        assert len({again.partition(b"X-Request-Id")[0] for again in sent}) == 1
        assert all(each.count(b"Authorization: ") == 1 for each in sent)
        assert not any(gateway.world.key.encode() in each or b"root" in each for each in sent)

    play(tmp_path, scenario)


@pytest.mark.requirement("M8")
def test_what_follows_an_early_answer_is_not_served(tmp_path: Path) -> None:
    """Of a body that nobody waits for any more, the rest could be taken for a request."""

    async def scenario(gateway: Running) -> None:
        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            gateway.upstream.received.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(response(b"no", "413 Too Large"))
            await reader.read(-1)

        gateway.upstream.handler = early
        key = f"X-Api-Key: {gateway.world.key}"
        inner = request("GET", "/orders/items/2", key)
        reader, writer = await gateway.connect()
        writer.write(request("POST", "/orders/items", key, f"Content-Length: {len(inner) + 1}", "Expect: 100-continue"))
        assert (await read_reply(reader)).status == 100
        assert (await read_reply(reader)).status == 413
        writer.write(inner)
        assert await reader.read() == b""
        assert len(gateway.upstream.received) == 1

    play(tmp_path, scenario)


@pytest.mark.requirement("M8")
def test_early_answer_ends_both_connections(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(b"no", "413 Too Large"))
            await reader.read(-1)

        gateway.upstream.handler = early
        key = f"X-Api-Key: {gateway.world.key}"
        reply = await gateway.send(request("POST", "/orders/items", key, "Content-Length: 100000") + b"x" * 10)
        assert (reply.status, reply.body, reply.headers["connection"]) == (413, b"no", "close")

    play(tmp_path, scenario)


def test_calls_queue_for_the_upstreams_connections(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        replies = await asyncio.gather(*(gateway.get() for _ in range(20)))
        assert {reply.status for reply in replies} == {200}
        assert gateway.upstream.connections <= 2

    play(tmp_path, scenario, max_connections=2)


# --- callers that misbehave -----------------------------------------------------------------------------------------


def test_caller_leaves_while_the_upstream_thinks(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        asked, gone = asyncio.Event(), asyncio.Event()

        async def think(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_message(reader)
            asked.set()
            await reader.read(-1)
            gone.set()

        gateway.upstream.handler = think
        _, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await asked.wait()
        writer.transport.abort()
        await gone.wait()
        (record,) = gateway.recorder.records
        assert (record.outcome, record.status) == (BY_CODE["client_aborted"].number, 499)

    play(tmp_path, scenario)


def test_caller_leaves_at_once(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        async def never(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(-1)

        gateway.upstream.handler = never
        _, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        writer.close()  # the request and its end arrive together
        await until(lambda: gateway.recorder.records)
        assert last_outcome(gateway) == "client_aborted"

    play(tmp_path, scenario)


def test_caller_leaves_in_the_middle_of_a_body(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        _, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(request("POST", "/orders/items", key, "Content-Length: 100") + b"half")
        await asyncio.sleep(0.05)
        writer.close()
        await until(lambda: gateway.recorder.records)
        assert last_outcome(gateway) == "client_aborted"
        assert gateway.upstream.received == []

    play(tmp_path, scenario)


@pytest.mark.requirement("M9")
def test_half_closed_callers_are_answered(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        writer.write_eof()
        assert (await read_reply(reader)).status == 200
        assert await reader.read() == b""

    play(tmp_path, scenario)


@pytest.mark.requirement("M1", "M9")
@pytest.mark.parametrize(
    ("tail", "last"),
    [(b"", 200), (b"GET /orders/it", 400), (b"DELETE /orders/items/1 HTTP/1.1\r\nHost: g\r\n\r\n", 405)],
)
def test_a_pipeline_is_answered_whole_though_its_end_has_come(tmp_path: Path, tail: bytes, last: int) -> None:
    async def scenario(gateway: Running) -> None:
        one = request("POST", "/orders/items", f"X-Api-Key: {gateway.world.key}", body=b"hello")
        reader, writer = await gateway.connect()
        writer.write(one * 3 + tail)
        writer.write_eof()
        replies = [await read_reply(reader) for _ in range(4 if tail else 3)]
        assert [reply.status for reply in replies] == [200, 200, 200, last][: len(replies)]
        assert ["connection" in reply.headers for reply in replies] == [False] * (len(replies) - 1) + [True]
        assert await reader.read() == b""
        assert len(gateway.upstream.received) == 3

    play(tmp_path, scenario)


@pytest.mark.requirement("M9")
def test_a_pipeline_that_ends_within_a_body(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        key = f"X-Api-Key: {gateway.world.key}"
        reader, writer = await gateway.connect()
        writer.write(
            request("GET", "/orders/items/1", key) + request("POST", "/orders/items", key, "Content-Length: 9") + b"x"
        )
        writer.write_eof()
        assert (await read_reply(reader)).status == 200
        assert await reader.read() == b""
        await until(lambda: len(gateway.recorder.records) == 2)
        assert [BY_NUMBER[record.outcome].code for record in gateway.recorder.records] == ["ok", "client_aborted"]
        assert len(gateway.upstream.received) == 1, "the second was never whole"

    play(tmp_path, scenario)


@pytest.mark.requirement("H13.1")
def test_a_trickle_buys_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "HEAD_SECONDS", 0.4)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
        for byte in itertools.chain(b"GET /orders/items HTTP/1.1\r\n", itertools.cycle(b"X: y\r\n")):
            writer.write(bytes((byte,)))
            await asyncio.sleep(0.02)
            if not reader.at_eof() and reader._buffer:  # type: ignore[attr-defined]
                break
        return (await read_reply(reader)).status

    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        assert await trickle(reader, writer) == 408
        assert last_outcome(gateway) == "request_timeout"
        # Nor on a connection that has already served.
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        assert (await read_reply(reader)).status == 200
        assert await trickle(reader, writer) == 408

    play(tmp_path, scenario)


def test_heads_arrive_in_any_pieces(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        for byte in request("POST", "/orders/items", f"X-Api-Key: {gateway.world.key}", body=b"hello"):
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0)
        assert (await read_reply(reader)).status == 200
        assert gateway.upstream.received[0].endswith(b"\r\n\r\nhello")

    play(tmp_path, scenario)


# --- streaming ------------------------------------------------------------------------------------------------------


@pytest.mark.requirement("M12")
def test_big_bodies_stream_both_ways_in_little_memory(tmp_path: Path) -> None:
    size = 100 * 1024 * 1024
    world = World()
    world.version = replace(world.version, max_body_bytes=2 * size)
    piece = bytes(range(256)) * 256

    async def scenario(gateway: Running) -> None:
        async def echo_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            await asyncio.sleep(0.3)  # let the caller run into the back-pressure
            left = size
            while left:
                data = await reader.read(65536)
                assert data, f"{left} bytes short"
                left -= len(data)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            for _ in range(size // len(piece)):
                writer.write(piece)
                await writer.drain()
            await asyncio.sleep(1)

        gateway.upstream.handler = echo_length
        reader, writer = await gateway.connect()
        key = f"X-Api-Key: {gateway.world.key}"
        writer.write(request("POST", "/orders/items", key, f"Content-Length: {size}"))
        buffered = 0

        async def upload() -> None:
            for _ in range(size // len(piece)):
                writer.write(piece)
                await writer.drain()

        async def watch() -> None:
            nonlocal buffered
            while True:
                await asyncio.sleep(0.005)
                for client in gateway.worker.connections:
                    exchange = client._exchange
                    upstream = exchange.connection if exchange is not None else None
                    held = client.transport.get_write_buffer_size()
                    if upstream is not None:
                        held += upstream.transport.get_write_buffer_size()
                    buffered = max(buffered, held)

        watching = asyncio.ensure_future(watch())
        await upload()
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        await asyncio.sleep(0.3)  # let the upstream run into it
        got = 0
        while got < size:
            data = await reader.read(65536)
            assert data, f"{size - got} bytes short"
            got += len(data)
        watching.cancel()
        assert buffered < 2 * 1024 * 1024
        (record,) = gateway.recorder.records
        assert (record.bytes_in, record.bytes_out) == (size, size)

    play(tmp_path, scenario, world)


@pytest.mark.requirement("H12.2")
@pytest.mark.parametrize("what", ["line", "field", "head", "body", "trailers"])
def test_what_is_too_large_is_not_kept(tmp_path: Path, what: str) -> None:
    """However much is sent, memory grows by less than twice what is allowed, and a few reads' worth (H12)."""
    world = World()
    world.version = replace(world.version, max_body_bytes=8 * 1024 * 1024)
    chunked = request("POST", "/orders/items", f"X-Api-Key: {world.key}", "Transfer-Encoding: chunked")
    start, more, allowed = {
        "line": (b"GET /", b"a", MAX_REQUEST_LINE),
        "field": (b"GET / HTTP/1.1\r\nX: ", b"a", MAX_HEAD),
        "head": (b"GET / HTTP/1.1\r\n", b"X: y\r\n", MAX_HEAD),
        "body": (chunked, b"400\r\n" + b"x" * 1024 + b"\r\n", 8 * 1024 * 1024),
        "trailers": (chunked + b"0\r\n", b"X: y\r\n", MAX_TRAILERS),
    }[what]

    async def scenario(gateway: Running) -> None:
        await gateway.get()
        _, writer = await gateway.connect()
        writer.write(start)
        tracemalloc.start()
        for _ in range(500):  # 32 MB
            if writer.is_closing():
                break
            writer.write(more * (65536 // len(more)))
            with suppress(ConnectionError):
                await writer.drain()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert gateway.recorder.records[-1].status in (400, 413, 414, 431)
        assert peak < 2 * allowed + 1024 * 1024

    play(tmp_path, scenario, world)


@pytest.mark.requirement("M10")
def test_events_pass_as_they_come(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        go_on = asyncio.Event()

        async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_message(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for number in range(3):
                writer.write(b"9\r\ndata: %d\n\n\r\n" % number)
                await go_on.wait()
            writer.write(b"0\r\n\r\n")
            await reader.read(-1)

        gateway.upstream.handler = tell
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await reader.readuntil(b"\r\n\r\n")
        first = await reader.readuntil(b"data: 0\n\n\r\n")
        assert b"data: 1" not in first
        assert gateway.recorder.records == [], "recorded with its last byte, not before"
        go_on.set()
        await reader.readuntil(b"0\r\n\r\n")
        assert len(gateway.recorder.records) == 1

    play(tmp_path, scenario)


def test_draining_finishes_what_is_in_flight(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        asked, release = asyncio.Event(), asyncio.Event()

        async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await read_message(reader)
            asked.set()
            await release.wait()
            writer.write(response(b"done"))
            await reader.read(-1)

        gateway.upstream.handler = slow
        reader, writer = await gateway.connect()
        idle_reader, _ = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await asked.wait()
        await until(lambda: len(gateway.worker.connections) == 2)
        draining = asyncio.ensure_future(gateway.worker._drain())
        assert await idle_reader.read() == b""
        release.set()
        reply = await read_reply(reader)
        assert (reply.body, reply.headers["connection"]) == (b"done", "close")
        await draining

    play(tmp_path, scenario)


def test_nothing_is_forwarded_that_cannot_be_recorded(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        def full(frame: bytes) -> None:
            raise OSError("no space left")

        gateway.recorder.append = full  # type: ignore[method-assign]
        assert (await gateway.get()).status == 200, "the first to find out was already answered"
        assert (await gateway.get()).status == 503
        assert len(gateway.upstream.received) == 1

    play(tmp_path, scenario)


def test_a_full_spool_refuses_before_the_upstream_is_asked(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.recorder.has_room = lambda frames: False  # type: ignore[method-assign]
        reply = await gateway.get()
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert last_outcome(gateway) == "usage_unavailable"
        assert gateway.upstream.received == []

    play(tmp_path, scenario)


# --- keys over time ------------------------------------------------------------------------------------------------


@pytest.mark.requirement("K7.1", "K7.2")
def test_the_former_secret_of_a_rolled_key_is_recorded_as_such_and_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(gateway: Running) -> None:
        world = gateway.world
        former = credentials.generate_key("acme").secret
        ends = int(time.time()) + 2
        monkeypatch.setattr("time.time", lambda: ends - 0.05)
        world.replica.put(replace(world.credential, digest=digest(former), superseded=True, expires_at=ends))
        reader, writer = await gateway.connect()
        for key in (world.key, former):
            writer.write(request("GET", "/orders/items", f"X-Api-Key: {key}"))
            assert (await read_reply(reader)).status == 200
        first, second = gateway.recorder.records
        assert first.credential_id == second.credential_id == world.credential.id
        assert (first.flags & FLAG_OLD_SECRET, second.flags & FLAG_OLD_SECRET) == (0, FLAG_OLD_SECRET)
        monkeypatch.setattr("time.time", lambda: ends + 0.05)
        writer.write(request("GET", "/orders/items", f"X-Api-Key: {former}"))
        assert (await read_reply(reader)).status == 401, "on the same connection, at the second"
        assert last_outcome(gateway) == "key_expired"
        writer.write(request("GET", "/orders/items", f"X-Api-Key: {world.key}"))
        assert (await read_reply(reader)).status == 200

    play(tmp_path, scenario)


@pytest.mark.requirement("K8.1")
def test_a_suspended_organisation_stops_its_applications(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        owner = gateway.world.application.organisation_id
        reader, writer = await gateway.connect()
        for state, status in (("suspended", 403), ("active", 200), ("suspended", 403)):
            gateway.world.replica.put(snapshot.OrganisationDocument(owner, state))  # type: ignore[arg-type]
            writer.write(request("GET", "/orders/items", f"X-Api-Key: {gateway.world.key}"))
            assert (await read_reply(reader)).status == status
        assert last_outcome(gateway) == "organisation_suspended"
        assert gateway.recorder.records[-1].application_id == gateway.world.application.id

    play(tmp_path, scenario)
