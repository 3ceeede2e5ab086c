"""Which version an address leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from apimgr.contracts.snapshot import RouteDocument
from proxy.dataplane.limits.table import Table
from proxy.dataplane.runtime import Caller, Runtime
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
