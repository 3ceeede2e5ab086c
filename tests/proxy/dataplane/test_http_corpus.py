"""gunicorn's corpus of requests: every invalid one is refused, every valid one served or refused on purpose.

Where we differ from gunicorn's verdict, ``docs/reference/http.md`` says why; a file that is not in its tables and not
treated as gunicorn does fails here. Most files leave ``Host`` out, which alone is reason to refuse HTTP/1.1, so each is
also judged with one put in: what it was written to test must not hide behind that.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.dataplane.http.body import BodyReader, ChunkedReader, LengthReader
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.request import CHUNKED, parse_request

ROOT = Path(__file__).parents[3]
CORPUS = ROOT.parent / "shared" / "corpora" / "http1"
REFERENCE = ROOT / "docs" / "reference" / "http.md"
ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}

pytestmark = [
    pytest.mark.corpora,
    pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpora/http1 is not there"),
]


def requests(kind: str) -> list[Path]:
    return sorted((CORPUS / kind).glob("*.http"))


def read(path: Path) -> bytes:
    text = path.read_bytes().replace(b"\n", b"")
    return re.sub(
        rb"\\(x[0-9A-Fa-f]{2}|[rnt0\\])",
        lambda found: ESCAPES.get(found[1]) or bytes((int(found[1][1:], 16),)),
        text,
    )


def with_host(raw: bytes) -> bytes:
    line, end, rest = raw.partition(b"\r\n")
    if not line.endswith(b"HTTP/1.1") or re.search(rb"(?i)^host", rest, re.MULTILINE):
        return raw
    return line + end + b"Host: gateway.test\r\n" + rest


def refused(raw: bytes, *, add_host: bool) -> bool:
    """Whether the gateway would refuse any of the requests in ``raw``, or wait for more and then close."""
    try:
        while raw:
            raw = with_host(raw) if add_host else raw
            head = parse_request(raw)
            if head is None:
                return True
            raw = raw[head.size :]
            length = head.body_length
            if length:
                body: BodyReader = ChunkedReader() if length == CHUNKED else LengthReader(length)
                _, raw = body.feed(raw)
                if not body.done:
                    return True
    except Malformed:
        return True
    return False


def listed(heading: str) -> set[str]:
    """The files that a table of the reference names."""
    section = REFERENCE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return set(re.findall(r"`([^`]+\.http)`", section))


@pytest.mark.requirement("M13")
@pytest.mark.parametrize("add_host", [False, True])
def test_every_invalid_request_is_refused(add_host: bool) -> None:
    served = {path.name for path in requests("invalid") if not refused(read(path), add_host=add_host)}
    assert served <= listed("Invalid for gunicorn, served here")
    if add_host:
        assert served == listed("Invalid for gunicorn, served here")


@pytest.mark.requirement("M13")
def test_every_valid_request_is_served_or_refused_on_purpose() -> None:
    rejected = {path.name for path in requests("valid") if refused(read(path), add_host=True)}
    assert rejected == listed("Valid for gunicorn, refused here")
