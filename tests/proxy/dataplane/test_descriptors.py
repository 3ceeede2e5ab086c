"""What a worker does when file descriptors run out."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
import time
from ipaddress import ip_address
from pathlib import Path

import pytest

from proxy.dataplane import descriptors
from proxy.dataplane.config import from_environment
from proxy.dataplane.door import Door
from proxy.dataplane.supervisor import Supervisor
from proxy.dataplane.timers import TICK
from proxy.dataplane.upstreams.connect import is_local_address
from tests.proxy.dataplane.support import Running, read_reply, request, until
from tests.proxy.dataplane.test_gateway import last_outcome, play
from tests.proxy.dataplane.test_slow_clients import key
from tests.proxy.dataplane.test_upstreams import the_pool
from tests.proxy.exhaustion import no_descriptors

pytestmark = pytest.mark.processes


def test_each_caller_counts_twice() -> None:
    assert descriptors.places(1024, 24) == (1024 - 24 - descriptors.SPARE) // 2
    assert descriptors.places(20, 24) == 1, "too few is no reason not to start"


def test_the_limit_is_raised_as_far_as_it_may_be() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (500, hard))
    try:
        before, now = descriptors.raise_limit()
        assert (before, now) == (500, descriptors.limit())
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_needed_has_room_for_all() -> None:
    for callers in (1, 300, 10_000):
        assert descriptors.places(descriptors.needed(callers), descriptors.OWN) == callers


@pytest.mark.parametrize(
    ("files", "set_to", "said"),
    [(20_000, None, logging.INFO), (20_000, "10000", logging.WARNING), (20_080, None, 0), (400, "160", 0)],
)
def test_callers_that_do_not_fit_are_no_cause_for_alarm_unless_they_were_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    files: int,
    set_to: str,
    said: int,
) -> None:
    environ = {
        "APIMGR_VAR": str(tmp_path),
        "APIMGR_KEY_PEPPER": "p" * 32,
        "APIMGR_GATEWAY_LISTEN": "127.0.0.1:0",
        "APIMGR_GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
        "APIMGR_GATEWAY_WORKERS": "4",
        **({"APIMGR_GATEWAY_MAX_CONNECTIONS": set_to} if set_to else {}),
    }
    monkeypatch.setattr(descriptors, "raise_limit", lambda: (files, files))
    caplog.set_level(logging.INFO)
    Supervisor(from_environment(environ), environ)._stop()
    levels = [record.levelno for record in caplog.records if "room for" in record.getMessage()]
    assert levels == ([said] if said else []), "once, not for each worker"


def test_callers_beyond_the_places_wait_for_one(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.places = 2
        kept = [await gateway.connect() for _ in range(2)]
        await until(lambda: len(gateway.worker.connections) == 2)
        waiting = [await gateway.connect() for _ in range(5)]
        for _, writer in waiting:
            writer.write(request("GET", "/orders/items/1", key(gateway)))
        await asyncio.sleep(0.25)
        assert len(gateway.worker.connections) == 2
        kept[0][1].write(request("GET", "/orders/items/1", key(gateway)))
        assert (await read_reply(kept[0][0])).status == 200, "those who are in are served"
        kept[0][1].transport.abort()
        for reader, writer in waiting:  # in the order in which they came
            assert (await read_reply(reader)).status == 200
            writer.transport.abort()

    play(tmp_path, scenario)


def test_without_a_descriptor_callers_wait_and_nothing_spins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tried = []
    accept = Door._accept
    monkeypatch.setattr(Door, "_accept", lambda door: (tried.append(door), accept(door)))

    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", key(gateway)))
        assert (await read_reply(reader)).status == 200
        with socket.socket() as late:
            late.settimeout(0)
            tried.clear()
            with no_descriptors():
                began = time.monotonic()
                await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", gateway.port))
                await asyncio.sleep(0.55)
                assert 1 <= len(tried) <= (time.monotonic() - began) / TICK + 2, "once a tick, not all the time"
                writer.write(request("GET", "/orders/items/1", key(gateway)))
                assert (await read_reply(reader)).status == 200, "over the connections there are"
            await asyncio.get_running_loop().sock_sendall(late, request("GET", "/orders/items/1", key(gateway)))
            assert (await asyncio.get_running_loop().sock_recv(late, 12)) == b"HTTP/1.1 200"
        assert caplog.text.count("wait in the queue") == 1

    play(tmp_path, scenario)


def test_no_descriptor_for_the_upstream_is_not_the_upstreams_fault(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        reader, writer = await gateway.connect()
        await until(lambda: len(gateway.worker.connections) == 1)
        with no_descriptors():
            writer.write(request("GET", "/orders/items/1", key(gateway)))
            reply = await read_reply(reader)
        assert (reply.status, json.loads(reply.body)["code"]) == (503, "gateway_overloaded")
        assert reply.headers["retry-after"] == "1"
        assert last_outcome(gateway) == "gateway_overloaded"
        writer.write(request("GET", "/orders/items/1", key(gateway)))
        assert (await read_reply(reader)).status == 200

    play(tmp_path, scenario)


def test_idle_connections_to_upstreams_make_room(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        gateway.worker.pools.many = 0
        assert [(await gateway.get()).status for _ in range(3)] == [200] * 3
        assert len(the_pool(gateway)._idle) == 1, "it is kept until another one is opened"
        gateway.worker.pools.opened(the_pool(gateway)._idle[0])
        await until(lambda: not the_pool(gateway)._open)

    play(tmp_path, scenario)


def test_who_cannot_look_does_not_say_that_an_address_is_of_another_host() -> None:
    assert is_local_address(ip_address("127.0.0.1"))
    assert not is_local_address(ip_address("192.0.2.1"))
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        is_local_address(ip_address("127.0.0.1"))
