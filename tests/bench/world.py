"""The configuration that the benchmarks serve: routes with operations behind keys on a plan with two limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from uuid import UUID

from apimgr.contracts import credentials, snapshot
from proxy.dataplane.replica.writer import Change, Mark, ReplicaWriter

PEPPER = "benchmark-pepper-benchmark-pepper"
BODY = json.dumps({"items": [{"id": n, "name": f"item {n}", "price": n * 100} for n in range(24)], "pad": "x" * 60})
_PATHS = ("/items", "/items/{id}", "/items/{id}/parts", "/people/{id}", "/status")
_BATCH = 20_000


@dataclass(frozen=True)
class Size:
    """How much is configured. Operations are shared out evenly over the routes."""

    routes: int = 100
    operations: int = 500
    keys: int = 100

    @property
    def applications(self) -> int:
        return min(self.keys, 10_000)


USUAL = Size()


def make_keys(count: int) -> list[str]:
    return [credentials.generate_key("bench").secret for _ in range(count)]


def calls(size: Size, keys: list[str], most: int = 10_000) -> list[tuple[str, str]]:
    """Up to ``most`` calls (path, key) that touch as many routes, operations and keys as they can."""
    per_route = size.operations // size.routes
    count = min(most, max(size.routes, len(keys), size.operations))
    found = []
    for n in range(count):
        route, operation = n % size.routes, (n // size.routes) % per_route
        found.append((f"/api{route}/v1{_template(operation).replace('{id}', str(n))}", keys[n % len(keys)]))
    return found


def _template(number: int) -> str:
    again, which = divmod(number, len(_PATHS))
    return f"/more{again}{_PATHS[which]}" if again else _PATHS[(which + 1) % len(_PATHS)]


def prefixes(size: Size) -> list[tuple[str, str]]:
    """For who routes by prefixes: every route with the constant start of each of its operations, shortest first."""
    starts = sorted({_template(number).partition("{")[0] for number in range(size.operations // size.routes)})
    return [(f"/api{route}/v1", start) for route in range(size.routes) for start in starts]


def write_replica(path: Path, upstream_port: int, keys: list[str], size: Size = USUAL) -> None:
    """The replica that an agent would have left."""
    writer = ReplicaWriter(path)
    rebuild = writer.rebuild()
    numbered = enumerate(documents(upstream_port, keys, size), start=1)
    last = 0
    while batch := [
        Change(number, snapshot.KIND_OF[type(document)], document.key, snapshot.dump(document).decode())
        for number, document in islice(numbered, _BATCH)
    ]:
        rejected = rebuild.add(batch)
        assert not rejected, rejected
        last = batch[-1].sequence
    rebuild.finish(Mark(UUID(int=1), last))
    writer.close()


def documents(upstream_port: int, keys: list[str], size: Size) -> Iterator[snapshot.Document]:
    limits = (snapshot.LimitDocument(1, "rate", 10**9, "minute"), snapshot.LimitDocument(2, "quota", 10**12, "month"))
    yield snapshot.PlanDocument(1, "Bench", limits)
    per_route = size.operations // size.routes
    for n in range(size.routes):
        operations = tuple(
            snapshot.OperationDocument(n * per_route + number + 1, "GET", _template(number))
            for number in range(per_route)
        )
        operations += (
            snapshot.OperationDocument(size.operations + 2 * n + 1, "GET", "/big"),
            snapshot.OperationDocument(size.operations + 2 * n + 2, "PUT", "/upload"),
        )
        upstream = snapshot.UpstreamDocument(f"http://127.0.0.1:{upstream_port}/base")
        base = f"/api{n}/v1"
        yield snapshot.RouteDocument("", base, n + 1)
        yield snapshot.VersionDocument(
            n + 1,
            n + 1,
            1,
            "v1",
            "published",
            base,
            upstream,
            product_ids=(1,),
            operations=operations,
            max_body_bytes=1024**3,
        )
    for n in range(size.applications):
        subscription = snapshot.SubscriptionDocument(n + 1, 1, 1)
        yield snapshot.ApplicationDocument(n + 1, 1, f"app {n}", subscriptions=(subscription,))
    for n, key in enumerate(keys):
        digest = credentials.digest_key(key.encode(), PEPPER.encode()).hex()
        yield snapshot.CredentialDocument(n + 1, n % size.applications + 1, digest)
