"""Which version an address leads to."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import KIND_OF, Document, RouteDocument, VersionDocument
from proxy.dataplane.limits.table import Table
from proxy.dataplane.policies.select import Fork
from proxy.dataplane.replica.layout import WORKERS, open_state
from proxy.dataplane.replica.reader import ReplicaReader
from proxy.dataplane.replica.writer import Change, Mark, ReplicaWriter
from proxy.dataplane.runtime import Caller, Runtime, Version
from tests.proxy.dataplane.support import VERSION, MemoryReplica

ROUTES = {
    "/": 1,
    "/a": 2,
    "/a/b/c": 3,
    "own.test/a": 4,
    "own.test/a/b/c/d": 5,
    "deep.test/x/y": 6,
}


@pytest.fixture
def replica() -> MemoryReplica:
    replica = MemoryReplica()
    for address, version_id in ROUTES.items():
        host, slash, rest = address.partition("/")
        replica.put(RouteDocument(host, slash + rest, version_id), replace(VERSION, id=version_id))
    return replica


@pytest.fixture
def runtime(replica: MemoryReplica, tmp_path: Path) -> Runtime:
    runtime = Runtime(replica, Table(tmp_path / "limits", 0))
    runtime.refresh()
    return runtime


@pytest.mark.parametrize(
    ("host", "path", "version_id", "length"),
    [
        ("", "/", 1, 1),
        ("", "/other/1", 1, 1),
        ("", "/a", 2, 2),
        ("", "/a/", 2, 2),
        ("", "/ab", 1, 1),
        ("", "/a/b", 2, 2),
        ("", "/a/b/c", 3, 6),
        ("", "/a/b/c/d/e", 3, 6),
        ("else.test", "/a/b/c/d", 3, 6),
        ("own.test", "/other", 1, 1),
        ("own.test", "/a/b/c", 4, 2),
        ("own.test", "/a/b/c/d/", 5, 8),
        ("deep.test", "/x", 1, 1),
        ("deep.test", "/x/y/z", 6, 4),
        ("", "/" + "/".join("x" * 4000), 1, 1),
    ],
)
def test_longest_base_path_of_this_host_first(
    runtime: Runtime, host: str, path: str, version_id: int, length: int
) -> None:
    for _ in range(2):  # learned, then known
        found = runtime.version_at(host, path.encode())
        assert found is not None
        assert (getattr(found[0], "id", 0), found[1]) == (version_id, length)


def test_what_follows_a_base_path_is_not_looked_up(runtime: Runtime, replica: MemoryReplica) -> None:
    runtime.version_at("own.test", b"/a/b/c/d/1")
    replica.lookups.clear()
    for number in range(100):
        runtime.version_at("own.test", b"/a/b/c/d/%d/parts" % number)
    assert replica.lookups == []


def test_a_new_route_is_found_below_what_was_the_end(runtime: Runtime, replica: MemoryReplica) -> None:
    assert runtime.version_at("", b"/a/b/c/new") == (runtime.version(3), 6)
    replica.put(RouteDocument("", "/a/b/c/new", 2))
    runtime.refresh()
    assert runtime.version_at("", b"/a/b/c/new") == (runtime.version(2), 10)


def caller(runtime: Runtime, key: bytes) -> Caller | None:
    return runtime.callers.get(key) or runtime.recall_caller(key)


def test_callers_are_bounded_and_whoever_called_lately_is_kept(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.dataplane.runtime._MAX_CALLERS", 10)
    regular = runtime.new_caller()
    runtime.remember_caller(b"regular", regular)
    for number in range(100):
        runtime.remember_caller(b"%d" % number, runtime.new_caller())
        if not number % 4:
            assert caller(runtime, b"regular") is regular
        held = [caller(runtime, b"%d" % other) for other in range(number + 1)] if number == 99 else []
    assert 4 <= sum(caller is not None for caller in held) <= 10


def test_a_change_of_configuration_forgets_every_caller(
    replica: MemoryReplica, runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.dataplane.runtime._MAX_CALLERS", 4)
    for number in range(3):
        runtime.remember_caller(b"%d" % number, runtime.new_caller())
    replica.put(VERSION)
    runtime.refresh()
    assert [caller(runtime, b"%d" % number) for number in range(3)] == [None] * 3


def test_a_version_is_read_anew_when_it_changed_and_not_with_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, sequence = tmp_path / "replica", itertools.count(1)
    orders, other = replace(VERSION, id=1), replace(VERSION, id=2)
    reader = ReplicaReader(path)
    runtime = Runtime(reader, Table(tmp_path / "limits", 0))

    def change(document: Document) -> Change:
        return Change(next(sequence), KIND_OF[type(document)], document.key, snapshot.dump(document).decode())

    def apply(change: Change) -> None:
        reader.close()  # of one environment, a process opens one end at a time
        writer = ReplicaWriter(path)
        writer.apply(Mark(UUID(int=1), change.sequence), [change])
        writer.close()

    writer = ReplicaWriter(path)
    with writer.rebuild() as rebuild:
        rebuild.add(map(change, (RouteDocument("", "/orders", 1), orders, other)))
        rebuild.finish(Mark(UUID(int=1), 3))
    writer.close()
    held, load = open_state(path), snapshot.load
    while_held: list[int] = []

    def noted(raw: bytes) -> Document:
        document = load(raw)
        if isinstance(document, VersionDocument):
            while_held.append(held[WORKERS])
        return document

    monkeypatch.setattr(snapshot, "load", noted)

    def served() -> tuple[Version | Fork, int]:
        """What serves, and how often a version was read for that."""
        while_held.clear()
        runtime.refresh()
        found = runtime.version_at("", b"/orders/1")
        assert found is not None
        assert set(while_held) <= {0}, "who dies of a document has not met damage"
        return found[0], len(while_held)

    first, reads = served()
    assert reads == 1
    for name in "ab":
        apply(change(replace(other, name=name)))
        assert served() == (first, 0)
    apply(change(replace(orders, name="new")))
    second, reads = served()
    assert isinstance(second, Version)
    assert (second is first, second.document.name, reads) == (False, "new", 1)
    apply(Change(next(sequence), "version", "1", None))
    runtime.refresh()
    assert runtime.version_at("", b"/orders/1") is None
    apply(change(orders))
    assert served()[1] == 1
    reader.close()
