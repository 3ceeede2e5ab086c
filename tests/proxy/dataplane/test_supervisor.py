"""What the first process does when its children, or its successor, do not do as they are told."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.dataplane import presence, supervisor
from proxy.dataplane.children import Child
from proxy.dataplane.config import ImproperConfiguration, from_environment
from proxy.dataplane.supervisor import AGENT_GRACE_SECONDS, STOP_SECONDS, CannotStart, Supervisor, claim
from tests.proxy.exhaustion import no_descriptors

pytestmark = pytest.mark.processes


class Hung(subprocess.Popen[bytes]):
    """Does not end, whatever it is told."""

    def __init__(self) -> None:
        self.kills = 0
        self.returncode = None

    def __del__(self) -> None: ...

    def poll(self) -> None:
        return None

    def send_signal(self, sig: int) -> None: ...

    def kill(self) -> None:
        self.kills += 1


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor without children of its own."""
    environ = {
        "APIMGR_VAR": str(tmp_path),
        "APIMGR_KEY_PEPPER": "p" * 32,
        "APIMGR_GATEWAY_LISTEN": "127.0.0.1:0",
        "APIMGR_GATEWAY_ADMIN_LISTEN": "127.0.0.1:0",
    }
    first = Supervisor(from_environment(environ), environ)
    agent, *workers = first._children
    first._children = []
    yield first
    first._children, first._leaving = [agent, *workers], []
    first._stop()


def test_a_home_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotStart, match=r"Not a directory\. Give it an APIMGR_VAR"):
        claim(tmp_path / "file" / "gateway")


def test_a_database_of_another_kind_is_refused_without_its_password() -> None:
    environ = {"APIMGR_KEY_PEPPER": "p" * 32, "DATABASE_URL": "mysql://user:hunter2@db/apimgr"}
    with pytest.raises(ImproperConfiguration, match="DATABASE_URL") as caught:
        from_environment(environ)
    assert "hunter2" not in str(caught.value)


def test_a_short_pepper_is_refused_as_the_web_does() -> None:
    with pytest.raises(ImproperConfiguration, match="32 to 64"):
        from_environment({"APIMGR_KEY_PEPPER": "p" * 31})


def test_the_web_s_address_is_one() -> None:
    environ = {"APIMGR_KEY_PEPPER": "p" * 32, "APIMGR_WEB_URL": "https://portal.example:8443/"}
    assert from_environment(environ).outcome_pages == "https://portal.example:8443/docs/outcomes/"
    for wrong in ("portal.example", 'https://portal.example/"', "https://portal.example/a b", "javascript://x"):
        with pytest.raises(ImproperConfiguration, match=r"APIMGR_WEB_URL=.* is not an address such as"):
            from_environment({**environ, "APIMGR_WEB_URL": wrong})


def ended() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process


def test_a_child_that_hangs_is_killed_again_without_spinning(first: Supervisor) -> None:
    process = Hung()
    child = Child("worker 0", -1, process)
    child.tell_to_stop(0.0)
    first._leaving = [child]
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    rounds, began = 0, time.monotonic()
    while process.kills < 2:
        first._tend()
        first._wait(reading)
        rounds += 1
    assert rounds < 5
    assert time.monotonic() - began >= supervisor.KILL_AGAIN_SECONDS
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize("role", ["agent", "worker 0"])
def test_without_a_descriptor_a_child_waits_and_the_supervisor_goes_on(first: Supervisor, role: str) -> None:
    child = Child(role, first._public.fileno())
    with no_descriptors():
        first._start(child)
        first._begin_upgrade()
    assert child.process is first._successor is None
    assert child.ready_fd == -1
    assert child.due_at > child.started_at


def test_an_agent_that_does_not_stop_for_a_reload_is_killed(first: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "AGENT_GRACE_SECONDS", 0.0)
    process = Hung()
    first._children = [Child("agent", -1, process)]
    first._hand_over()
    first._tend()
    assert process.kills == 1


def test_the_pid_file_is_ours_again_after_a_successor_that_came_too_late(first: Supervisor) -> None:
    """It wrote its own when we no longer listened, and took that away as it ended."""
    path = first._config.home / "pid"
    presence.write_pid(path)
    successor = Child("successor", -1, ended())
    first._give_up_upgrade(successor, "for a test")
    path.unlink()
    first._tend()
    assert path.read_text() == f"{os.getpid()}\n"
    assert first._leaving == []


def test_a_stop_in_an_upgrade_leaves_the_successor_time_for_its_calls(
    first: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    graces: dict[str, float] = {}
    end = supervisor.end

    def note(children: list[Child], grace: float) -> None:
        graces.update({child.role: grace for child in children})
        end(children, grace)

    monkeypatch.setattr(supervisor, "end", note)
    first._children, first._successor = [Child("agent", -1)], Child("successor", -1, ended())
    first._stop()
    assert graces == {"agent": AGENT_GRACE_SECONDS, "successor": STOP_SECONDS}


@pytest.mark.parametrize(
    ("role", "lives", "paused"),
    [
        ("worker 0", [(0.1, True)] * 8, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]),  # dies of its start
        ("worker 0", [(9, False)] * 3, [0.1, 0.2, 0.4]),  # never accepts
        ("worker 0", [(1.5, True)] * 3, [0, 0, 0]),  # is killed at work
        ("worker 0", [(0.1, True), (0.1, True), (2, True), (0.1, True)], [0.1, 0.2, 0, 0.1]),
        ("agent", [(0.2, False), (0.2, True), (1, True)], [0.1, 0.2, 0]),
    ],
)
def test_only_who_dies_of_its_start_is_kept_waiting(
    role: str, lives: list[tuple[float, bool]], paused: list[float]
) -> None:
    child, now, pauses = Child(role, -1), 1000.0, []
    for seconds, accepts in lives:
        child.started_at, child.accepts = now, accepts
        now += seconds
        child.put_off(now)
        assert child.due_at == now + child.pause
        pauses.append(child.pause)
        now = child.due_at
    assert pauses == pytest.approx(paused)
