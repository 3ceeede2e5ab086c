"""What is fuzzed: each target takes bytes and fails by raising anything at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import cache
from urllib.parse import unquote_to_bytes

from apimgr.contracts import snapshot, usage
from proxy.dataplane.http.body import LAST_CHUNK, ChunkedReader, chunk
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path
from proxy.dataplane.http.request import MAX_FIELDS, MAX_HEAD, RequestHead, parse_request
from proxy.dataplane.http.response import CHUNKED, UNTIL_CLOSE, ResponseHead, parse_response
from proxy.dataplane.http.websocket import FrameReader, Violation
from proxy.dataplane.usage import segments
from tests.fuzz import reference
from tests.fuzz.whole import gateway

HOP_BY_HOP = (b"connection", b"keep-alive", b"proxy-", b"te", b"trailer", b"transfer-encoding", b"upgrade", b"proxy")
OURS_TO_STATE = (b"host", b"content-length", b"forwarded", b"x-forwarded-", b"x-consumer-", b"x-real-ip", b"x-api-",
                 b"x-request-id", b"via", b"authorization", b"expect")  # fmt: skip


def request_head(data: bytes) -> None:
    """Accepted is only what the reference reads in the same way; nothing that is ours to state is passed on."""
    head = _parse_request(data)
    if head is None:
        return
    expected = reference.read_request(data)
    assert (head.size, head.method) == (expected.size, expected.start[0])
    assert head.size <= MAX_HEAD
    assert len(expected.fields) <= MAX_FIELDS
    assert head.body_length == reference.body_length(expected)
    assert len(expected.values(b"host")) == 1 or expected.start[2] == b"HTTP/1.0"
    assert canonical_path(head.path) == head.path
    assert b"#" not in head.query
    assert _all_wait(parse_request, data, head.size)
    passed_on = reference.read_fields(_passed_on(head).split(b"\r\n")[:-1])
    assert set(passed_on) <= set(expected.fields)
    for name, _ in passed_on:
        plain = name.lower().replace(b"_", b"-")
        assert not plain.startswith(HOP_BY_HOP[2]), name
        assert not any(plain == known or (known.endswith(b"-") and plain.startswith(known))
                       for known in HOP_BY_HOP + OURS_TO_STATE), name  # fmt: skip
    rebuilt = head.method + b" " + head.path + head.query + b" HTTP/1.1\r\nHost: x\r\n" + _passed_on(head) + b"\r\n"
    again = parse_request(rebuilt)
    assert again is not None
    assert (again.path, again.query, _passed_on(again)) == (head.path, head.query, _passed_on(head))


def _passed_on(head: RequestHead) -> bytes:
    return head.own_lines + head.block.passed_on


def _parse_request(data: bytes) -> RequestHead | None:
    try:
        return parse_request(data)
    except Malformed:
        return None


def _all_wait(parse: Callable[[bytes], object], data: bytes, size: int) -> bool:
    """No beginning of an accepted head is taken for a head, or for a mistake."""
    step = max(1, size // 16)
    return all(parse(data[:cut]) is None for cut in {*range(0, size, step), size - 1, size - 2, size - 3} if cut >= 0)


def chunked(data: bytes) -> None:
    """The same payload however the bytes are cut, and the one that the reference reads."""
    step, data = (data[0] % 16) + 1 if data else 1, data[1:]
    whole = _read_chunked([data])
    assert _read_chunked([data[at : at + step] for at in range(0, len(data), step)] or [b""]) == whole
    try:
        expected: object = (*reference.read_chunked(data), True)
    except (reference.Refused, reference.Incomplete):
        expected = None
    assert not isinstance(whole, tuple) or not whole[2] or whole == expected
    encoded = b"".join(chunk(data[at : at + step]) for at in range(0, len(data), step)) + LAST_CHUNK
    assert _read_chunked([encoded + b"next"]) == (data, b"next", True)


def _read_chunked(pieces: list[bytes]) -> object:
    reader, payload, rest = ChunkedReader(), b"", b""
    try:
        for piece in pieces:
            if reader.done:
                rest += piece
            else:
                got, rest = reader.feed(piece)
                payload += got
    except Malformed:
        return "refused"
    return payload, rest, reader.done


def path(data: bytes) -> None:
    """A canonical path is its own canonical form and has no dot, empty or ambiguous segment, decoded once or plain."""
    try:
        canonical = canonical_path(data)
    except Malformed:
        return
    assert canonical_path(canonical) == canonical
    assert canonical.startswith(b"/")
    assert reference.TARGET_BYTES.issuperset(canonical)
    decoded = unquote_to_bytes(canonical)
    decoded.decode("utf-8")
    assert not any(octet < 0x20 or octet in (0x5C, 0x7F) for octet in decoded)
    assert decoded.count(b"/") == canonical.count(b"/")
    for segments_of in (canonical, decoded):
        segments_ = segments_of.split(b"/")[1:]
        assert not {b".", b".."} & set(segments_)
        assert b"" not in segments_[:-1]
        assert not any(segment.startswith((b".;", b"..;")) for segment in segments_)


def response_head(data: bytes) -> None:
    to_head, data = bool(data[:1] and data[0] & 1), data[1:]
    try:
        head = parse_response(data, to_head=to_head)
    except Malformed:
        return
    if head is None:
        return
    lines, size = reference.read_lines(data)
    fields = reference.read_fields(lines[1:])
    assert head.size == size
    assert 100 <= head.status <= 599
    named = [name.lower() for name, _ in fields]
    assert named.count(b"content-length") <= 1
    assert not {b"content-length", b"transfer-encoding"} <= set(named)
    assert _all_wait(lambda part: parse_response(part, to_head=to_head), data, size)
    _check_relayed(head, fields, to_head=to_head)


def _check_relayed(head: ResponseHead, fields: list[tuple[bytes, bytes]], *, to_head: bool) -> None:
    relayed = reference.read_fields(head.lines.split(b"\r\n")[:-1])
    assert {(name.lower(), value) for name, value in relayed} <= {(name.lower(), value) for name, value in fields}
    for name, _ in relayed:
        assert name.lower() not in (b"connection", b"transfer-encoding", b"keep-alive", b"upgrade", b"x-request-id")
        assert name.lower() != b"content-length" or to_head
    if to_head or head.status < 200 or head.status in (204, 304):
        assert head.length == 0
    else:
        assert head.length in (CHUNKED, UNTIL_CLOSE) or head.length == int(
            next(value for name, value in fields if name.lower() == b"content-length")
        )
    assert head.body_reader().done == (head.length == 0)


def spool(data: bytes) -> None:
    """Reading goes on to the end of any segment, whatever is in it, and never gives a record that was not sealed."""
    fd = _scratch()
    os.ftruncate(fd, 0)
    os.pwrite(fd, data, 0)
    position = 0
    while position < len(data):
        found = segments.cut(fd, position, finished=True)
        if found.bad is not None:
            assert not found.records
            assert found.bad[0] == position < found.bad[1] <= len(data)
            position = found.bad[1]
        elif found.records:
            for end, record in found.records:
                frame = usage.encode(record)
                assert data[end - len(frame) : end] == frame
                assert position < end
                position = end
        else:
            assert segments.is_blank(fd, position)
            return


@cache
def _scratch() -> int:
    with tempfile.NamedTemporaryFile(delete=False) as file:
        os.unlink(file.name)  # noqa: PTH108
        return os.dup(file.fileno())


def config(data: bytes) -> None:
    """A document is read back as it was written, or refused as one."""
    try:
        document = snapshot.load(data)
    except snapshot.InvalidDocument:
        return
    assert snapshot.load(snapshot.dump(document)) == document


def websocket(data: bytes) -> None:
    """The same verdict however the frames are cut, and the messages that were sent are the ones that are counted."""
    masked, step, data = bool(data[:1] and data[0] & 1), (data[0] >> 1) % 9 + 1 if data else 1, data[1:]
    whole = _read_frames([data], masked=masked)
    pieces = _read_frames([data[at : at + step] for at in range(0, len(data), step)], masked=masked)
    assert whole[0] == pieces[0]
    if whole[0] == 0:
        assert whole == pieces
    mask = b"\x80" if masked else b"\0"
    payload = data[:125]
    frame = b"\x82" + bytes((mask[0] | len(payload),)) + (b"mask" if masked else b"") + payload
    assert _read_frames([frame * 3], masked=masked) == (0, 3, True, False)


def _read_frames(pieces: list[bytes], *, masked: bool) -> tuple[int, int, bool, bool]:
    reader = FrameReader(masked=masked, max_message_bytes=1000)
    try:
        for piece in pieces:
            reader.feed(piece)
    except Violation as violation:
        return violation.code, 0, False, False
    return 0, reader.messages, reader.at_boundary, reader.is_closed


TARGETS: dict[str, Callable[[bytes], None]] = {
    "request_head": request_head,
    "chunked": chunked,
    "path": path,
    "response_head": response_head,
    "spool": spool,
    "config": config,
    "websocket": websocket,
    "gateway": gateway,
}
