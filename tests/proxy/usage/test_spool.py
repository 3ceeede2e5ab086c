from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from apimgr.contracts.usage import MAX_FRAME_BYTES
from proxy.dataplane import descriptors
from proxy.dataplane.usage import spool
from proxy.dataplane.usage.mapped import is_finished
from proxy.dataplane.usage.segments import find_segments
from proxy.dataplane.usage.spool import SEGMENT_BYTES, Spool, SpoolFull
from tests.proxy.exhaustion import no_descriptors


def finished(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return is_finished(fd)
    finally:
        os.close(fd)


def test_a_segment_is_finished_when_its_writer_lets_go(tmp_path: Path) -> None:
    written = Spool(tmp_path / "1", 0)
    written.append(b"frame")
    (segment,) = find_segments(tmp_path)
    assert not finished(segment.path)
    written.close()
    assert finished(segment.path)
    assert segment.path.read_bytes() == b"frame"


def test_a_full_segment_is_followed_by_another(tmp_path: Path) -> None:
    written = Spool(tmp_path / "1", 0)
    for _ in range(2):
        written.append(b"x" * (SEGMENT_BYTES // 2 + 1))
    first, second = find_segments(tmp_path)
    assert finished(first.path)
    assert not finished(second.path)


def test_over_its_budget_the_spool_refuses_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_LOOK_AGAIN_SECONDS", 0.0)
    written = Spool(tmp_path / "1", 0, budget_bytes=2 * SEGMENT_BYTES)
    written.append(b"x" * SEGMENT_BYTES)
    written.append(b"x" * SEGMENT_BYTES)
    with pytest.raises(SpoolFull):
        written.append(b"frame")
    find_segments(tmp_path)[0].path.unlink()
    written.append(b"frame")
    written.close()
    assert find_segments(tmp_path)[-1].path.read_bytes() == b"frame"


def test_a_segment_is_followed_by_another_though_callers_have_all_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "_LOOK_AGAIN_SECONDS", 0.0)
    written = Spool(tmp_path / "1", 0)
    with no_descriptors():
        for _ in range(5):
            written.append(b"x" * SEGMENT_BYTES)
    assert len(find_segments(tmp_path)) == 5
    before = descriptors.in_use()
    written.close()
    assert before - descriptors.in_use() == 6, "the segment's, the table's and the reserve"


def test_a_segment_that_cannot_be_shown_takes_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written where no shipper sees it would be lost."""
    written = Spool(tmp_path / "1", 0)
    written.append(b"x" * SEGMENT_BYTES)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room in the folder")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        for _ in range(2):
            with pytest.raises(SpoolFull):
                written.append(b"refused")
    written.append(b"frame")
    written.close()
    assert [segment.path.read_bytes()[-5:] for segment in find_segments(tmp_path)] == [b"xxxxx", b"frame"]


def test_a_table_that_cannot_be_shown_costs_no_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room in the folder")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        written = Spool(tmp_path / "1", 0)
        before = descriptors.in_use()
        for _ in range(3):
            assert not written.has_room(1)
        assert descriptors.in_use() == before
    assert written.has_room(1)
    written.close()


def test_a_spool_that_cannot_be_written_is_full_until_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_LOOK_AGAIN_SECONDS", 0.0)
    (tmp_path / "spool").write_text("in the way")
    written = Spool(tmp_path / "spool" / "1", 0)
    assert not written.has_room(1)
    with pytest.raises(SpoolFull):
        written.append(b"frame")
    (tmp_path / "spool").unlink()
    assert written.has_room(1)
    written.append(b"frame")
    written.close()


def test_a_worker_starts_on_a_full_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolFull):
        Spool(tmp_path / "1", 0, budget_bytes=SEGMENT_BYTES - 1).append(b"frame")


def test_a_killed_writer_leaves_what_it_appended(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from proxy.dataplane.usage.spool import Spool\n"
        "Spool(Path(sys.argv[1]), 0).append(b'frame'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "1")], check=False)
    assert done.returncode == -signal.SIGKILL
    (segment,) = find_segments(tmp_path)
    assert segment.path.read_bytes() == b"frame" + bytes(SEGMENT_BYTES - 5)
    assert finished(segment.path)


def test_there_is_no_room_before_frames_are_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "_LOOK_AGAIN_SECONDS", 0.0)
    written = Spool(tmp_path / "1", 0, budget_bytes=2 * SEGMENT_BYTES)
    while written.has_room(10):
        written.append(b"x" * 3_000)
    for _ in range(9):  # in flight when the tenth was refused
        written.append(b"x" * MAX_FRAME_BYTES)
    find_segments(tmp_path)[0].path.unlink()
    assert written.has_room(10)


def test_a_full_disk_is_met_before_a_call_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    written = Spool(tmp_path / "1", 0)
    assert not written.has_room(1)
    assert list((tmp_path / "1").iterdir()) == []


def test_what_a_killed_worker_had_made_ready_is_removed(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from proxy.dataplane.usage.spool import Spool\n"
        "Spool(Path(sys.argv[1]), 0).has_room(10_000); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "1")], check=False)
    assert list(tmp_path.glob("1/.*.new"))
    alive = Spool(tmp_path / "1", 1)
    assert alive.has_room(10_000)
    (left,) = tmp_path.glob("1/.*.new")
    Spool(tmp_path / "2", 0)
    assert left.exists(), "this one's worker lives"


def test_a_closed_spool_leaves_nothing_but_records(tmp_path: Path) -> None:
    written = Spool(tmp_path / "1", 0)
    written.append(b"frame")
    assert written.has_room(10_000)
    written.close()
    assert [path.stat().st_size for path in (tmp_path / "1").iterdir()] == [5]
