from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.dataplane.usage import spool
from proxy.dataplane.usage.segments import find_segments, is_finished
from proxy.dataplane.usage.spool import SEGMENT_BYTES, Spool, SpoolFull


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
    for _ in range(3):
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
        written.append(b"y")
    find_segments(tmp_path)[0].path.unlink()
    written.append(b"y")
    assert find_segments(tmp_path)[-1].path.read_bytes() == b"y"


def test_a_worker_starts_on_a_full_spool(tmp_path: Path) -> None:
    with pytest.raises(SpoolFull):
        Spool(tmp_path / "1", 0, budget_bytes=SEGMENT_BYTES - 1).append(b"x")


def test_a_killed_writer_leaves_what_it_appended(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path; from proxy.dataplane.usage.spool import Spool\n"
        "Spool(Path(sys.argv[1]), 0).append(b'frame'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "1")], check=False)
    assert done.returncode == -signal.SIGKILL
    (segment,) = find_segments(tmp_path)
    assert segment.path.read_bytes() == b"frame"
    assert finished(segment.path)
