"""The head of a response: what is taken out for remembering comes back, and no second framing hides behind it."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest

from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.response import CHUNKED, MAX_HEAD, UNTIL_CLOSE, ResponseHead, parse_response


def parsed(*lines: str, status: str = "200 OK", to_head: bool = False) -> ResponseHead:
    raw = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *lines, "")).encode("latin-1")
    head = parse_response(raw, to_head=to_head)
    assert head is not None
    assert head.size == len(raw)
    return head


@pytest.mark.parametrize(
    ("lines", "length", "passed_on"),
    [
        (["Content-Length: 5"], 5, b""),
        (["content-length:  5 ", "date: now "], 5, b"date: now\r\n"),
        (["CONTENT-LENGTH:5", "DATE:now"], 5, b"DATE: now\r\n"),
        (["Date: now", "Server: s", "Content-Length: 5", "Connection: keep-alive"], 5, b"Date: now\r\nServer: s\r\n"),
        (["Date: one", "Date: two"], UNTIL_CLOSE, b"Date: one\r\nDate: two\r\n"),
        (["Connection: date, x-hop", "Date: now", "X-Hop: 1", "X-Kept: 2"], UNTIL_CLOSE, b"X-Kept: 2\r\n"),
        (["X-Text: Content-Length: 7", "Content-Length: 5"], 5, b"X-Text: Content-Length: 7\r\n"),
        (["Transfer-Encoding: chunked", "Trailer: x"], CHUNKED, b""),
        ([], UNTIL_CLOSE, b""),
    ],
)
def test_fields(lines: list[str], length: int, passed_on: bytes) -> None:
    for _ in range(2):  # the second time it is remembered
        head = parsed(*lines)
        assert (head.length, head.lines) == (length, passed_on)


def test_what_differs_from_response_to_response_is_no_part_of_what_is_remembered() -> None:
    first, second = (
        parsed("Server: s", f"ETag: {n}", f"content-length: {n}", f"Set-Cookie: a={n}", f"set-cookie: b={n}",
               f"X-Request-Id: {n}", f"Last-Modified: {n}", "Connection: last-modified")
        for n in (1, 2)
    )  # fmt: skip
    assert first.block is second.block
    assert (first.length, second.length) == (1, 2)
    assert second.lines == b"Server: s\r\nETag: 2\r\nSet-Cookie: a=2\r\nset-cookie: b=2\r\n"


@pytest.mark.parametrize(("size", "responses"), [(900, 2_100), (8_000, 260)], ids=["in a block that is kept", "longer"])
def test_a_flood_of_connection_options_takes_no_memory(size: int, responses: int) -> None:
    """What an upstream lists must not fill the memory of a worker, however often it lists other names (H12)."""
    names = ",".join(map("".join, itertools.product("abcdefghijklm", repeat=3)))[: size // 4 * 4 - 1]
    tracemalloc.start()
    try:
        for number in range(responses):
            assert parsed(f"Connection: x{number},{names},etag", "ETag: 1", "X-A: 1").lines == b"X-A: 1\r\n"
        assert tracemalloc.get_traced_memory()[0] < 8 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_long_reason_is_left_out() -> None:
    assert parsed(status="200 Very well").status_line == b"HTTP/1.1 200 Very well\r\n"
    assert parsed(status="200").status_line == parsed(status="200 " + "x" * 129).status_line == b"HTTP/1.1 200 \r\n"


def test_a_head_request_is_told_the_length() -> None:
    head = parsed("Content-Length: 5", "X-A: 1", to_head=True)
    assert (head.length, head.lines) == (0, b"X-A: 1\r\nContent-Length: 5\r\n")
    assert parsed("Content-Length: 7", "X-A: 1").lines == b"X-A: 1\r\n", "what is remembered was not changed"


@pytest.mark.requirement("H5.2", "H17.1")
@pytest.mark.parametrize(
    "lines",
    [
        ["Content-Length: 5", "Content-Length: 5"],
        ["Content-Length: 5", "content-length: 6"],
        ["CONTENT-LENGTH: 5", "Content-Length: 5"],
        ["Content-Length: 5", "Transfer-Encoding: chunked"],
        ["Content-Length: "],
        ["Content-Length: 5, 5"],
        ["Content-Length: +5"],
        ["Content-Length: 5\x00"],
        ["Transfer-Encoding: gzip, chunked"],
        ["Connection: a b"],
        [f"X-{n}: 1" for n in range(201)],
        ["X: " + "x" * MAX_HEAD],
    ],
)
def test_refused(lines: list[str]) -> None:
    for _ in range(2):
        with pytest.raises(Malformed):
            parsed(*lines)
