"""The whole platform as real processes, for journeys: what `make demo` starts, on a database and ports of its own."""

from __future__ import annotations

import io
import json
import os
import secrets
import socket
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
import pytest

from apimgr.env import BASE_DIR
from apimgr.management.demo.processes import ProcessFailed, ProcessGroup
from apimgr.management.demo.stack import MANAGE, Ports, Stack, ensure_upstream
from apimgr.postgres import Server

DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever proxy the environment names
CORPUS = BASE_DIR.parent / "shared" / "corpora" / "openapi"


@dataclass(frozen=True)
class Platform:
    """A running platform. ``demo`` is what its ``demo.json`` says; ``log`` what its processes said."""

    stack: Stack
    demo: dict[str, Any]
    log: io.StringIO

    @property
    def web(self) -> str:
        return self.stack.web_url

    @property
    def gateway(self) -> str:
        return self.stack.gateway_url

    def account(self, role: str) -> tuple[str, str]:
        account = self.demo["accounts"][role]
        return account["email"], account["password"]


@contextmanager
def kept_ports(count: int) -> Iterator[list[int]]:
    """Ports nobody has, and nobody is given meanwhile but who asks for them by number.

    Who is bound without listening keeps the system from handing a port out, but not a server that may reuse its
    address, as every server may, from listening there.
    """
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", 0))
        yield [probe.getsockname()[1] for probe in probes]


@contextmanager
def port_kept_for(server: Server) -> Iterator[None]:
    """Until the end nobody else has the port of ``server``, which is yet to be made, also while it does not run."""
    with kept_ports(1) as [port]:
        server.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        server.url_file.write_text(f"postgres://127.0.0.1:{port}/")  # it takes the port that it had before
        yield


class ServiceManager:
    """Hears at ``address`` when every worker of a gateway accepts, and listens no longer than that.

    The address is abstract (unix(7)): a path below a test's directory may be too long for a socket.
    """

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("")
        self._socket.settimeout(0)
        self.address = "@" + self._socket.getsockname()[1:].decode()
        self._was_told = False

    def was_told_that_all_accept(self) -> bool:
        with suppress(BlockingIOError):
            while not self._was_told:
                self._was_told = "READY=1" in self._socket.recv(4096).decode()
            self.close()
        return self._was_told

    def close(self) -> None:
        self._socket.close()


def has_ended(process: psutil.Process) -> bool:
    """Nothing of it runs any more, whether or not its parent has asked for its status."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # its parent asked between the two questions
        return True


@pytest.fixture(scope="session")
def fresh_database() -> Iterator[str]:
    """An empty database of its own on the server the tests use."""
    server = urlsplit(os.environ["DATABASE_URL"])
    name = f"journey_{secrets.token_hex(4)}"
    with psycopg.connect(server.geturl(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield server._replace(path=f"/{name}").geturl()
    with psycopg.connect(server.geturl(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def platform(fresh_database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    missing = ensure_upstream()
    if missing:
        pytest.fail(f"{missing} `make test` installs it, too.")
    var, log = tmp_path_factory.mktemp("var"), io.StringIO()
    with kept_ports(4) as ports:
        stack = Stack(Ports(*ports), fresh_database)
        group = ProcessGroup({**stack.environment(), **ports_environment(stack.ports), "APIMGR_VAR": str(var)}, out=log)
        try:
            for step in ("migrate", "collectstatic --no-input", "seed_demo --days 1"):
                group.run(step[:9], *MANAGE, *step.split())
            stack.start(group)
            yield Platform(stack, json.loads((var / "demo.json").read_text()), log)
        except ProcessFailed as failure:
            pytest.fail(f"{failure}\n{log.getvalue()}")
        finally:
            group.stop()


def ports_environment(ports: Ports) -> dict[str, str]:
    return {variable: str(port) for _, variable, port in ports.items()}


def corpus(name: str) -> Path:
    """A document of the corpus, or our own description of the same service where the corpus is not at hand."""
    document = CORPUS / name
    return document if document.exists() else BASE_DIR / "apimgr" / "management" / "demo" / "httpbin.yaml"
