"""docker-compose.yml, read as compose reads it, and each service's command run for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import yaml

from apimgr.env import BASE_DIR
from tests.here import NO_REDIS, do_without
from tests.stack import kept_ports

FILE = BASE_DIR / "docker-compose.yml"
SECRETS = ("POSTGRES_PASSWORD", "APIMGR_SECRET_KEY", "APIMGR_KEY_PEPPER", "APIMGR_GATEWAY_ADMIN_TOKEN")
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def test_the_processes_of_the_platform() -> None:
    assert set(SERVICES) == {"db", "redis", "migrate", "web", "worker", "beat", "gateway", "edge"}
    ours = {name for name, service in SERVICES.items() if service.get("image") == "apimgr"}
    assert ours == {"migrate", "web", "worker", "beat", "gateway"}


def test_every_volume_and_dependency_is_declared() -> None:
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", ())) <= set(SERVICES), name
        assert {volume.split(":")[0] for volume in service.get("volumes", ())} <= set(COMPOSE["volumes"]), name


def test_only_the_gateway_and_the_edge_are_open_to_others() -> None:
    published = {(name, port) for name, service in SERVICES.items() for port in service.get("ports", ())}
    public = {(name, port) for name, port in published if not port.startswith("127.0.0.1:")}
    assert public == {("gateway", "8080:8080"), ("edge", "80:80")}


def test_there_are_no_default_secrets() -> None:
    text = FILE.read_text()
    for name in SECRETS:
        assert re.search(rf"\$\{{{name}:\?", text), f"{name} must be required"
        assert not re.search(rf"\$\{{{name}(:?-|\}})", text), f"{name} must have no default"


def test_containers_get_few_privileges() -> None:
    for name in ("web", "worker", "beat", "gateway"):
        service = SERVICES[name]
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_the_image_runs_as_nobody_special_and_copies_what_runs() -> None:
    text = (BASE_DIR / "Dockerfile").read_text()
    assert re.search(r"^USER apimgr$", text, re.MULTILINE)
    assert "--require-hashes" in text
    for source in re.findall(r"^COPY (?!--)(\S+)", text, re.MULTILINE):
        assert (BASE_DIR / source).exists(), source
    assert "ADD " not in text


# --- Each command, for real -----------------------------------------------------------------------------------------
PLAIN = re.compile(r"\$\{(\w+)(?::-([^}]*)|:\?[^}]*)?\}")


def value(text: str, given: dict[str, str]) -> str:
    """Compose's interpolation, as far as our file uses it."""
    return PLAIN.sub(lambda match: given.get(match[1]) or match[2] or "", str(text))


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Any:
    server = shutil.which("valkey-server") or shutil.which("redis-server")
    if server is None:
        do_without(NO_REDIS)
    folder = tmp_path_factory.mktemp("redis")
    with ExitStack() as stack:
        [port] = stack.enter_context(kept_ports(1))
        # The options compose gives it, on a port of our own.
        command = [server, *SERVICES["redis"]["command"][1:], "--port", str(port), "--bind", "127.0.0.1"]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder))
        yield f"redis://127.0.0.1:{port}/0"
        process.terminate()


class Container:
    """A service's command with its environment; what names other containers or all interfaces is made ours."""

    def __init__(self, name: str, database_url: str, redis_url: str, folder: Path, ports: list[int]) -> None:
        self.name, self.service = name, SERVICES[name]
        self.ports = dict(zip(("8000", "8080", "8081"), map(str, ports), strict=True))
        given = dict.fromkeys(SECRETS, "a-secret-for-this-test-that-is-long-enough")
        environment = {key: value(text, given) for key, text in self.service["environment"].items()}
        environment |= {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "APIMGR_VAR": str(folder)}
        self.environment = {key: self._local(text) for key, text in environment.items()}
        self.log = folder / f"{name}.log"

    def _local(self, text: str) -> str:
        return re.sub(r"^0\.0\.0\.0:(\d+)$", lambda match: f"127.0.0.1:{self.ports[match[1]]}", text)

    def start(self) -> subprocess.Popen[bytes]:
        program, *arguments = [self._local(part) for part in self.service["command"]]
        binary = Path(sys.executable).parent / program
        environment = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **self.environment}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [str(binary), *arguments], cwd=BASE_DIR, env=environment, stdout=log, stderr=subprocess.STDOUT
            )

    def said(self) -> str:
        return self.log.read_text(errors="replace")


@pytest.fixture
def container(fresh_database: str, redis_url: str, tmp_path: Path) -> Iterator[Callable[[str], Container]]:
    with ExitStack() as stack:
        yield lambda name: Container(name, fresh_database, redis_url, tmp_path, stack.enter_context(kept_ports(3)))


@pytest.mark.processes
@pytest.mark.timeout(300)
def test_each_command_runs(container: Callable[[str], Container], fresh_database: str, tmp_path: Path) -> None:
    """In one go, as they need each other: migrate first, the others beside each other."""
    (tmp_path / "static").mkdir()

    migrate = container("migrate")
    assert migrate.start().wait(120) == 0, migrate.said()
    with psycopg.connect(fresh_database) as connection:
        assert connection.execute("SELECT count(*) FROM django_migrations").fetchone() != (0,)

    web, gateway, worker, beat = (container(name) for name in ("web", "gateway", "worker", "beat"))
    running = [each.start() for each in (web, gateway, worker, beat)]
    try:
        until(lambda: answers(f"http://127.0.0.1:{web.ports['8000']}/healthz"), web)
        until(lambda: answers(f"http://127.0.0.1:{gateway.ports['8081']}/health"), gateway)
        # What beat sends through Redis, the worker does.
        until(lambda: "analytics.roll_up" in beat.said(), beat)
        until(lambda: re.search(r"analytics\.tasks\.roll_up\[.*succeeded", worker.said()), worker)
    finally:
        for process in running:
            process.terminate()
        codes = [process.wait(60) for process in running]
    assert codes == [0, 0, 0, 0], [each.said()[-2_000:] for each in (web, gateway, worker, beat)]


def until(condition: Any, container: Container, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{container.name} did not come up:\n{container.said()[-3_000:]}"
        time.sleep(0.2)


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=10, trust_env=False, headers={"Host": "localhost"}).is_success
    except httpx.HTTPError:
        return False
