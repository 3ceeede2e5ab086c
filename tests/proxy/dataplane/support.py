"""A gateway worker, an upstream and a client on loopback, in one event loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from apimgr.contracts import credentials, snapshot, usage
from apimgr.contracts.addresses import EgressRules
from proxy.dataplane import stats
from proxy.dataplane.limits.table import Table
from proxy.dataplane.worker import Worker

PEPPER = b"p" * 32
PATIENCE = 30.0  # seconds to await what must come: a bound on hanging, not on speed


class MemoryReplica:
    """Documents in a dictionary, with the epochs a real replica has."""

    def __init__(self) -> None:
        self.ready = True
        self.last_in_touch = 0
        self.documents: dict[tuple[str, str], snapshot.Document] = {}
        self.epochs: dict[str, int] = {}
        self.lookups: list[tuple[str, str]] = []

    def put(self, *documents: snapshot.Document) -> None:
        for document in documents:
            kind = snapshot.KIND_OF[type(document)]
            # Through JSON, as the real one.
            self.documents[kind, document.key] = snapshot.load(snapshot.dump(document))
            self.epochs[kind] = self.epochs.get(kind, 0) + 1

    def get(self, kind: str, key: str) -> snapshot.Document | None:
        self.lookups.append((kind, key))
        return self.documents.get((kind, key))

    def get_other(self, kind: str, key: str, known: bytes) -> tuple[snapshot.Document | None, bytes]:
        document = self.get(kind, key)
        digest = b"" if document is None else snapshot.dump(document)
        return (None if digest == known else document), digest

    def holds_under(self, kind: str, prefix: str) -> bool:
        return any(other == kind and key.startswith(prefix) for other, key in self.documents)

    def fingerprint(self) -> bytes:
        return repr((self.ready, self.epochs)).encode()

    @property
    def in_touch_at(self) -> int:
        return self.last_in_touch

    def epoch(self, kind: str) -> int:
        return self.epochs.get(kind, 0)


class MemoryRecorder:
    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.held: dict[int, bytes] = {}
        self.slots = 0
        self.is_full = False
        self.noted: list[tuple[int, int, int, int]] = []

    def has_room(self, frames: int) -> bool:
        return not self.is_full

    @property
    def calls(self) -> MemoryRecorder:
        return self

    def hold(self, known: bytes, method: int, flags: int, client: bytes) -> int:
        self.slots += 1
        self.held[self.slots] = known
        return self.slots

    def progress(self, slot: int, bytes_in: int, bytes_out: int, status: int) -> None:
        assert slot in self.held
        self.noted.append((slot, bytes_in, bytes_out, status))

    def append(self, frame: bytes, slot: int = 0) -> None:
        self.frames.append(frame)
        if slot:
            del self.held[slot]

    @property
    def records(self) -> list[usage.UsageRecord]:
        return [record for _, record in usage.decode(b"".join(self.frames))]


VERSION = snapshot.VersionDocument(
    id=20,
    api_id=10,
    organisation_id=1,
    name="v1",
    state="published",
    base_path="/orders",
    upstream=snapshot.UpstreamDocument(url="http://127.0.0.1:1"),
    product_ids=(30,),
    operations=(
        snapshot.OperationDocument(1, "GET", "/items/{id}"),
        snapshot.OperationDocument(2, "POST", "/items"),
        snapshot.OperationDocument(3, "GET", "/items"),
    ),
)
PLAN = snapshot.PlanDocument(id=40, name="Free")
SUBSCRIPTION = snapshot.SubscriptionDocument(50, 30, 40)
APPLICATION = snapshot.ApplicationDocument(60, 2, "App")
CREDENTIAL = snapshot.CredentialDocument(70, 60, digest="")


@dataclass
class World:
    """One API "orders" at /orders with a key on a plan. Change documents and ``publish`` again."""

    replica: MemoryReplica = field(default_factory=MemoryReplica)
    key: str = field(default_factory=lambda: credentials.generate_key("acme").secret)
    version: snapshot.VersionDocument = VERSION
    plan: snapshot.PlanDocument = PLAN
    subscription: snapshot.SubscriptionDocument = SUBSCRIPTION
    application: snapshot.ApplicationDocument = APPLICATION
    credential: snapshot.CredentialDocument = CREDENTIAL

    def __post_init__(self) -> None:
        self.credential = replace(self.credential, digest=digest(self.key))
        self.application = replace(self.application, subscriptions=(self.subscription,))

    def publish(self) -> None:
        self.replica.put(
            snapshot.RouteDocument("", self.version.base_path, self.version.id),
            self.version,
            self.plan,
            self.application,
            self.credential,
        )


def digest(key: str) -> str:
    return credentials.digest_key(key.encode(), PEPPER).hex()


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Upstream:
    """Answers each whole request with ``reply`` and remembers what it was sent, byte for byte."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.connections = 0
        self.reply: bytes | Callable[[bytes], bytes] = response(b'{"hello": "world"}')
        self.close_after = False
        self.handler: Handler | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.handler is not None:
                await self.handler(reader, writer)
            else:
                await self._answer_all(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer_all(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            request = await read_message(reader)
            self.received.append(request)
            writer.write(self.reply if isinstance(self.reply, bytes) else self.reply(request))
            await writer.drain()
            if self.close_after:
                return


def response(body: bytes = b"", status: str = "200 OK", *lines: str) -> bytes:
    head = "".join(f"{line}\r\n" for line in (*lines, "Content-Type: application/json", f"Content-Length: {len(body)}"))
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP message that is framed by Content-Length or chunked, as it came."""
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while not (body.endswith(b"\r\n0\r\n\r\n") or body == b"0\r\n\r\n"):
            body += await reader.readuntil(b"\r\n")
        return head + body
    length = int(lower.partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0] or 0)
    return head + await reader.readexactly(length)


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Running:
    """The pieces, running."""

    world: World
    worker: Worker
    upstream: Upstream
    recorder: MemoryRecorder
    port: int
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        return reader, writer

    async def close(self) -> None:
        for writer in self.writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def send(self, raw: bytes, *, to_head: bool = False) -> Reply:
        """Send bytes on a connection of their own and read one response."""
        reader, writer = await self.connect()
        try:
            writer.write(raw)
            return await read_reply(reader, to_head=to_head)
        finally:
            writer.close()

    async def get(
        self, path: str = "/orders/items/1", *lines: str, key: str | None = None, method: str = "GET"
    ) -> Reply:
        secret = self.world.key if key is None else key
        fields = [*lines, f"X-Api-Key: {secret}"] if secret else list(lines)
        return await self.send(request(method, path, *fields), to_head=method == "HEAD")

    async def outcomes(self) -> list[int]:
        await asyncio.sleep(0)
        return [record.outcome for record in self.recorder.records]


def request(method: str, path: str, *lines: str, body: bytes = b"") -> bytes:
    fields = "".join(f"{line}\r\n" for line in ("Host: gateway.test", *lines))
    if body:
        fields += f"Content-Length: {len(body)}\r\n"
    return f"{method} {path} HTTP/1.1\r\n{fields}\r\n".encode() + body


async def until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up_at, "it did not come to that"
        await asyncio.sleep(0.01)


@asynccontextmanager
async def stopwatch() -> AsyncIterator[Callable[[], float]]:
    """Gives the seconds from now on, but for those in which a busy machine kept this process from going on."""
    beat, kept = 0.01, 0.0
    began = time.monotonic()

    async def feel() -> None:
        nonlocal kept
        while True:
            before, worked = time.monotonic(), time.process_time()
            await asyncio.sleep(beat)
            kept += max(0.0, time.monotonic() - before - (time.process_time() - worked) - 2 * beat)

    feeling = asyncio.ensure_future(feel())
    try:
        yield lambda: time.monotonic() - began - kept
    finally:
        feeling.cancel()


class ClockByHand:
    """The clock of a worker's deadlines: it goes on when it is told to, however long the machine takes meanwhile."""

    def __init__(self, gateway: Running) -> None:
        self._wheel = gateway.worker.wheel
        self._now = self._wheel.now
        self._wheel._clock = lambda: self._now

    async def go_on(self, seconds: float) -> None:
        """Until the worker has looked at what is due by then."""
        self._now += seconds
        await until(lambda: self._wheel.now == self._now)


async def read_reply(reader: asyncio.StreamReader, *, to_head: bool = False) -> Reply:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    status_line, *lines = head.decode("latin-1").split("\r\n")[:-2]
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    status = int(status_line.split(" ")[1])
    body = b""
    if to_head or status < 200 or status in (204, 304):
        pass
    elif headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    elif "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    else:
        body = await reader.read(-1)
    return Reply(status, headers, body)


@asynccontextmanager
async def running(
    tmp_path: Path,
    world: World | None = None,
    *,
    egress: EgressRules | None = None,
    shared: bool = False,
    **upstream_fields: Any,
) -> AsyncIterator[Running]:
    """A published world served by a real worker on loopback, in this event loop. ``shared``: its limits are leased."""
    world = world or World()
    upstream, recorder = Upstream(), MemoryRecorder()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]
    fields = {"url": f"http://127.0.0.1:{port}/base", **upstream_fields}
    world.version = replace(world.version, upstream=snapshot.UpstreamDocument(**fields))
    world.publish()
    worker = Worker(
        replica=world.replica,
        recorder=recorder,
        limits=Table(tmp_path / "limits", time.time(), may_be_alone=True, shared=shared),
        stats_block=stats.open_block(tmp_path / "stats", 0),
        pepper=PEPPER,
        node_name="test",
        max_connections=1000,
        egress=egress or EgressRules(["127.0.0.1"]),
    )
    listening = socket.create_server(("127.0.0.1", 0))
    stop = asyncio.Event()
    serving = asyncio.ensure_future(worker.serve([listening], stop))
    await asyncio.sleep(0)
    gateway = Running(world, worker, upstream, recorder, listening.getsockname()[1])
    try:
        yield gateway
    finally:
        await gateway.close()
        for connection in list(worker.connections):
            connection.transport.abort()
        stop.set()
        await asyncio.wait_for(serving, PATIENCE)
        worker.runtime.limits.close()
        server.close()
