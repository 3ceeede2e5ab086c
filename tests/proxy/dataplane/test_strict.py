"""Strict durability: the end of an answer waits for the disk to have the call's record, and no longer."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from apimgr.contracts.outcomes import BY_CODE
from proxy.dataplane.usage import durability
from proxy.dataplane.usage.durability import Syncer
from proxy.dataplane.usage.spool import SEGMENT_BYTES, Spool
from tests.proxy.dataplane.support import Reply, Running, request, response
from tests.proxy.dataplane.test_gateway import play
from tests.proxy.dataplane.test_upstreams import reset

pytestmark = pytest.mark.processes


class Disk:
    """Where syncs go: each waits until it may go on. ``broken`` is what the disk says instead."""

    def __init__(self) -> None:
        self.syncs = 0
        self.failures = 0
        self.begun = threading.Event()
        self.may_go_on = threading.Event()
        self.broken: OSError | None = None
        self.exhausted: OSError | None = None

    def unsynced(self) -> list[int]:
        if self.exhausted is not None:
            raise self.exhausted
        return [os.open(os.devnull, os.O_RDONLY)]

    def sync_failed(self) -> None:
        self.failures += 1

    def sync(self, fd: int) -> None:
        self.begun.set()
        assert self.may_go_on.wait(20)
        self.syncs += 1
        if self.broken is not None:
            raise self.broken


def strict(gateway: Running) -> Disk:
    disk = Disk()
    gateway.worker.syncer = Syncer(disk, disk.sync)
    return disk


async def until(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 20)


def test_an_answer_ends_when_its_record_is_on_the_disk(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await until(disk.begun)
        assert len(gateway.recorder.frames) == 1, "recorded, and not known to be on the disk"
        for _ in range(20):
            await asyncio.sleep(0)
        assert not reader._buffer, "the caller has no end of an answer"  # type: ignore[attr-defined]
        disk.may_go_on.set()
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")

    play(tmp_path, scenario)


def test_a_long_answer_flows_up_to_its_last_piece(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        rest = asyncio.Event()

        async def in_two(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
            await rest.wait()
            writer.write(b"half")

        gateway.upstream.handler = in_two
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(4) == b"half"
        assert not disk.begun.is_set()
        rest.set()
        await until(disk.begun)
        disk.may_go_on.set()
        assert await reader.readexactly(4) == b"half"

    play(tmp_path, scenario)


def test_calls_that_wait_share_a_sync(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        calls = [asyncio.ensure_future(gateway.get()) for _ in range(20)]
        await until(disk.begun)
        while len(gateway.recorder.frames) < len(calls):
            await asyncio.sleep(0.01)
        disk.may_go_on.set()
        replies: list[Reply] = await asyncio.gather(*calls)
        assert [reply.status for reply in replies] == [200] * 20
        assert disk.syncs == 2, "one for the first, one for all who came meanwhile"

    play(tmp_path, scenario)


def test_a_disk_that_fails_breaks_the_call_off_and_stops_further_ones(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        disk.broken = OSError(5, "Input/output error")
        disk.may_go_on.set()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await gateway.get()
        assert disk.failures == 1
        refused = await gateway.get()
        assert refused.status == 503
        assert gateway.recorder.records[-1].outcome == BY_CODE["usage_unavailable"].number
        assert len(gateway.upstream.received) == 1, "the upstream was not asked again"
        disk.broken = None
        while (await gateway.get()).status != 200:
            await asyncio.sleep(0.1)

    play(tmp_path, scenario)


def test_all_who_wait_when_the_disk_fails_are_broken_off(tmp_path: Path) -> None:
    """The system may have tried their records' pages as well, and says so only once."""

    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        first, second = (asyncio.ensure_future(gateway.get()) for _ in range(2))
        await until(disk.begun)
        while len(gateway.recorder.frames) < 2:
            await asyncio.sleep(0.01)
        disk.broken = OSError(5, "Input/output error")
        disk.may_go_on.set()
        for call in (first, second):
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await call
        assert disk.syncs == 1

    play(tmp_path, scenario)


def test_without_a_descriptor_to_sync_the_call_is_broken_off_and_the_next_is_not(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        disk.may_go_on.set()
        disk.exhausted = OSError(24, "Too many open files")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await gateway.get()
        assert disk.failures == 1
        disk.exhausted = None
        while (await gateway.get()).status != 200:
            await asyncio.sleep(0.1)

    play(tmp_path, scenario)


def test_a_disk_that_does_not_answer_breaks_the_call_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durability, "LONGEST_SYNC_SECONDS", 0.2)

    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        call = asyncio.ensure_future(gateway.get())
        await until(disk.begun)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await call
        assert (await gateway.get()).status == 503, "nor is another passed on meanwhile"
        disk.may_go_on.set()
        while (await gateway.get()).status != 200:
            await asyncio.sleep(0.1)

    play(tmp_path, scenario)


def test_a_caller_who_leaves_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        _, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}"))
        await until(disk.begun)
        reset(writer)
        while gateway.worker.connections:
            await asyncio.sleep(0.01)
        disk.may_go_on.set()
        assert (await gateway.get()).status == 200
        assert [record.outcome for record in gateway.recorder.records] == [0, 0]

    play(tmp_path, scenario)


def test_pipelined_calls_wait_their_turn(tmp_path: Path) -> None:
    async def scenario(gateway: Running) -> None:
        disk = strict(gateway)
        gateway.upstream.reply = response(b"{}")
        reader, writer = await gateway.connect()
        writer.write(request("GET", "/orders/items/1", f"X-Api-Key: {gateway.world.key}") * 2)
        await until(disk.begun)
        assert len(gateway.upstream.received) == 1
        disk.may_go_on.set()
        for _ in range(2):
            assert b" 200 OK" in await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(2)

    play(tmp_path, scenario)


def test_whatever_may_hold_a_record_is_synced(tmp_path: Path) -> None:
    """A full segment is closed before its records are on the disk, and a new one's name is in the folder only."""
    spool = Spool(tmp_path / "1", 0, is_strict=True)
    spool.append(b"x" * (SEGMENT_BYTES - 2))
    spool.append(b"more")
    names = {Path(f"/proc/self/fd/{fd}").readlink().name: fd for fd in spool.unsynced()}
    segments = {path.name for path in (tmp_path / "1").glob("*.spool")}
    assert len(segments) == 2
    assert names.keys() == segments | {"1", tmp_path.name}, "the folder is new as well"
    for fd in names.values():
        os.close(fd)
    (present,) = spool.unsynced()
    os.close(present)
    spool.sync_failed()
    spool.append(b"elsewhere")
    assert len(list((tmp_path / "1").glob("*.spool"))) == 3
    spool.close()
