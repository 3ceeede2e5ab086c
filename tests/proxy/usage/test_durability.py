from __future__ import annotations

import os
from pathlib import Path

import pytest

from proxy.dataplane.usage.durability import Durability
from proxy.dataplane.usage.spool import Spool


def test_what_may_grow_is_synced_each_time_and_what_is_finished_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda fd: synced.append(os.fstat(fd).st_ino))
    growing, finished = Spool(tmp_path / "1", 0), Spool(tmp_path / "1", 1)
    for spool in (growing, finished):
        spool.append(b"frame")
    finished.close()
    segments = {path.name[0]: path for path in (tmp_path / "1").glob("*.spool")}
    durability = Durability(tmp_path)
    for _ in range(3):
        durability.sync()
    assert synced.count(segments["0"].stat().st_ino) == 3
    assert synced.count(segments["1"].stat().st_ino) == 1
    segments["1"].unlink()
    growing.close()
    durability.sync()
    durability.sync()
    assert len(synced) == 5
