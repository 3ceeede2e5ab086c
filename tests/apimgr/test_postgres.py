"""The embedded server: private, loopback, and never a mode or owner changed that is not its own."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from apimgr import postgres
from apimgr.env import BASE_DIR
from apimgr.postgres import PostgresError, Server
from tests.stack import port_kept_for

pytestmark = pytest.mark.processes
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = postgres.embedded(tmp_path / "private" / "postgres", throwaway=True)
    (tmp_path / "private").mkdir(mode=0o700)
    yield server
    server.remove()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def test_starts_once_and_answers(server: Server) -> None:
    url = server.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("apimgr",)
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    assert server.start() == url
    server.stop()
    assert server.process() is None
    with psycopg.connect(server.start()) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)


def test_only_loopback_only_with_the_password(server: Server) -> None:
    url = server.start()
    process = server.process()
    assert process is not None
    assert {connection.laddr.ip for connection in process.net_connections() if connection.status == "LISTEN"} == {
        "127.0.0.1"
    }
    host = url.rpartition("@")[2]
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgres://apimgr:wrong@{host}")


def test_everything_is_readable_by_its_owner_alone(server: Server) -> None:
    server.start()
    assert {mode(server.folder), mode(server.home), mode(server.data)} == {0o700}
    assert {mode(server.url_file), mode(server.folder / "password"), mode(server.log)} == {0o600}
    assert not list(server.home.glob("password.initdb"))


def test_changes_no_mode_that_is_not_its_own(server: Server, tmp_path: Path) -> None:
    binary = postgres.wheel_folder() / "pginstall" / "bin" / "postgres"
    watched = [*tmp_path.parents, tmp_path, server.folder.parent, *binary.parents, binary]
    before = [(path, path.stat().st_mode, path.stat().st_uid) for path in watched]
    server.start()
    assert [(path, path.stat().st_mode, path.stat().st_uid) for path in watched] == before


def test_survives_kill_9(server: Server) -> None:
    with port_kept_for(server):
        url, process = server.start(), server.process()
        assert process is not None
        process.send_signal(signal.SIGKILL)
        wait_until(lambda: server.process() is None)
        assert server.start() == url
        psycopg.connect(url).close()


def test_a_pid_file_that_names_somebody_else_is_no_hindrance(server: Server) -> None:
    server.start()
    stale = (server.data / "postmaster.pid").read_text().split("\n", 1)[1]
    server.stop()
    (server.data / "postmaster.pid").write_text(f"{os.getpid()}\n{stale}")
    assert server.process() is None
    psycopg.connect(server.start()).close()


def test_a_half_made_data_directory_is_made_anew(server: Server) -> None:
    server.folder.mkdir()
    (server.home / "data.new").mkdir()
    psycopg.connect(server.start()).close()


def test_data_of_another_version_is_a_clear_error(server: Server) -> None:
    server.start()
    server.stop()
    (server.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresError, match=r"holds data of PostgreSQL 9, but this installation brings \d+"):
        server.start()


def test_remove_leaves_nothing(server: Server) -> None:
    server.start()
    home = server.home
    server.remove()
    assert not home.exists()
    assert not server.folder.exists()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "apimgr.postgres", *arguments]


def test_run_gives_a_command_a_server_and_its_exit_code() -> None:
    script = "import os, psycopg; psycopg.connect(os.environ['DATABASE_URL']); raise SystemExit(7)"
    done = subprocess.run(command("run", "--throwaway", "--", sys.executable, "-c", script), cwd=BASE_DIR, check=False)
    assert done.returncode == 7


def test_hold_stops_the_server_when_its_parent_dies(tmp_path: Path) -> None:
    environment = {**os.environ, "APIMGR_VAR": str(tmp_path)}
    held = subprocess.Popen(
        command("hold"), cwd=BASE_DIR, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert held.stdin
    assert held.stdout
    server = postgres.embedded(tmp_path / "postgres")
    try:
        assert held.stdout.readline() == "PostgreSQL is ready\n"
        psycopg.connect(server.url_file.read_text()).close()
        held.stdin.close()
        assert held.wait(30) == 0
        assert server.process() is None
    finally:
        held.stdout.close()
        server.remove()


@root_only
def test_as_root_it_runs_as_an_unprivileged_user(server: Server) -> None:
    server.start()
    process = server.process()
    assert process is not None
    assert process.uids().effective != 0
    assert server.home.stat().st_uid == process.uids().effective
    assert server.folder.stat().st_uid == 0


@root_only
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
@pytest.mark.skipif(
    any(not folder.stat().st_mode & 0o001 for folder in (*BASE_DIR.parents, *Path(sys.base_prefix).parents)),
    reason="others cannot read this clone, or its Python",
)
def test_an_unprivileged_user_needs_nothing_special() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 65534, 65534)
        environment = {"PATH": os.environ["PATH"], "APIMGR_VAR": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        someone = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        start = subprocess.run(
            [*someone, *command("url")], cwd=BASE_DIR, env=environment, capture_output=True, text=True
        )
        try:
            psycopg.connect(start.stdout.strip()).close()
            assert Path(folder, "postgres", "data").stat().st_uid == 65534
        finally:
            subprocess.run([*someone, *command("remove")], cwd=BASE_DIR, env=environment, check=True)
