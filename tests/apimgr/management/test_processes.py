"""Processes that live and die together."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import psutil
import pytest

from apimgr.env import BASE_DIR
from apimgr.management.demo.processes import ProcessFailed, ProcessGroup
from tests.stack import has_ended

pytestmark = pytest.mark.processes
SLEEPER = (sys.executable, "-c", "print('awake'); import time; time.sleep(60)")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def test_what_they_print_is_prefixed_with_who_says_it() -> None:
    out = io.StringIO()
    ProcessGroup({"GREETING": "hello"}, out=out).run(
        "greeter", sys.executable, "-c", "import os; print(os.environ['GREETING'])"
    )
    wait_until(lambda: out.getvalue().endswith("\n"))
    assert out.getvalue() == "greeter  | hello\n"


def test_a_step_that_fails_shows_its_last_words() -> None:
    group = ProcessGroup({}, out=io.StringIO())
    with pytest.raises(ProcessFailed, match=r"step ended with exit code 3:\nno luck"):
        group.run("step", sys.executable, "-c", "print('no luck'); raise SystemExit(3)")


def test_waiting_ends_when_one_of_them_ends() -> None:
    group = ProcessGroup({}, out=io.StringIO())
    group.start("short", sys.executable, "-c", "raise SystemExit(1)")
    with pytest.raises(ProcessFailed, match="short ended"):
        group.wait_until("Never", lambda: False, 60)
    group.stop()


def test_stop_leaves_nobody_not_even_who_ignores_it() -> None:
    group = ProcessGroup({}, out=io.StringIO())
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake'); time.sleep(60)"
    processes = [
        group.start("mild", *SLEEPER),
        group.start("stubborn", sys.executable, "-c", stubborn),
        group.start("family", "sh", "-c", "sleep 60 & echo awake; wait"),
    ]
    for process in processes:
        wait_until(lambda process=process: bool(process.last_words))
    family = [psutil.Process(process.popen.pid) for process in processes]
    family += [child for process in family for child in process.children(recursive=True)]
    group.stop(seconds=1)
    assert psutil.wait_procs(family, timeout=30)[1] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel must tell the children")
def test_kill_9_of_the_parent_takes_the_children_along() -> None:
    script = (
        "import sys, time; from apimgr.management.demo.processes import ProcessGroup; group = ProcessGroup({});"
        f"print(group.start('child', *{SLEEPER!r}).popen.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=BASE_DIR, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        child = psutil.Process(int(parent.stdout.readline()))
        wait_until(lambda: "awake" in (parent.stdout.readline() if parent.stdout else ""))
        os.kill(parent.pid, signal.SIGKILL)
    wait_until(lambda: has_ended(child))
