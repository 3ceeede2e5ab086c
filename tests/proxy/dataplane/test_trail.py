"""What a record says of an upstream's failure: each attempt, how far it came, and how long each part of it took."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.dataplane.support import Handler, Running, request, response
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
