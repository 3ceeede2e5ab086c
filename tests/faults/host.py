"""What a host can run out of, in small: disks and memory of a size of our own. Needs root and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil


class NotHere(Exception):
    """This host does not let us; the message says what it lacks.

    Only what no installation can mend: anything else that goes wrong is an error, and fails the fault.
    """


_FORBIDDEN = re.compile("permission|not permitted|superuser", re.IGNORECASE)
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT}  # the last: none are mounted


class Disk:
    """A file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", self.path], check=True)

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as filler, suppress(OSError):
            for size in (1 << 20, 4096):
                with suppress(OSError):
                    while True:
                        filler.write(bytes(size))

    def free(self) -> None:
        (self.path / "filler").unlink()


@contextmanager
def disk(path: Path, size: str) -> Iterator[Disk]:
    path.mkdir(parents=True, exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "apimgr-faults", str(path)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    if done.returncode and _FORBIDDEN.search(done.stderr):
        raise NotHere("leave to mount a file system: that takes root, and a container that lets it")
    assert not done.returncode, done.stderr
    try:
        yield Disk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


class MemoryGroup:
    """A control group below our own, so that it never allows for more than that does."""

    def __init__(self, path: Path, limit: Path) -> None:
        self.path = path
        self._limit = limit

    @property
    def entry(self) -> str:
        """What a shell does to run in it."""
        return f"echo $$ > {self.path}/cgroup.procs"

    def limit(self, size: int) -> None:
        self._limit.write_text(str(size))

    @property
    def kills(self) -> int:
        """How often the kernel killed somebody here."""
        events = self.path / "memory.events"
        text = (events if events.exists() else self.path / "memory.oom_control").read_text()
        found = re.search(r"^oom_kill (\d+)$", text, re.MULTILINE)
        return int(found[1]) if found else 0

    @contextmanager
    def hog(self, victim: psutil.Process) -> Iterator[None]:
        """Somebody in the group takes memory until there is none, and ``victim`` is whom the kernel kills for it."""
        Path(f"/proc/{victim.pid}/oom_score_adj").write_text("1000")
        program = "import time\nheld = []\nwhile True:\n held.append(bytearray(b'x') * (1 << 20)); time.sleep(0.002)"
        process = subprocess.Popen(["sh", "-c", f'{self.entry} && exec "$0" -c "$1"', sys.executable, program])
        try:
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def memory_group() -> Iterator[MemoryGroup]:
    """Of control groups version 1 or 2, whichever rules memory here."""
    groups = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    if "memory" in groups:
        parent, name = Path("/sys/fs/cgroup/memory" + groups["memory"]), "memory.limit_in_bytes"
    else:
        parent, name = Path("/sys/fs/cgroup" + groups.get("", "/")), "memory.max"
    path = parent / f"apimgr-faults-{os.getpid()}"
    try:
        path.mkdir()
    except OSError as error:
        if error.errno not in _NOT_OURS:
            raise
        raise NotHere("control group to make one in: that takes root, and a container that lets it") from error
    try:
        if not os.access(path / name, os.W_OK):
            raise NotHere("control group that rules memory")
        yield MemoryGroup(path, path / name)
    finally:
        for _ in range(100):  # until the last process in it is reaped
            with suppress(OSError):
                path.rmdir()
                break
            time.sleep(0.1)
