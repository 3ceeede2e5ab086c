"""A Redis of the test's own, on a Unix socket: started, killed, frozen and emptied as the test likes."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.here import NO_REDIS, do_without

PATIENCE = 60.0


class RedisServer:
    """``durable`` has it write each command down, so that it comes back with all it knew."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        if program is None:
            do_without(NO_REDIS)
        folder.mkdir(parents=True, exist_ok=True)
        self._command = [
            program, "--port", "0", "--unixsocket", str(folder / "redis.sock"), "--dir", str(folder), "--save", "",
            "--appendonly", "yes" if durable else "no", "--appendfsync", "always",
        ]  # fmt: skip
        self.url = f"unix://{folder / 'redis.sock'}"
        self.client = Redis.from_url(self.url, socket_timeout=PATIENCE)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        give_up_at = time.monotonic() + PATIENCE
        while not self._answers():
            assert time.monotonic() < give_up_at, "Redis did not start"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except (RedisError, OSError):
            return False

    def cpu_seconds(self) -> float:
        used: dict[str, float] = self.client.info("cpu")  # type: ignore[assignment]
        return used["used_cpu_user"] + used["used_cpu_sys"]

    def kill(self) -> None:
        self._process.send_signal(signal.SIGCONT)
        self._process.kill()
        self._process.wait(PATIENCE)
        self.client.close()

    def freeze(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def empty(self) -> None:
        self.client.flushall()

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis")
    yield server
    server.close()
