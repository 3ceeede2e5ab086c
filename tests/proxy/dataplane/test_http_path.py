"""One canonical spelling of a path."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path


@pytest.mark.requirement("H10.1")
@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("//a///b", "/a/b"),
        ("/a//", "/a/"),
        ("/./a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/.", "/a/"),
        ("/../../a", "/a"),
        ("/..", "/"),
        ("/%2e%2E/a", "/a"),
        ("/a/.%2e/b", "/b"),
        ("/%61%7E%3a", "/a~:"),
        ("/caf%c3%a9", "/caf%C3%A9"),
        ("/a%20b", "/a%20b"),
        ('/a"b', "/a%22b"),
        ("/a%252e%252e", "/a%252e%252e"),
        ("/a;x=1/b", "/a;x=1/b"),
        ("/a%3Bx", "/a%3Bx"),
        ("/.well-known/x", "/.well-known/x"),
        ("/...", "/..."),
        ("/a..b", "/a..b"),
    ],
)
def test_canonical(raw: str, canonical: str) -> None:
    assert canonical_path(raw.encode()) == canonical.encode()
    assert canonical_path(canonical.encode()) == canonical.encode(), "canonical is a fixed point"


@pytest.mark.requirement("H10.2")
@pytest.mark.parametrize(
    "raw",
    ["", "a", "/a%2fb", "/a%5Cb", "/a\\b", "/%00", "/%0d%0a", "/%7f", "/%", "/%2", "/%zz", "/a#b", "/..;/a", "/.;a/b",
     "/%2e%2e;/a", "/%2e%2e%3b/a", "/%c0%ae", "/%ff", "/%ed%a0%80", "/%e0%80%af"],
)  # fmt: skip
def test_refused(raw: str) -> None:
    with pytest.raises(Malformed) as caught:
        canonical_path(raw.encode())
    assert caught.value.code == "bad_path"


SPELLINGS = ["/", "//", "/a", "a", "b", ".", "..", "%2e", "%2E", "%61", ";", "%3b", "%2f", "%25", "é", "%c3%a9", "\\"]


@pytest.mark.requirement("H10.3")
@given(st.lists(st.sampled_from(SPELLINGS)).map("".join))
def test_no_spelling_gets_past_itself(path: str) -> None:
    """What is let through has no dot or empty segment in any reading, and is its own canonical form."""
    try:
        canonical = canonical_path(b"/" + path.encode())
    except Malformed:
        return
    assert canonical_path(canonical) == canonical
    segments = unquote_to_bytes(canonical).split(b"/")[1:]
    assert b".." not in segments
    assert b"." not in segments
    assert b"" not in segments[:-1]
    assert not any(segment.startswith((b"..;", b".;")) for segment in segments)
