"""Requests that others collected, as further inputs: gunicorn's corpus, where ``../shared`` is beside the project."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

CORPUS = Path(__file__).parents[3] / "shared" / "corpora" / "http1"
ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\"}


def requests(kind: str) -> list[Path]:
    """The files of a kind, ``valid`` or ``invalid`` as gunicorn has it."""
    return sorted((CORPUS / kind).glob("*.http"))


def read_file(path: Path) -> bytes:
    """What the text of a file stands for."""
    text = path.read_bytes().replace(b"\n", b"")
    return re.sub(
        rb"\\(x[0-9A-Fa-f]{2}|[rnt0\\])",
        lambda found: ESCAPES.get(found[1]) or bytes((int(found[1][1:], 16),)),
        text,
    )


def with_host(raw: bytes) -> bytes:
    """Most files leave ``Host`` out, which alone is reason to refuse HTTP/1.1."""
    line, end, rest = raw.partition(b"\r\n")
    if not line.endswith(b"HTTP/1.1") or re.search(rb"(?i)^host", rest, re.MULTILINE):
        return raw
    return line + end + b"Host: gateway.test\r\n" + rest


def _path(raw: bytes) -> Iterator[bytes]:
    parts = raw.partition(b"\r\n")[0].split(b" ")
    if len(parts) == 3:
        yield parts[1].partition(b"?")[0]


def _chunked(raw: bytes) -> Iterator[bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"chunked" in head.lower():
        yield b"\2" + body


def _request(raw: bytes) -> Iterator[bytes]:
    yield raw
    if with_host(raw) != raw:
        yield with_host(raw)


_OF: dict[str, Callable[[bytes], Iterator[bytes]]] = {
    "path": _path,
    "chunked": _chunked,
    "request_head": _request,
    "gateway": _request,
}


def inputs(name: str) -> list[bytes]:
    """Those for a target; none where the corpus is not there, or has none."""
    if name not in _OF:
        return []
    return [each for kind in ("valid", "invalid") for path in requests(kind) for each in _OF[name](read_file(path))]
