from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from uuid import UUID

import lmdb
import pytest

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import CredentialDocument, PlanDocument
from proxy.dataplane.replica import declaration, file_feed
from proxy.dataplane.replica import writer as module
from proxy.dataplane.replica.file_feed import FileFeed
from proxy.dataplane.replica.layout import DAMAGED, MOST_DEATHS, ReplicaDamaged, ReplicaOutOfReach, open_state
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.replica.writer import Change, Mark, Rebuild, ReplicaWriter
from tests.asynchronous import run
from tests.proxy.damage import point_beyond_the_end
from tests.proxy.exhaustion import no_descriptors
from tests.proxy.replica.test_declaration import FILE

LOG = UUID(int=7)
FREE = PlanDocument(id=1, name="Free")


def change(sequence: int, document: PlanDocument | CredentialDocument) -> Change:
    return Change(sequence, snapshot.KIND_OF[type(document)], document.key, snapshot.dump(document).decode())


def filled(path: Path, *changes: Change) -> ReplicaWriter:
    writer = ReplicaWriter(path)
    rebuild = writer.rebuild()
    assert rebuild.add(changes) == []
    rebuild.finish(Mark(LOG, len(changes)))
    return writer


def test_a_node_that_never_synchronised_is_not_ready(tmp_path: Path) -> None:
    reader = ReplicaReader(tmp_path)
    assert not reader.ready
    assert reader.get("plan", "1") is None


def test_only_its_owner_reads_a_replica_and_its_owner_can(tmp_path: Path) -> None:
    filled(tmp_path / "replica", change(1, FREE)).close()
    for path in (tmp_path / "replica", *(tmp_path / "replica").rglob("*")):
        # Root passes every mode, so the modes themselves are looked at: a folder without x is shut to its owner.
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path.name


def test_a_replica_that_cannot_be_opened_for_want_of_descriptors_is_not_held_damaged(tmp_path: Path) -> None:
    filled(tmp_path, change(1, FREE)).close()
    reader = ReplicaReader(tmp_path)
    with no_descriptors(), pytest.raises(ReplicaOutOfReach):
        reader.get("plan", "1")
    assert reader.ready
    assert reader.get("plan", "1") == FREE


def test_documents_and_mark_survive_a_restart(tmp_path: Path) -> None:
    filled(tmp_path, change(1, FREE)).close()
    writer = ReplicaWriter(tmp_path)
    assert writer.mark == Mark(LOG, 1)
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert reader.ready
    assert reader.get("plan", "1") == FREE


def test_a_rebuild_keeps_what_was_good_in_place_of_what_it_does_not_understand(tmp_path: Path) -> None:
    writer = filled(tmp_path, change(1, FREE), change(2, PlanDocument(id=2, name="Gold")))
    odd = Change(3, "plan", "1", snapshot.dump(FREE).decode().replace('"format":1', '"format":2'))
    rebuild = writer.rebuild()
    assert [entry.change for entry in rebuild.add([odd])] == [odd]
    rebuild.finish(Mark(LOG, 3))
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert reader.get("plan", "1") == FREE
    assert reader.get("plan", "2") is None, "what is no longer said is gone"


def test_only_the_epoch_of_what_changed_moves(tmp_path: Path) -> None:
    reader = ReplicaReader(tmp_path)
    writer = filled(tmp_path, change(1, FREE))
    before = {kind: reader.epoch(kind) for kind in snapshot.KINDS}
    writer.apply(Mark(LOG, 2), [change(2, PlanDocument(id=2, name="Gold"))])
    moved = [kind for kind in snapshot.KINDS if reader.epoch(kind) != before[kind]]
    assert moved == ["plan"]


def test_a_tombstone_removes(tmp_path: Path) -> None:
    writer = filled(tmp_path, change(1, FREE))
    writer.apply(Mark(LOG, 2), [Change(2, "plan", "1", None)])
    writer.close()
    assert ReplicaReader(tmp_path).get("plan", "1") is None


@pytest.mark.parametrize(
    "bad",
    [
        Change(2, "plan", "1", '{"format":1,"kind":"plan","id":1,"name":"x","colour":"red"}'),
        Change(2, "plan", "1", '{"format":2,"kind":"plan","id":1,"name":"x"}'),
        Change(2, "plan", "1", '{"format":1,"kind":"plan","id":2,"name":"another key"}'),
        Change(2, "plan", "1", "not json"),
        Change(2, "theme", "1", "{}"),
        Change(2, "plan", "1" * 600, "{}"),
    ],
)
def test_a_document_not_understood_leaves_the_last_good_one(tmp_path: Path, bad: Change) -> None:
    writer = filled(tmp_path, change(1, FREE))
    rejected = writer.apply(Mark(LOG, 3), [bad, change(3, PlanDocument(id=3, name="Later"))])
    assert [item.change for item in rejected] == [bad]
    writer.close()
    reader = ReplicaReader(tmp_path)
    assert reader.get("plan", "1") == FREE
    assert reader.get("plan", "3") == PlanDocument(id=3, name="Later")


def data_file(path: Path) -> Path:
    return next(path.glob("data-*/data.mdb"))


@pytest.mark.parametrize(
    "error", [lmdb.CorruptedError("mdb_get"), lmdb.PageNotFoundError("mdb_get"), lmdb.Error("Cannot allocate memory")]
)
def test_an_agent_that_meets_damage_as_it_starts_builds_anew(
    tmp_path: Path, error: lmdb.Error, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Damaged pages make LMDB say many things; asking for too much memory is one of them."""
    filled(tmp_path, change(1, FREE)).close()
    with monkeypatch.context() as damaged:
        damaged.setattr(lmdb, "open", lambda *_, **__: raise_(error))
        assert not ReplicaWriter(tmp_path).ready
    with monkeypatch.context() as damaged:
        damaged.setattr(ReplicaWriter, "_read_mark", lambda _: raise_(error))
        writer = ReplicaWriter(tmp_path)
    assert not writer.ready
    rebuild = writer.rebuild()
    rebuild.add([change(1, FREE)])
    rebuild.finish(Mark(LOG, 1))
    assert writer.ready


def raise_(error: Exception) -> None:
    raise error


def test_a_flipped_byte_is_never_served(tmp_path: Path) -> None:
    filled(tmp_path, change(1, FREE)).close()
    file = data_file(tmp_path)
    file.write_bytes(file.read_bytes().replace(b'"name":"Free"', b'"name":"Fred"'))
    reader = ReplicaReader(tmp_path)
    with pytest.raises(ReplicaDamaged):
        reader.get("plan", "1")
    assert not reader.ready
    assert reader.get("plan", "1") is None
    reader.close()
    writer = ReplicaWriter(tmp_path)
    assert not writer.ready
    rebuild = writer.rebuild()
    rebuild.add([change(1, FREE)])
    rebuild.finish(Mark(LOG, 1))
    writer.close()
    assert reader.ready
    assert reader.get("plan", "1") == FREE


@pytest.mark.parametrize("keep", [0, 100, 4096, 8192])
def test_a_file_cut_short_is_rebuilt(tmp_path: Path, keep: int) -> None:
    filled(tmp_path, *(change(n, PlanDocument(id=n, name="x" * 200)) for n in range(1, 200))).close()
    os.truncate(data_file(tmp_path), keep)
    assert not ReplicaWriter(tmp_path).ready
    assert not ReplicaReader(tmp_path).ready


def ends_with(path: Path, program: str) -> int:
    program = f"import sys; from pathlib import Path; path = Path(sys.argv[1]); {program}"
    return subprocess.run([sys.executable, "-c", program, path], check=False, timeout=60).returncode


AGENT = "from proxy.dataplane.replica.writer import ReplicaWriter; sys.exit(ReplicaWriter(path).ready)"
WORKER = (
    "from proxy.dataplane.replica.reader import ReplicaReader; reader = ReplicaReader(path); reader.get('plan', '1');"
    "reader.get('plan', '3'); sys.exit(reader.ready)"
)


@pytest.mark.parametrize(("program", "key"), [(AGENT, b"applied"), (WORKER, b"plan:3")])
def test_damage_that_kills_whoever_reads_is_left_alone_and_rebuilt(tmp_path: Path, program: str, key: bytes) -> None:
    """A worker may read much before it comes to it, each time: deaths are counted, not failures in a row."""
    names = "A plan", "Like plan:3, applied", "A plan"  # a key's text lies elsewhere, too
    three = [change(number, PlanDocument(id=number, name=name)) for number, name in enumerate(names, 1)]
    filled(tmp_path, *three).close()
    point_beyond_the_end(data_file(tmp_path), key)
    ends = [ends_with(tmp_path, program) for _ in range(MOST_DEATHS + 2)]
    assert ends == [-signal.SIGBUS] * MOST_DEATHS + [0, 0]
    writer = ReplicaWriter(tmp_path)
    assert not writer.ready
    rebuild = writer.rebuild()
    assert rebuild.add(three) == []
    rebuild.finish(Mark(LOG, 3))
    writer.close()
    assert [ends_with(tmp_path, program) for _ in range(MOST_DEATHS)] == [1] * MOST_DEATHS
    assert ReplicaReader(tmp_path).get("plan", "3") == PlanDocument(id=3, name="A plan")


def test_damage_is_rebuilt_from_a_file_that_has_not_changed(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    writer = ReplicaWriter(tmp_path / "replica")
    feed = FileFeed(writer, file)
    assert feed.look()
    assert not feed.look()
    open_state(tmp_path / "replica")[DAMAGED] = 1  # as a worker says it that meets it
    assert not writer.ready
    assert feed.look()
    assert writer.ready
    writer.close()


def test_a_file_that_could_not_be_taken_is_taken_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk that is full for a while, say: nobody else would follow the file any more."""
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    writer = ReplicaWriter(tmp_path / "replica")
    finish, failures = Rebuild.finish, [lmdb.DiskError("full"), lmdb.DiskError("full")]

    def finish_in_the_end(rebuild: Rebuild, mark: Mark) -> None:
        if failures:
            raise failures.pop()
        finish(rebuild, mark)

    monkeypatch.setattr(file_feed, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(Rebuild, "finish", finish_in_the_end)

    async def scenario() -> None:
        applied = asyncio.Event()
        following = asyncio.ensure_future(FileFeed(writer, file).follow(applied.set))
        await asyncio.wait_for(applied.wait(), 60)
        following.cancel()

    run(scenario)
    assert writer.ready
    assert [record.message for record in caplog.records if record.exc_info] == [
        "The configuration could not be taken; trying again"
    ] * 2
    writer.close()


def test_a_file_that_takes_long_holds_nothing_else_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(FILE)
    writer = ReplicaWriter(tmp_path / "replica")
    read, went_on = declaration.read, threading.Event()

    def read_long(path: Path) -> list[snapshot.Document]:
        assert went_on.wait(10)
        return read(path)

    monkeypatch.setattr(declaration, "read", read_long)

    async def scenario() -> None:
        applied = asyncio.Event()
        following = asyncio.ensure_future(FileFeed(writer, file).follow(applied.set))
        await asyncio.sleep(0.05)
        went_on.set()
        await asyncio.wait_for(applied.wait(), 10)
        following.cancel()

    run(scenario)
    assert writer.ready
    writer.close()


def test_who_dies_beside_the_data_is_not_its_fault(tmp_path: Path) -> None:
    filled(tmp_path, change(1, FREE)).close()
    killed = WORKER.replace("sys.exit", "import os; os.kill(os.getpid(), 9)#")
    assert {ends_with(tmp_path, killed) for _ in range(MOST_DEATHS + 1)} == {-signal.SIGKILL}
    assert ReplicaReader(tmp_path).ready


def test_damage_that_a_change_meets_is_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = filled(tmp_path, change(1, FREE))
    with monkeypatch.context() as damaged:
        damaged.setattr(module, "_put", lambda *_: raise_(lmdb.PageNotFoundError("mdb_put")))
        with pytest.raises(ReplicaDamaged):
            writer.apply(Mark(LOG, 2), [change(2, FREE)])
    assert not writer.ready
    writer.close()


def test_a_missing_data_file_is_damage(tmp_path: Path) -> None:
    filled(tmp_path, change(1, FREE)).close()
    data_file(tmp_path).unlink()
    assert not ReplicaWriter(tmp_path).ready


def test_a_key_longer_than_the_store_takes_is_simply_unknown(tmp_path: Path) -> None:
    filled(tmp_path, change(1, FREE)).close()
    assert ReplicaReader(tmp_path).get("route", "/" + "x" * 8000) is None


def test_whether_anything_lies_under_a_prefix(tmp_path: Path) -> None:
    reader = ReplicaReader(tmp_path)
    assert not reader.holds_under("plan", "1")
    filled(tmp_path, change(1, PlanDocument(id=12, name="Free")), change(2, PlanDocument(id=3, name="Gold"))).close()
    asked = {prefix: reader.holds_under("plan", prefix) for prefix in ("", "1", "12", "121", "2", "3", "4", "x" * 600)}
    assert [prefix for prefix, held in asked.items() if held] == ["", "1", "12", "3"]
    assert not reader.holds_under("credential", "")
