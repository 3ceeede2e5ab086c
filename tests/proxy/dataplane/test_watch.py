"""How a supervisor knows that a child stands still, and whom it kills for that."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import FileIO

import pytest

from proxy.dataplane.children import START_SECONDS, Child
from proxy.dataplane.config import ImproperConfiguration, from_environment
from proxy.dataplane.lifeline import Lifeline
from proxy.dataplane.supervisor import Supervisor
from tests.proxy.dataplane.test_supervisor import Hung, first

__all__ = ["first"]
pytestmark = pytest.mark.processes
ENVIRON = {"APIMGR_KEY_PEPPER": "p" * 32}


Pipe = tuple[FileIO, FileIO]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    reading, writing = os.pipe()
    with FileIO(reading) as reader, FileIO(writing, "w") as writer:
        yield reader, writer


def looks(child: Child, spoken: str, patience: int = 3) -> str:
    """What each look found: ``spoken`` has a ``*`` where the child spoke since the look before."""
    found = ""
    for word in spoken:
        child.spoke = word == "*"
        found += "!" if child.stands_still(patience) else "."
    return found


@pytest.mark.parametrize(
    ("spoken", "found"),
    [
        ("******", "......"),
        ("*---", "...!"),
        ("*--*--*--", "........."),  # never three in a row
        ("---", "..!"),
        ("*-----", "...!!!"),  # until somebody does something about it
    ],
)
def test_who_says_nothing_at_so_many_looks_in_a_row_stands_still(spoken: str, found: str) -> None:
    assert looks(Child("worker 0", -1, Hung(), ready_fd=0, accepts=True), spoken) == found


@pytest.mark.parametrize(
    ("child", "why"),
    [
        (Child("worker 0", -1, None, ready_fd=0, accepts=True), "it is to be started again"),
        (Child("worker 0", -1, Hung(), ready_fd=-1, accepts=True), "its program is an earlier one, which says nothing"),
        (Child("worker 0", -1, Hung(), ready_fd=0, accepts=True, stop_by=9e9), "it leaves, and has its time for that"),
    ],
)
def test_who_cannot_be_heard_or_leaves_is_not_judged(child: Child, why: str) -> None:
    assert "!" not in looks(child, "-" * 100), why


@pytest.mark.parametrize(("role", "patience"), [("worker 0", 3), ("agent", 3), ("worker 0", START_SECONDS + 7)])
def test_who_starts_is_given_time_and_twice_as_much_the_next_time(role: str, patience: int) -> None:
    child = Child(role, -1, ready_fd=0)
    for times in (1, 2, 4, 8, 16, 32, 32):
        child.begin(Hung())
        due = max(patience, START_SECONDS) * times
        assert looks(child, "-" * due, patience) == "." * (due - 1) + "!"
        child.kill_as_stalled()


def test_a_child_that_was_killed_and_hangs_in_the_kernel_is_killed_again_after_as_long() -> None:
    child = Child("worker 0", -1, Hung(), ready_fd=0, accepts=True)
    assert looks(child, "---") == "..!"
    child.kill_as_stalled()
    assert child.stood_still
    assert looks(child, "---") == "..!"
    child.begin(Hung())
    assert (child.stood_still, child.silent_looks) == (False, 0)


def test_a_word_is_heard_once_and_the_first_one_says_that_calls_are_accepted(pipe: Pipe) -> None:
    reading, writing = pipe
    child = Child("worker 0", -1, Hung(), ready_fd=reading.fileno(), stalled_starts=2)
    lifeline = Lifeline(writing.fileno())
    child.hear()
    assert (child.accepts, child.spoke) == (False, False)
    for _ in range(3):
        lifeline.say()
    child.hear()
    assert (child.accepts, child.spoke, child.stalled_starts) == (True, True, 0)
    assert not child.stands_still(1)
    child.hear()
    assert child.stands_still(1)


def test_who_ends_is_heard_no_longer_and_has_accepted_all_the_same(pipe: Pipe) -> None:
    reading, writing = pipe
    child = Child("worker 0", -1, Hung(), ready_fd=os.dup(reading.fileno()))
    Lifeline(writing.fileno()).say()
    writing.close()
    child.hear()
    child.hear()
    assert (child.accepts, child.ready_fd) == (True, -1)


def test_a_lifeline_neither_waits_nor_fails(pipe: Pipe) -> None:
    reading, writing = pipe
    lifeline = Lifeline(writing.fileno())
    for _ in range(70_000):  # more than a pipe holds: the supervisor stands still, say
        lifeline.say()
    reading.close()
    lifeline.say()
    Lifeline(None).say()


@pytest.mark.parametrize(("given", "seconds"), [("", 30), ("0", 0), ("5", 5)])
def test_how_long_a_process_may_stand_still_is_a_setting(given: str, seconds: int) -> None:
    assert from_environment({**ENVIRON, "APIMGR_GATEWAY_STALL_SECONDS": given}).stall_seconds == seconds


@pytest.mark.parametrize("wrong", ["-1", "2.5", "never", "86401"])
def test_another_than_whole_seconds_is_refused(wrong: str) -> None:
    with pytest.raises(ImproperConfiguration, match=f"APIMGR_GATEWAY_STALL_SECONDS='{wrong}' is not a whole number"):
        from_environment({**ENVIRON, "APIMGR_GATEWAY_STALL_SECONDS": wrong})


def test_looks_are_a_second_apart_and_none_is_made_up_for(
    first: Supervisor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also after an hour in which the supervisor, or the machine, stood still: that was one look."""
    now = [1000.0]
    monkeypatch.setattr("proxy.dataplane.supervisor.time.monotonic", lambda: now[0])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        reading, writing = os.pipe()
        child = Child("worker 0", -1, process, ready_fd=reading, accepts=True)
        first._children, first._watch_at = [child], 1001.0
        for passed, silent in [(0.5, 0), (0.5, 1), (0.1, 1), (0.8, 1), (0.1, 2), (3600, 3), (0.9, 3), (0.1, 4)]:
            now[0] += passed
            first._watch()
            assert child.silent_looks == silent
        now[0] += 1
        child.silent_looks = first._config.stall_seconds - 1
        with caplog.at_level(logging.ERROR):
            first._watch()
        assert process.wait() == -signal.SIGKILL
        assert f"The worker 0, process {process.pid}, has stood still for 30 s and is killed" in caplog.text
        first._children = []
        child.stop_hearing()
        os.close(writing)
