"""What every benchmark of the gateway needs: processes on cores of their own, load, and what both cost."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 64
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
    """A gateway that is running. ``pids`` are the processes whose CPU and memory count."""

    name: str
    port: int
    pids: tuple[int, ...]


def require(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            raise Unavailable(f"{program} is not installed. On Debian: apt-get install -y nginx-light wrk util-linux")


def split_cores() -> tuple[str, str]:
    """One core for the gateway that is measured, the rest for load and upstream."""
    cores = sorted(os.sched_getaffinity(0))
    return str(cores[-1]), ",".join(map(str, cores[:-1] or cores))


def load_script(path: Path, calls: list[tuple[str, str]]) -> Path:
    """A wrk script that makes ``calls`` (path, key) one after the other, for ever."""
    written = ",\n".join(f'wrk.format("GET", "{target}", {{["X-Api-Key"]="{key}"}})' for target, key in calls)
    path.write_text(
        f"""
        local calls, at = {{}}, 0
        init = function() calls = {{ {written} }} end
        request = function() at = at % {len(calls)} + 1; return calls[at] end
        done = function(summary, latency)
            local errors = summary.errors
            print(string.format("RESULT %d %d %d %d %d", summary.requests, summary.duration, latency:percentile(50),
                latency:percentile(99), errors.connect + errors.read + errors.write + errors.status + errors.timeout))
        end
        """
    )
    return path


def measure(contestant: Contestant, script: Path, cores: str, seconds: int, connections: int = CONNECTIONS) -> Round:
    before = cpu_seconds(contestant.pids)
    output = subprocess.run(
        ["taskset", "-c", cores, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script),
         f"http://127.0.0.1:{contestant.port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    user, system = (after - start for after, start in zip(cpu_seconds(contestant.pids), before, strict=True))
    found = re.search(r"RESULT (\d+) (\d+) (\d+) (\d+) (\d+)", output)
    assert found, output
    calls, duration_us, p50_us, p99_us, errors = map(int, found.groups())
    assert not errors, f"{contestant.name}: {errors} calls failed"
    used = user + system
    return Round(
        used * 1e6 / calls,
        calls * 1e6 / duration_us,
        p50_us / 1e3,
        p99_us / 1e3,
        rss_mb(contestant.pids),
        system / used if used else 0.0,
    )


def cpu_seconds(pids: tuple[int, ...]) -> tuple[float, float]:
    """In the processes' own code, and in the kernel for them."""
    user = system = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system = user + int(fields[11]), system + int(fields[12])
    return user / TICKS, system / TICKS


def rss_mb(pids: tuple[int, ...]) -> float:
    """Memory of the processes' own, and code. Pages of the replica are left out: all workers map the page cache's."""
    return sum(_resident(pid, "RssAnon") + _code(pid) for pid in pids) / 1024


def own_mb(pids: tuple[int, ...]) -> float:
    """Memory of the processes' own alone, which is quick to look at."""
    return sum(_resident(pid, "RssAnon") for pid in pids) / 1024


def _resident(pid: int, part: str) -> int:
    found = re.search(rf"^{part}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0


def _code(pid: int) -> int:
    """Resident kB of mapped programs and libraries."""
    total, counts = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Rss:"):
            total += int(line.split()[1]) if counts else 0
        elif "-" in line.partition(" ")[0]:
            name = line.split()[-1]
            counts = name.startswith("/") and not name.endswith((".mdb", ".spool", "/stats", ".quota", "/table"))
    return total


@contextmanager
def process(command: list[str], **options: object) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen(command, **options)  # type: ignore[call-overload]
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()
        if started.stdout is not None:
            started.stdout.close()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"nothing listens on port {port}")
