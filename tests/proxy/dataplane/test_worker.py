"""A worker process as the supervisor starts it: real replica, real spool, real signals."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from apimgr.contracts import credentials, usage
from proxy.dataplane import stats
from tests.bench import world as bench

pytestmark = pytest.mark.processes


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.endswith("/slow"):
            time.sleep(1)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def upstream() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def call(port: int, path: str, key: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"X-Api-Key": key})
    with urllib.request.urlopen(request, timeout=20) as reply:
        body: bytes = reply.read()
        return body


def records(spool: Path) -> list[usage.UsageRecord]:
    return [record for path in spool.glob("*/*.spool") for _, record in usage.decode(path.read_bytes())]


def test_a_worker_serves_records_and_drains(tmp_path: Path, upstream: int) -> None:
    keys = [credentials.generate_key("test").secret for _ in range(bench.USUAL.keys)]
    bench.write_replica(tmp_path / "gateway" / "replica", upstream, keys)
    environment = {**os.environ, "APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": bench.PEPPER}
    environment |= {"APIMGR_GATEWAY_LISTEN": "127.0.0.1:0", "APIMGR_NODE_NAME": "test", "DATABASE_URL": ""}
    environment["APIMGR_EGRESS_ALLOW"] = "127.0.0.1"
    command = [sys.executable, "-m", "tests.bench.serve"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert call(port, "/api1/v1/items/1", keys[1]) == b"ok"
        slow: list[bytes] = []
        calling = threading.Thread(target=lambda: slow.append(call(port, "/api2/v1/items/slow", keys[2])))
        calling.start()
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        calling.join()
        assert slow == [b"ok"], "the call in flight was finished"
        assert process.wait(20) == 0
    assert sorted(record.api_id for record in records(tmp_path / "gateway" / "spool")) == [2, 3]
    (counted,) = stats.StatsReader(tmp_path / "gateway" / "stats").read()
    assert (counted.counts["requests"], counted.counts["spooled"], counted.counts["connections"]) == (2, 2, 0)
