"""Bodies: lengths and the chunked coding."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.http.body import ChunkedReader, LengthReader, chunk
from proxy.dataplane.http.malformed import Malformed


def test_length() -> None:
    reader = LengthReader(5)
    assert reader.feed(b"abc") == (b"abc", b"")
    assert not reader.done
    assert reader.feed(b"defg") == (b"de", b"fg")
    assert reader.done


@pytest.mark.requirement("H3.4")
@pytest.mark.parametrize(
    ("raw", "payload", "rest"),
    [
        (b"0\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\nGET", b"hello", b"GET"),
        (b"05\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n", b"hello0123456789", b""),
        (b'5;a=b;c="d e"\r\nhello\r\n0;x\r\n\r\n', b"hello", b""),
        (b"5\r\nhello\r\n0\r\nVary: *\r\nX: y\r\n\r\n", b"hello", b""),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n", b""),
    ],
)
def test_chunked(raw: bytes, payload: bytes, rest: bytes) -> None:
    assert ChunkedReader().feed(raw) == (payload, rest)
    # The same, however the bytes are cut.
    reader, got, left = ChunkedReader(), b"", b""
    for at in range(len(raw)):
        if reader.done:
            left += raw[at : at + 1]
        else:
            piece, extra = reader.feed(raw[at : at + 1])
            got, left = got + piece, left + extra
    assert (got, left, reader.done) == (payload, rest, True)


@pytest.mark.requirement("H3.1", "H3.2", "H3.3")
@pytest.mark.parametrize(
    "raw",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
        b"5 ;a\r\nhello\r\n0\r\n\r\n",
        b"6_0\r\n",
        b"\r\n",
        b";a\r\n",
        b"g\r\n",
        b"5;a\nb\r\nhello\r\n0\r\n\r\n",
        b"5;a\rb\r\nhello\r\n0\r\n\r\n",
        b"80000001\r\n",
        b"10000000000000000\r\n",
        b"5\r\nhelloworld\r\n0\r\n\r\n",
        b"5\r\nhello\n0\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"0\r\nX : y\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX: y\n\r\n",
        b"0\r\n folded: y\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\ntransfer-encoding: chunked\r\n\r\n",
        b"0\r\nHost: a\r\n\r\n",
        b"0\r\n\rX",
        b"1;" + b"a" * 2000,
        b"1;" + b"a" * 2000 + b"\r\n",
        b"0\r\n" + b"X: y\r\n" * 2000,
        b"1;" + b"a" * 500 + b"\r\nx\r\n" + (b"1;" + b"a" * 500 + b"\r\nx\r\n") * 40,
    ],
)
def test_broken(raw: bytes) -> None:
    with pytest.raises(Malformed):
        ChunkedReader().feed(raw)
    # Nor does it help to send it in pieces.
    with pytest.raises(Malformed):
        _feed_bytewise(ChunkedReader(), raw)


def _feed_bytewise(reader: ChunkedReader, raw: bytes) -> None:
    for at in range(len(raw)):
        reader.feed(raw[at : at + 1])


@pytest.mark.requirement("H3.4")
@given(st.lists(st.binary(min_size=1, max_size=40)), st.integers(1, 17))
def test_what_is_chunked_comes_back(pieces: list[bytes], step: int) -> None:
    raw = b"".join(map(chunk, pieces)) + b"0\r\n\r\n"
    reader = ChunkedReader()
    got = b"".join(reader.feed(raw[at : at + step])[0] for at in range(0, len(raw), step))
    assert reader.done
    assert got == b"".join(pieces)
