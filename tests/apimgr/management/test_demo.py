"""`make demo`, from the command to the last process gone."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from apimgr import postgres
from apimgr.env import BASE_DIR
from apimgr.management.demo.stack import Ports, ensure_upstream
from tests.stack import kept_ports, ports_environment

pytestmark = [pytest.mark.processes, pytest.mark.timeout(300)]
DEMO = (sys.executable, "manage.py", "demo", "--days", "1")


def environment(var: Path, ports: Ports) -> dict[str, str]:
    given = {name: value for name, value in os.environ.items() if name not in {"DATABASE_URL", "REDIS_URL"}}
    return {**given, **ports_environment(ports), "APIMGR_VAR": str(var)}


def test_a_busy_port_is_said_before_anything_starts(tmp_path: Path) -> None:
    with socket.socket() as taken, kept_ports(3) as (web, admin, upstream):
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = Ports(web, port, admin, upstream)
        done = subprocess.run(
            DEMO, cwd=BASE_DIR, env=environment(tmp_path, ports), capture_output=True, text=True, check=False
        )
    assert done.returncode == 1
    assert f"Port {port} for the gateway is busy" in done.stderr
    assert "set APIMGR_GATEWAY_PORT to another one" in done.stderr
    assert not (tmp_path / "postgres").exists()


@pytest.fixture
def ports() -> Iterator[Ports]:
    with kept_ports(4) as ports:
        yield Ports(*ports)


def test_it_starts_answers_and_leaves_nothing(tmp_path: Path, ports: Ports) -> None:
    missing = ensure_upstream()
    if missing:
        pytest.fail(missing)
    log = tmp_path / "log"
    with log.open("w") as output:
        demo = subprocess.Popen(
            DEMO, cwd=BASE_DIR, env=environment(tmp_path, ports), stdout=output, stderr=subprocess.STDOUT
        )
    try:
        until_ready(demo, log)
        told = json.loads((tmp_path / "demo.json").read_text())
        answer = httpx.get(told["call_url"], headers={"X-Api-Key": told["api_key"]}, trust_env=False, timeout=30)
        assert answer.status_code == 200
        assert answer.json()["url"].endswith("/get")
        family = psutil.Process(demo.pid).children(recursive=True)
        server = postgres.embedded(tmp_path / "postgres").process()
        assert server is not None
        demo.send_signal(signal.SIGINT)
        assert demo.wait(60) == 0
        assert psutil.wait_procs([*family, server], timeout=30)[1] == []
    finally:
        demo.kill()
        demo.wait()
        postgres.embedded(tmp_path / "postgres").remove()


def until_ready(demo: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 180
    while "All of this is in" not in log.read_text():
        assert demo.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)
