from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from proxy.dataplane import agent, stats
from proxy.dataplane.agent import SYNC_SECONDS, Agent, _for_workers, _together
from proxy.dataplane.config import ImproperConfiguration, from_environment
from proxy.dataplane.usage.durability import Durability
from proxy.dataplane.usage.spool import Spool
from tests.asynchronous import run


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


def test_the_name_of_a_new_segment_is_synced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records in a file that lost its name in a power cut are lost."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    durability, folders = Durability(tmp_path), [tmp_path / "1", tmp_path]
    for number in range(2):
        spool = Spool(tmp_path / "1", number)
        durability.sync()
        durability.sync()
        assert synced == [folder.stat().st_ino for folder in folders] * (number + 1)
        spool.close()


def test_much_that_is_recorded_is_synced_before_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "SYNC_SECONDS", 3600.0)
    rounds: list[Path] = []
    monkeypatch.setattr(Durability, "sync", lambda self: rounds.append(self._root))
    config = from_environment({"APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": "p" * 32})
    node = Agent(config)
    blocks = [stats.open_block(config.stats_path, number) for number in range(2)]

    async def a_while() -> None:
        async with asyncio.timeout(20), _together(_for_workers(node)):
            for size, expected in ((0, 1), (agent.SYNC_BYTES // 2 - 1, 1), (1, 2)):
                for block in blocks:
                    block[stats.SPOOLED_BYTES] += size
                while len(rounds) < expected:
                    await asyncio.sleep(agent.LOOK_SECONDS)
                await asyncio.sleep(5 * agent.LOOK_SECONDS)
                assert len(rounds) == expected

    run(a_while)


@pytest.mark.parametrize(("mode", "is_synced"), [("os", False), ("group", True), ("strict", True)])
def test_the_agent_syncs_as_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, *, is_synced: bool
) -> None:
    rounds: list[Path] = []
    monkeypatch.setattr(Durability, "sync", lambda self: rounds.append(self._root))
    settings = {"APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": "p" * 32, "APIMGR_GATEWAY_DURABILITY": mode}
    node = Agent(from_environment(settings))

    async def a_while() -> None:
        async with _together(_for_workers(node)):
            for _ in range(3 if not is_synced else 400):
                await asyncio.sleep(SYNC_SECONDS)
                if rounds:
                    break

    run(a_while)
    assert bool(rounds) is is_synced


def test_an_agent_without_one_of_its_jobs_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The supervisor starts it again. It would otherwise serve on, and sync nothing."""
    monkeypatch.setattr(Durability, "sync", lambda self: 1 / 0)
    node = Agent(from_environment({"APIMGR_VAR": str(tmp_path), "APIMGR_KEY_PEPPER": "p" * 32}))

    async def until_it_ends() -> None:
        stop = asyncio.Event()
        async with _together(_for_workers(node), stop.set):
            await asyncio.wait_for(stop.wait(), 20)

    run(until_it_ends)
    (told,) = [record for record in caplog.records if record.exc_info]
    assert told.message == "A job of the agent ended, so the agent starts anew"
    assert told.exc_info is not None
    assert told.exc_info[0] is ZeroDivisionError


def test_another_mode_is_refused() -> None:
    with pytest.raises(ImproperConfiguration, match="os, group, strict"):
        from_environment({"APIMGR_KEY_PEPPER": "p" * 32, "APIMGR_GATEWAY_DURABILITY": "fast"})
