from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

import pytest

from proxy.dataplane import presence
from proxy.dataplane.config import Address
from proxy.dataplane.handover import VARIABLE, Handover
from proxy.dataplane.supervisor import CannotStart, claim, open_listener


def test_what_is_handed_over_is_what_arrives() -> None:
    handover = Handover(5, 6, 7, 8, 2, 4711)
    assert Handover.found_in({VARIABLE: str(handover)}) == handover
    assert Handover.found_in({}) is None


@pytest.mark.parametrize(
    "text", ["", "3,4,5", "public=1 admin=2 lock=3 ready=4", "public=-1 admin=2 lock=3 ready=4 offset=0 pid=1"]
)
def test_what_another_version_hands_over_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="another version"):
        Handover.found_in({VARIABLE: text})


def test_the_claim_stays_while_either_of_the_two_lives(tmp_path: Path) -> None:
    lock = claim(tmp_path)
    sockets = [open_listener(Address("127.0.0.1", 0), "callers", "X") for _ in range(2)]
    reading, writing = os.pipe()
    given = Handover(*(os.dup(each.fileno()) for each in (*sockets, lock)), writing, 0, 1)
    public, admin, inherited = given.adopt()
    lock.close()
    with pytest.raises(CannotStart):
        claim(tmp_path)
    assert public.getsockname() == sockets[0].getsockname()
    given.say_ready()
    assert os.read(reading, 9) == b"1"
    inherited.close()
    claim(tmp_path).close()
    for each in (*sockets, public, admin):
        each.close()
    os.close(reading)


def test_a_predecessor_that_died_need_not_be_told() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    Handover(0, 0, 0, writing, 0, 1).say_ready()
    with pytest.raises(OSError, match="Bad file descriptor"):
        fcntl.fcntl(writing, fcntl.F_GETFD)


def test_a_pid_file_is_removed_by_whom_it_names(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    presence.write_pid(path)
    assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == [path]
    presence.remove_pid(path)
    presence.remove_pid(path)
    assert not path.exists()
    path.write_text("1\n")
    presence.remove_pid(path)
    assert path.exists()


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_the_service_manager_is_told(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = str(tmp_path / "notify") if kind == "path" else f"@apimgr-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        presence.notify("READY=1", "MAINPID=7")
        assert manager.recv(100) == b"READY=1\nMAINPID=7"
    presence.notify("READY=1")  # nobody hears it any more
