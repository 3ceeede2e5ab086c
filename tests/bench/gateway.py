"""The gateway against nginx doing the same, in one run: who needs how much CPU for a call.

Both check one of 100 keys, route to one of 100 APIs, apply a limit that is not reached, call the same upstream over
kept connections and record each call. Each is pinned to one core; load and upstream have the rest. Rounds alternate, so
that a busy machine is unfair to both alike. CPU is utime + stime of the gateway's processes over the calls they
answered.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from uuid import UUID

from apimgr.contracts import credentials, snapshot
from proxy.dataplane.replica.writer import Change, Mark, ReplicaWriter

COUNT = 100  # routes, and keys
CONNECTIONS = 64
PEPPER = "benchmark-pepper-benchmark-pepper"
BODY = json.dumps({"items": [{"id": n, "name": f"item {n}", "price": n * 100} for n in range(24)], "pad": "x" * 60})
TICKS = os.sysconf("SC_CLK_TCK")


class Unavailable(RuntimeError):
    """A program that the benchmark needs is not installed."""


@dataclass(frozen=True)
class Round:
    cpu_us: float
    rate: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    in_kernel: float


@dataclass(frozen=True)
class Contestant:
    """A gateway that is running."""

    name: str
    port: int
    pids: tuple[int, ...]


def run(rounds: int = 3, seconds: int = 4) -> None:
    """Measure and print the table."""
    for program in ("nginx", "wrk", "taskset"):
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed. On Debian: apt-get install -y nginx-light wrk util-linux")
    cores = sorted(os.sched_getaffinity(0))
    gateway_core, other_cores = cores[-1], ",".join(map(str, cores[:-1] or cores))
    keys = [credentials.generate_key("bench").secret for _ in range(COUNT)]
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        upstream_port = stack.enter_context(_nginx(home / "upstream", _upstream_config, other_cores)).port
        contestants = [
            stack.enter_context(
                _nginx(home / "nginx", lambda port: _gateway_config(port, upstream_port, keys), str(gateway_core))
            ),
            stack.enter_context(_apimgr(home / "apimgr", upstream_port, keys, gateway_core)),
        ]
        script = _load_script(home / "load.lua", keys)
        for contestant in contestants:
            _check(contestant, keys)
            _measure(contestant, script, other_cores, 1)
        results: dict[str, list[Round]] = {contestant.name: [] for contestant in contestants}
        for _ in range(rounds):
            for contestant in contestants:
                results[contestant.name].append(_measure(contestant, script, other_cores, seconds))
    _print(results)


# --- the contestants ------------------------------------------------------------------------------------------------


@contextmanager
def _nginx(home: Path, config: object, cores: str) -> Iterator[Contestant]:
    home.mkdir()
    port = _free_port()
    (home / "nginx.conf").write_text(config(port))  # type: ignore[operator]
    command = ["taskset", "-c", cores, "nginx", "-p", str(home), "-c", str(home / "nginx.conf"), "-e", "stderr"]
    with _process(command) as process:
        _wait_for(port)
        yield Contestant("nginx", port, (process.pid, *_children(process.pid)))


def _upstream_config(port: int) -> str:
    return f"""
        daemon off; pid upstream.pid; worker_processes 1; error_log stderr crit;
        events {{ worker_connections 4096; }}
        http {{
            access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; default_type application/json;
            server {{ listen 127.0.0.1:{port}; location / {{ return 200 '{BODY}'; }} }}
        }}
    """


def _gateway_config(port: int, upstream_port: int, keys: list[str]) -> str:
    known = "\n".join(f'"{key}" client{number};' for number, key in enumerate(keys))
    locations = "\n".join(
        f"location /api{number}/v1/ {{ proxy_pass http://upstream/base/; }}" for number in range(COUNT)
    )
    return f"""
        daemon off; pid nginx.pid; worker_processes 1; error_log stderr crit;
        events {{ worker_connections 4096; }}
        http {{
            map_hash_bucket_size 128;
            map $http_x_api_key $client {{ default ""; {known} }}
            limit_req_zone $client zone=plan:10m rate=1000000r/s;
            log_format usage escape=json '{{"id":"$request_id","at":"$msec","client":"$client","uri":"$uri",'
                '"method":"$request_method","status":$status,"in":$request_length,"out":$body_bytes_sent,'
                '"took":$request_time,"upstream":"$upstream_response_time","address":"$remote_addr"}}';
            access_log {port}.log usage buffer=64k flush=1s;
            keepalive_requests 1000000000; keepalive_timeout 3600s;
            upstream upstream {{ server 127.0.0.1:{upstream_port}; keepalive 128; keepalive_requests 1000000000; }}
            server {{
                listen 127.0.0.1:{port};
                if ($client = "") {{ return 401; }}
                limit_req zone=plan burst=1000 nodelay;
                proxy_http_version 1.1;
                proxy_set_header Connection "";
                proxy_set_header X-Api-Key "";
                proxy_set_header X-Request-Id $request_id;
                proxy_set_header X-Forwarded-For $remote_addr;
                add_header X-Request-Id $request_id;
                {locations}
            }}
        }}
    """


@contextmanager
def _apimgr(home: Path, upstream_port: int, keys: list[str], core: int) -> Iterator[Contestant]:
    home.mkdir()
    environment = {
        **os.environ,
        "APIMGR_VAR": str(home),
        "APIMGR_KEY_PEPPER": PEPPER,
        "APIMGR_GATEWAY_LISTEN": "127.0.0.1:0",
        "APIMGR_NODE_NAME": "bench",
        "DATABASE_URL": "",
    }
    write_replica(home / "gateway" / "replica", upstream_port, keys)
    command = ["taskset", "-c", str(core), sys.executable, "-m", "tests.bench.serve"]
    with _process(command, env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        _wait_for(port)
        yield Contestant("apimgr", port, (process.pid,))


def write_replica(path: Path, upstream_port: int, keys: list[str]) -> None:
    """The replica that an agent would have left."""
    writer = ReplicaWriter(path)
    rebuild = writer.rebuild()
    documents = enumerate(_documents(upstream_port, keys), start=1)
    changes = [
        Change(number, snapshot.KIND_OF[type(document)], document.key, snapshot.dump(document).decode())
        for number, document in documents
    ]
    rejected = rebuild.add(changes)
    assert not rejected, rejected
    rebuild.finish(Mark(UUID(int=1), len(changes)))
    writer.close()


def _documents(upstream_port: int, keys: list[str]) -> Iterator[snapshot.Document]:
    operations = tuple(
        snapshot.OperationDocument(n + 1, "GET", path)
        for n, path in enumerate(("/items", "/items/{id}", "/items/{id}/parts", "/people/{id}", "/status"))
    )
    limits = (snapshot.LimitDocument(1, "rate", 10**9, "minute"), snapshot.LimitDocument(2, "quota", 10**12, "month"))
    yield snapshot.PlanDocument(1, "Bench", limits)
    for n in range(COUNT):
        upstream = snapshot.UpstreamDocument(f"http://127.0.0.1:{upstream_port}/base")
        base = f"/api{n}/v1"
        yield snapshot.RouteDocument("", base, n + 1)
        yield snapshot.VersionDocument(
            n + 1, n + 1, 1, "v1", "published", base, upstream, product_ids=(1,), operations=operations
        )
    for n, key in enumerate(keys):
        subscription = snapshot.SubscriptionDocument(n + 1, 1, 1)
        yield snapshot.ApplicationDocument(n + 1, 1, f"app {n}", subscriptions=(subscription,))
        digest = credentials.digest_key(key.encode(), PEPPER.encode()).hex()
        yield snapshot.CredentialDocument(n + 1, n + 1, digest)


# --- the measurement ------------------------------------------------------------------------------------------------


def _load_script(path: Path, keys: list[str]) -> Path:
    calls = ",\n".join(
        f'wrk.format("GET", "/api{n}/v1/items/{n}", {{["X-Api-Key"]="{key}"}})' for n, key in enumerate(keys)
    )
    path.write_text(
        f"""
        local calls, at = {{}}, 0
        init = function() calls = {{ {calls} }} end
        request = function() at = at % {COUNT} + 1; return calls[at] end
        done = function(summary, latency)
            local errors = summary.errors
            print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration, latency:percentile(50),
                latency:percentile(99), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
        end
        """
    )
    return path


def _check(contestant: Contestant, keys: list[str]) -> None:
    url = f"http://127.0.0.1:{contestant.port}/api7/v1/items/7"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-Api-Key": keys[3]}), timeout=5) as reply:
        assert reply.read().decode() == BODY, f"{contestant.name} does not relay"
    status = _status(url)
    assert status == 401, f"{contestant.name} answers {status} to a call without a key"


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def _measure(contestant: Contestant, script: Path, cores: str, seconds: int) -> Round:
    before = _cpu_seconds(contestant.pids)
    output = subprocess.run(
        ["taskset", "-c", cores, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script),
         f"http://127.0.0.1:{contestant.port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    user, system = (after - start for after, start in zip(_cpu_seconds(contestant.pids), before, strict=True))
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert found, output
    calls, duration_us, p50_us, p99_us, errors = map(int, found.groups())
    assert not errors, f"{contestant.name}: {errors} calls failed"
    used, rss = user + system, _rss_mb(contestant.pids)
    return Round(used * 1e6 / calls, calls * 1e6 / duration_us, p50_us / 1e3, p99_us / 1e3, rss, system / used)


def _cpu_seconds(pids: tuple[int, ...]) -> tuple[float, float]:
    """In the processes' own code, and in the kernel for them."""
    user = system = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICKS, system / TICKS


def _rss_mb(pids: tuple[int, ...]) -> float:
    pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids)
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _print(results: dict[str, list[Round]]) -> None:
    print(f"\n1 KB JSON, {CONNECTIONS} kept connections, {COUNT} routes, {COUNT} keys, limits, a record of each call;")
    print("each gateway on one core, rounds alternating, medians:\n")
    columns = (
        ("CPU µs/call", 13),
        ("calls/s", 11),
        ("p50 ms", 9),
        ("p99 ms", 9),
        ("RSS MB", 9),
        ("kernel", 9),
        ("× nginx", 9),
    )
    print(" " * 10 + "".join(f"{title:>{width}}" for title, width in columns) + "   CPU µs of each round")
    base = median(entry.cpu_us for entry in results["nginx"])
    for name, entries in results.items():
        cpu, rate, p50, p99, rss, kernel = (
            median(getattr(entry, part) for entry in entries)
            for part in ("cpu_us", "rate", "p50_ms", "p99_ms", "rss_mb", "in_kernel")
        )
        each = " ".join(f"{entry.cpu_us:.1f}" for entry in entries)
        print(f"{name:10}{cpu:13.1f}{rate:11,.0f}{p50:9.2f}{p99:9.2f}{rss:9.1f}{kernel:9.0%}{cpu / base:9.2f}   {each}")


# --- processes ------------------------------------------------------------------------------------------------------


@contextmanager
def _process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")
