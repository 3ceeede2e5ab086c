"""A handful of processes that live and die together, their output in one readable log.

Every child gets SIGTERM when we end, however we end: on Linux the kernel sends it (``PR_SET_PDEATHSIG``), so that even
``kill -9`` of the parent leaves nothing behind. Children run in sessions of their own, because Ctrl-C goes to a whole
group and they should be told to stop by us, once.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import IO, Any

# Runs in the child before it becomes the command. Not a preexec_fn: that is unsafe beside our threads.
_LAUNCHER = """
import ctypes, os, sys
parent, signal, *command = sys.argv[1:]
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, int(signal))  # PR_SET_PDEATHSIG
if os.getppid() != int(parent):
    sys.exit("the parent is gone")
os.execvp(command[0], command)
"""
_COLOURS = ("36", "33", "32", "35", "34", "96", "93")
WIDTH = 9


class ProcessFailed(RuntimeError):
    """A process that ended although it should run; the message shows its last words."""


@dataclass
class Process:
    name: str
    popen: subprocess.Popen[str]
    colour: str
    last_words: list[str] = field(default_factory=list)
    relay: threading.Thread | None = None

    def hear_out(self) -> None:
        """Wait for its last words: they may still be on their way when it has ended."""
        if self.relay:
            self.relay.join(2)

    def check(self) -> None:
        if self.popen.poll() is not None:
            self.hear_out()
            words = "\n".join(self.last_words[-15:])
            raise ProcessFailed(f"{self.name} ended with exit code {self.popen.returncode}:\n{words}")


class ProcessGroup:
    """Start processes, relay what they print, stop them."""

    def __init__(self, environment: Mapping[str, str], *, out: IO[str] | None = None) -> None:
        self.environment = {**os.environ, **environment, "PYTHONUNBUFFERED": "1"}
        self.processes: list[Process] = []
        self._out = out or sys.stdout
        self._colourful = self._out.isatty() and "NO_COLOR" not in os.environ
        self._colours = itertools.cycle(_COLOURS)
        self._print = threading.Lock()

    def say(self, line: str, name: str = "demo", colour: str = "1") -> None:
        prefix = f"{name:<{WIDTH}}|"
        if self._colourful:
            prefix = f"\033[{colour}m{prefix}\033[0m"
        with self._print:
            self._out.write(f"{prefix} {line}\n")
            self._out.flush()

    def start(self, name: str, *command: str, **options: Any) -> Process:
        launcher = (sys.executable, "-ISc", _LAUNCHER, str(os.getpid()), str(int(signal.SIGTERM)))
        popen = subprocess.Popen(
            (*launcher, *command),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
            **{"stdin": subprocess.DEVNULL, **options},
        )
        process = Process(name, popen, next(self._colours))
        self.processes.append(process)
        process.relay = threading.Thread(target=self._relay, args=(process,), daemon=True)
        process.relay.start()
        return process

    def run(self, name: str, *command: str) -> None:
        """A step: run it to its end, which must be a good one."""
        process = self.start(name, *command)
        code = process.popen.wait()
        self.processes.remove(process)
        process.hear_out()
        if code:
            process.check()

    def _relay(self, process: Process) -> None:
        assert process.popen.stdout
        with process.popen.stdout as output:
            for line in output:
                process.last_words = [*process.last_words[-50:], line.rstrip()]
                self.say(line.rstrip(), process.name, process.colour)

    def check(self) -> None:
        for process in self.processes:
            process.check()

    def wait_until(self, what: str, condition: Callable[[], bool], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{what} does not answer within {seconds:.0f} s")
            time.sleep(0.1)

    def stop(self, seconds: float = 15) -> None:
        """SIGTERM to all but who waits for a pipe to close: the database goes when nobody needs it any more."""
        holders = [process for process in self.processes if process.popen.stdin]
        others = [process for process in self.processes if not process.popen.stdin]
        for process in others:
            process.popen.terminate()
        deadline = time.monotonic() + seconds
        for process in (*others, *holders):
            if process.popen.stdin:
                process.popen.stdin.close()
                deadline = time.monotonic() + seconds
            try:
                process.popen.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.say(f"{process.name} does not stop: killed")
            kill_session(process.popen)
            process.hear_out()
        self.processes.clear()


def kill_session(popen: subprocess.Popen[str]) -> None:
    """What the process left in its session, itself included."""
    try:
        os.killpg(popen.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    popen.wait()
