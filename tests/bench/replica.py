"""A node and ten thousand APIs, fifty thousand operations, a million keys: first synchronisation, start, one change.

Wants a database server (``make bench`` gives one); makes a database of its own there and drops it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
from psycopg import AsyncConnection

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import CredentialDocument
from apimgr.env import BASE_DIR
from proxy.dataplane.replica.feed import Feed
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.replica.writer import ReplicaWriter
from tests.bench import peers
from tests.bench.figures import Figure
from tests.bench.measure import require, rss_mb, split_cores
from tests.bench.world import Size, documents, make_keys

_INSERT = "INSERT INTO proxy_gatewaychange (sequence, kind, key, document, created_at) VALUES (%s, %s, %s, %s, now())"


def run(keys: int = 1_000_000) -> list[Figure]:
    """Measure and print: the log of so many keys read for the first time, the worker started on it, one change."""
    require("nginx", "taskset")
    size = Size(10_000, 50_000, keys)
    secrets = make_keys(keys)
    _, others = split_cores()
    with tempfile.TemporaryDirectory(prefix="apimgr-bench-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        with peers.nginx(home / "upstream", peers.upstream_config, others) as upstream, _log() as url:
            last = _fill(url, upstream.port, secrets, size)
            print(f"\n{last:,} documents: {size.routes:,} APIs, {size.operations:,} operations, {keys:,} keys\n")
            asyncio.run(_synchronise(url, home / "gateway" / "replica", last))
            return _start(home, upstream.port, secrets)


@contextmanager
def _log() -> Iterator[str]:
    """The address of a database with an empty log, as migrations make it."""
    server, name = os.environ["DATABASE_URL"], "bench_replica"
    own = urlsplit(server)._replace(path=f"/{name}").geturl()
    drop = f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(drop)
        connection.execute(f"CREATE DATABASE {name}")
        try:
            command = [sys.executable, "manage.py", "migrate", "-v", "0"]
            subprocess.run(command, cwd=BASE_DIR, env={**os.environ, "DATABASE_URL": own}, check=True)
            yield own
        finally:
            connection.execute(drop)


def _fill(url: str, upstream_port: int, keys: list[str], size: Size) -> int:
    sequence, now = 0, datetime.now(UTC)
    with psycopg.connect(url) as connection:
        copy_in = "COPY proxy_gatewaychange (sequence, kind, key, document, created_at) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(copy_in) as copy:
            for sequence, document in enumerate(documents(upstream_port, keys, size), start=1):
                copy.write_row((sequence, *_entry(document), now))
        connection.execute("INSERT INTO proxy_changecounter (id, last) VALUES (1, %s)", (sequence,))
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE proxy_gatewaychange")
    return sequence


def _entry(document: snapshot.Document) -> tuple[str, str, str]:
    return snapshot.KIND_OF[type(document)], document.key, snapshot.dump(document).decode()


async def _synchronise(url: str, path: Path, last: int) -> None:
    writer = ReplicaWriter(path)
    feed = Feed(writer)
    async with await AsyncConnection.connect(url, autocommit=True) as connection:
        began, used = time.perf_counter(), time.process_time()
        await feed.pull(connection)
        took, cpu = time.perf_counter() - began, time.process_time() - used
        assert not feed.rejected, "every document is understood"
        held = sum(file.stat().st_blocks * 512 for file in path.rglob("*")) / 2**20
        rate = last / took
        print(f"first synchronisation   {took:8.1f} s  ({cpu:.1f} s of CPU, {rate:,.0f} documents/s, {held:.0f} MB)")
        revoked = CredentialDocument(1, 1, "00" * 32, "revoked")
        await connection.execute(_INSERT, (last + 1, *_entry(revoked)))
        await connection.execute("UPDATE proxy_changecounter SET last = %s", (last + 1,))
        began = time.perf_counter()
        await feed.pull(connection)
        print(f"one change applied      {(time.perf_counter() - began) * 1000:8.1f} ms")
    writer.close()
    began = time.perf_counter()
    reader = ReplicaReader(path)
    assert reader.ready
    assert reader.get("credential", revoked.digest) == revoked
    print(f"replica opened and read {(time.perf_counter() - began) * 1000:8.1f} ms")


def _start(home: Path, upstream_port: int, keys: list[str]) -> list[Figure]:
    core, _ = split_cores()
    began = time.perf_counter()
    with peers.apimgr(home, upstream_port, keys, core) as gateway:
        address = f"http://127.0.0.1:{gateway.port}/api0/v1/items/1"
        with urllib.request.urlopen(urllib.request.Request(address, headers={"X-Api-Key": keys[-1]})) as reply:
            assert reply.status == 200
        started = time.perf_counter() - began
        print(f"worker started, first call answered {started:8.2f} s")
        for n in range(0, len(keys), max(1, len(keys) // 20_000))[:20_000]:
            request = urllib.request.Request(address, headers={"X-Api-Key": keys[n]})
            with urllib.request.urlopen(request) as reply:
                reply.read()
        held = rss_mb(gateway.pids)
        print(f"worker's memory after calls of 20,000 keys {held:8.1f} MB")
    return [
        Figure(f"start to first answer, replica of {len(keys):,} keys", started, "s", 2),
        Figure(f"worker's memory after calls of 20,000 of {len(keys):,} keys", held, "MB", 80),
    ]


if __name__ == "__main__":
    run(*map(int, sys.argv[1:]))
