"""How much one version may ask of every node."""

from __future__ import annotations

from apimgr.contracts import bounds, snapshot
from apimgr.contracts.bounds import MAX_DOCUMENT_BYTES, MAX_OPERATIONS, MAX_PATHS_BYTES
from apimgr.contracts.snapshot import OperationDocument, UpstreamDocument, VersionDocument


def version(*paths: str) -> VersionDocument:
    operations = tuple(OperationDocument(2**60 + n, "OPTIONS", path) for n, path in enumerate(paths))
    return VersionDocument(
        1, 2, 3, "v1", "published", "/", UpstreamDocument("http://127.0.0.1:9"), operations=operations
    )


def test_operations_of_a_version_are_bounded() -> None:
    paths = [f"/r{n}" for n in range(MAX_OPERATIONS + 1)]
    assert bounds.problem_of(version(*paths[:-1])) == ""
    assert bounds.problem_of(version(*paths)) == "there are 10,001 operations, more than the 10,000 of a version"


def test_paths_of_a_version_are_bounded_as_they_are_sent() -> None:
    half = "/" + "ü" * (MAX_PATHS_BYTES // 4)
    assert bounds.problem_of(version(half)) == ""
    problem = "the paths of all operations have 1,048,582 bytes together, more than 1,048,576"
    assert bounds.problem_of(version(half, half + "x" * 4)) == problem


def test_as_much_as_a_version_may_have_fits_into_a_document() -> None:
    each = MAX_PATHS_BYTES // MAX_OPERATIONS
    paths = [f"/{n}".ljust(each, "x") for n in range(MAX_OPERATIONS)]
    raw = snapshot.dump(version(*paths))
    assert bounds.problem_of(version(*paths)) == bounds.problem_of_size(raw) == ""
    assert bounds.problem_of_size(raw.ljust(MAX_DOCUMENT_BYTES + 1)) == "it has 2,097,153 bytes, more than 2,097,152"
