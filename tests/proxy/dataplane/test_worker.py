"""A worker process as the supervisor starts it: real replica, real spool, real signals."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from apimgr.contracts import credentials, usage
from proxy.dataplane import stats
from tests.bench import world as bench
from tests.stack import DIRECTLY

pytestmark = pytest.mark.processes


class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path.endswith("/slow"):
            self.server.asked.set()  # type: ignore[attr-defined]
            time.sleep(1)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def asked() -> threading.Event:
    """Set once the upstream was asked for what is slow."""
    return threading.Event()


@pytest.fixture
def upstream(asked: threading.Event) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    server.asked = asked  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()
    thread.join()


def call(port: int, path: str, key: str) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"X-Api-Key": key})
    with DIRECTLY.open(request, timeout=20) as reply:
        body: bytes = reply.read()
        return body


def records(spool: Path) -> list[usage.UsageRecord]:
    return [record for path in spool.glob("*/*.spool") for _, record in usage.decode(path.read_bytes())]


def test_a_worker_serves_records_and_drains(tmp_path: Path, upstream: int, asked: threading.Event) -> None:
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
        assert asked.wait(20)
        process.send_signal(signal.SIGTERM)
        calling.join()
        assert slow == [b"ok"], "the call in flight was finished"
        assert process.wait(20) == 0
    assert sorted(record.api_id for record in records(tmp_path / "gateway" / "spool")) == [2, 3]
    (counted,) = stats.StatsReader(next((tmp_path / "gateway" / "spool").glob("*/stats"))).read()
    assert (counted.counts["requests"], counted.counts["spooled"], counted.counts["connections"]) == (2, 2, 0)


def test_a_worker_is_told_what_it_may_call(tmp_path: Path, upstream: int) -> None:
    """Of the environment it is given; without a word from the operator loopback is closed."""
    keys = [credentials.generate_key("test").secret]
    bench.write_replica(tmp_path / "gateway" / "replica", upstream, keys)
    environment = {**os.environ, "APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": bench.PEPPER, "DATABASE_URL": ""}
    environment |= {"APIMGR_GATEWAY_LISTEN": "127.0.0.1:0", "APIMGR_NODE_NAME": "test"}
    command = [sys.executable, "-m", "tests.bench.serve"]
    for told, status in (
        ({"APIMGR_EGRESS_ALLOW": "10.0.0.0/8"}, 502),
        ({"APIMGR_EGRESS_ALLOW": "127.0.0.1", "APIMGR_GATEWAY_OWN_PORTS": f"0.0.0.0:{upstream}"}, 502),
        ({"APIMGR_EGRESS_ALLOW": "127.0.0.1", "APIMGR_GATEWAY_OWN_PORTS": f"192.0.2.1:{upstream}"}, 200),
    ):
        with subprocess.Popen(command, env=environment | told, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            if status == 200:
                assert call(port, "/api0/v1/items/1", keys[0]) == b"ok"
            else:
                with pytest.raises(urllib.error.HTTPError) as caught:
                    call(port, "/api0/v1/items/1", keys[0])
                assert (caught.value.code, json.load(caught.value)["code"]) == (status, "upstream_forbidden")
            process.terminate()
            assert process.wait(20) == 0
