"""Random streams of sound, broken and overlapping requests: the upstream never gets one that the caller did not send.

A slow reference reader says which requests a stream holds. What the upstream got has to be the beginning of that, in
order, each with its own payload, and readable by the same reader: whatever the gateway made of the bytes, nobody behind
it saw a request begin where none did.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path
from tests.fuzz import reference
from tests.fuzz.__main__ import mutate
from tests.proxy.dataplane.support import PATIENCE, Running, World, response
from tests.proxy.dataplane.test_gateway import play

pytestmark = pytest.mark.processes

STREAMS = 400
Request = tuple[bytes, bytes, bytes]

# What a smuggled request looks like, and what may stand around it.
INNER = b"GET /inner HTTP/1.1\r\nHost: g\r\nX-Inner: 1\r\n\r\n"
PIECES = [
    b"GET /a HTTP/1.1\r\nHost: g\r\n\r\n",
    b"HEAD /b?x HTTP/1.1\r\nHost: g\r\nX: y\r\n\r\n",
    b"GET /early HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n%b" % (len(INNER), INNER),
    b"POST /d HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(INNER), INNER),
    b"POST /e HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX-T: y\r\n\r\n",
    b"POST /f HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
    b"PUT /early HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /g HTTP/1.0\r\nHost: g\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /h HTTP/1.1\r\nHost: g\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"DELETE /i HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n",
    b"POST /j HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + INNER,
    b"POST /k HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\nContent-Length: %d\r\n\r\n%b" % (len(INNER), INNER),
    b"POST /l HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\n0\n\n" + INNER,
    b"POST /n HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n" + INNER,
    b"POST /o HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n" + INNER,
    b"POST /p HTTP/1.1\r\nHost: g\r\nTransfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n" + INNER,
    b"GET /m HTTP/1.1\r\nHost: g\r\nX: y\n\n" + INNER,
    INNER,
]


def streams(seed: int) -> Iterator[bytes]:
    chance = random.Random(seed)
    for _ in range(STREAMS):
        stream = b"".join(chance.choices(PIECES, k=chance.randint(1, 4)))
        yield mutate(stream, chance.choice(PIECES), chance) if chance.random() < 0.8 else stream


def read_one(stream: bytes) -> tuple[Request | None, bytes]:
    """The request that ``stream`` begins with, if it is sound and whole, and what follows it."""
    try:
        head = reference.read_request(stream)
        length, rest = reference.body_length(head), stream[head.size :]
        if length < 0:
            payload, rest = reference.read_chunked(rest)
        elif len(rest) < length:
            return None, b""
        else:
            payload, rest = rest[:length], rest[length:]
    except (reference.Refused, reference.Incomplete):
        return None, b""
    return (head.start[0], head.start[1], payload), rest


def read(stream: bytes) -> tuple[list[Request], bytes]:
    """The requests that ``stream`` begins with, and what is left where the next one is wrong or not whole."""
    found: list[Request] = []
    while stream:
        request, rest = read_one(stream)
        if request is None:
            break
        found.append(request)
        stream = rest
    return found, stream


def sent_on(requests: list[Request]) -> list[Request]:
    """As the upstream may get them: in the canonical spelling; those that have none are not passed on."""
    found = []
    for method, target, payload in requests:
        path, mark, query = target.removeprefix(b"http://g").partition(b"?")
        with suppress(Malformed):
            found.append((method, canonical_path(path or b"/") + mark + query, payload))
    return found


class Ledger:
    """What reached the upstream, connection by connection, byte for byte."""

    def __init__(self) -> None:
        self.connections: list[bytearray] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got = bytearray()
        self.connections.append(got)
        answered = 0
        while data := await reader.read(65536):
            got += data
            requests, rest = read(bytes(got))
            for method, _, _ in requests[answered:]:
                writer.write(response(b"" if method == b"HEAD" else b"ok"))
            answered = len(requests)
            if b" /early " in rest:
                writer.write(response(b"early", "413 X", "Connection: close"))


@pytest.mark.requirement("H1.4", "H3.5", "H4.1", "H4.2", "H5.1", "M1", "M8")
@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_smuggled(tmp_path: Path, seed: int) -> None:
    world = World()
    world.version = replace(
        world.version, base_path="/", authentication="none", unknown_operation="pass", operations=()
    )

    async def scenario(gateway: Running) -> None:
        chance, passed_on = random.Random(seed), 0
        for stream in streams(seed):
            ledger = Ledger()
            gateway.upstream.handler = ledger.serve
            reader, writer = await gateway.connect()
            cut = chance.randint(0, len(stream))
            writer.write(stream[:cut])
            await asyncio.sleep(0)
            with suppress(ConnectionError):
                writer.write(stream[cut:])
                writer.write_eof()
                await asyncio.wait_for(reader.read(), PATIENCE)
            writer.transport.abort()
            for connection in list(gateway.worker.connections):
                connection.transport.abort()
            for idle in list(gateway.worker.pools._pools.values()):
                idle.close()
            await asyncio.sleep(0)
            may_be_sent = sent_on(read(stream)[0])
            for got in ledger.connections:
                requests, rest = read(bytes(got))
                assert not rest or starts_soundly(rest), (stream, bytes(got))
                for method, target, payload in requests:
                    request = (method, target.removeprefix(b"/base"), payload)
                    assert request in may_be_sent, (stream, bytes(got))
                    del may_be_sent[: may_be_sent.index(request) + 1]  # in order, and each once
                    passed_on += 1
        assert passed_on > STREAMS / 4, "the streams hold sound requests too"

    play(tmp_path, scenario, world)


def starts_soundly(rest: bytes) -> bool:
    """Whether it is the beginning of one request whose body did not come."""
    try:
        head = reference.read_request(rest)
        return reference.body_length(head) != 0
    except reference.Incomplete:
        return False  # a head is sent whole
    except reference.Refused:
        return False
