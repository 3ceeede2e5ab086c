"""Our own requests, one or more of each class that smuggles, hides or confuses: bytes in, bytes out.

They stand beside the corpora of others, which are not everywhere at hand. Each is sent to a running gateway with a key
that is good, so that only what is wrong with it can keep it from the upstream.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apimgr.contracts.snapshot import OperationDocument
from proxy.dataplane.http.body import LAST_CHUNK, ChunkedReader, LengthReader, chunk
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path, without_parameters
from proxy.dataplane.http.request import parse_request
from proxy.dataplane.routing import OperationTrie
from tests.fuzz import reference
from tests.proxy.dataplane.support import Running, read_reply
from tests.proxy.dataplane.test_gateway import last_outcome, play

CASES: dict[str, list[tuple[str, int]]] = {
    "framing": [
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3|Transfer-Encoding: chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked|Content-Length: 5||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3|Content-Length: 3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3|content-length: 4||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3,3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: +3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: -1||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 0x3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3 3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3.0||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 1_0||abcdefghij", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length:||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: \xb3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 99999999999999999999||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content_Length: 3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer_Encoding: chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: identity||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: gzip, chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked, identity||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: xchunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: \x0bchunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: 'chunked'||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding:||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding : chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}| Transfer-Encoding: chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|X: y\nTransfer-Encoding: chunked||0||", 400),
        ("POST /orders/items HTTP/1.0|Host: g|{key}|Transfer-Encoding: chunked||0||", 400),
    ],
    "chunks": [
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3\nabc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3;a\nb|abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3;a\rb|abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||+3|abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0x3|abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3 |abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3|abcd|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||80000001|", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||fffffffffffffffff|", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|Content-Length: 5||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|Bad Trailer: 5||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0\r\rX", 400),
    ],
    "lines": [
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a| folded||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a|\tfolded||", 400),
        ("GET /orders/items HTTP/1.1\nHost: g\n{key}\n\n", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a\rb||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a\0b||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a\x7fb||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X : a||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|: a||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X(y): a||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|\xe9: a||", 400),
        (" GET /orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("|GET /orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1| Host: g|{key}||", 400),
        ("GET\t/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET  /orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items  HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1 |Host: g|{key}||", 400),
        ("GET /orders/ite ms HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/01.1|Host: g|{key}||", 400),
        ("GET /orders/items hTTP/1.1|Host: g|{key}||", 400),
        ("G\xe9T /orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|Connection: a;b||", 400),
    ],
    "hosts": [
        ("GET /orders/items HTTP/1.1|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|Host: h|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g, h|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g@h|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g/x|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host:|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g..h|{key}||", 400),
        ("GET http://h/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET http://u:p@g/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET //h/orders/items HTTP/1.1|Host: g h|{key}||", 400),
    ],
    "methods and versions": [
        ("get /orders/items HTTP/1.1|Host: g|{key}||", 501),
        ("TRACE /orders/items HTTP/1.1|Host: g|{key}||", 501),
        ("CONNECT g:80 HTTP/1.1|Host: g|{key}||", 501),
        ("PRI * HTTP/2.0||SM||", 505),
        ("GET /orders/items HTTP/1.2|Host: g|{key}||", 505),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|Expect: 200-ok||", 417),
    ],
    "paths": [
        ("GET /orders/items/..%2f..%2fadmin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%5c..%5cadmin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items\\..\\admin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/..;/admin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%2e%2e;x/admin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%00 HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%0d%0aX:%20y HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%c0%ae%c0%ae/admin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%uff0e HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/1#x HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items?x#y HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders;x/items HTTP/1.1|Host: g|{key}||", 404),
        ("GET /orders/items;x HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items;x/1 HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items%3Bx HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/../admin HTTP/1.1|Host: g|{key}||", 404),
        ("GET /orders/items/1/%2e%2e/%2e%2e/admin HTTP/1.1|Host: g|{key}||", 404),
    ],
    "sizes": [
        ("GET /orders/items?" + "a" * 8200 + " HTTP/1.1|Host: g|{key}||", 414),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: " + "a" * 8200 + "||", 431),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|" + "X: y|" * 101 + "|", 431),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|" + ("X: " + "a" * 4000 + "|") * 9 + "|", 431),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 10485761||", 413),
    ],
}  # fmt: skip


@pytest.mark.processes
@pytest.mark.parametrize("name", CASES)
def test_refused_and_nothing_at_the_upstream(tmp_path: Path, name: str) -> None:
    async def scenario(gateway: Running) -> None:
        for text, status in CASES[name]:
            raw = text.replace("{key}", f"X-Api-Key: {gateway.world.key}").replace("|", "\r\n").encode("latin-1")
            reader, writer = await gateway.connect()
            writer.write(raw)
            reply = await read_reply(reader)
            assert reply.status == status, text
            assert reply.headers["content-type"] == "application/problem+json"
            if status not in (404, 413) and last_outcome(gateway) != "bad_path":
                writer.write(b"GET /orders/items HTTP/1.1\r\nHost: g\r\n\r\n")
                assert await reader.read() == b"", f"where the next request begins is unknown: {text}"
            writer.close()
        await asyncio.sleep(0.02)
        assert gateway.upstream.received == []
        assert len(gateway.recorder.records) == len(CASES[name])

    play(tmp_path, scenario)


# --- properties -----------------------------------------------------------------------------------------------------

NAMES = st.text("abcXYZ-_!#", min_size=1, max_size=8).map(lambda text: f"q{text}".encode())
VALUES = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if b in reference.FIELD_BYTES).strip(b" \t"))


@given(
    st.sampled_from([b"GET", b"POST", b"DELETE"]),
    st.lists(st.tuples(NAMES, VALUES), max_size=8),
    st.integers(0, 1 << 20),
)
def test_a_valid_request_comes_through_unchanged(method: bytes, fields: list[tuple[bytes, bytes]], length: int) -> None:
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    raw = method + b" /a?b HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n" % length + lines + b"\r\n"
    head = parse_request(raw + b"rest")
    assert head is not None
    assert (head.method, head.path, head.query, head.size) == (method, b"/a", b"?b", len(raw))
    assert (head.block.body_length, head.block.fields, head.block.passed_on) == (length, fields, lines)


@given(st.binary(max_size=300))
def test_heads_agree_with_the_reference(raw: bytes) -> None:
    raw = b"GET /a HTTP/1.1\r\nHost: h\r\n" + raw + b"\r\n\r\n"
    try:
        head = parse_request(raw)
    except Malformed:
        return
    assert head is not None, "what ends in an empty line is whole or wrong"
    expected = reference.read_request(raw)
    assert (head.size, head.block.body_length) == (expected.size, reference.body_length(expected))


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.integers(1, 9))
def test_chunks_are_read_back_however_they_are_cut(pieces: list[bytes], step: int) -> None:
    raw = b"".join(map(chunk, pieces)) + LAST_CHUNK
    assert reference.read_chunked(raw) == (b"".join(pieces), b"")
    reader, payload = ChunkedReader(), b""
    for at in range(0, len(raw), step):
        got, rest = reader.feed(raw[at : at + step])
        payload += got
        assert rest == b""
    assert (payload, reader.done) == (b"".join(pieces), True)


@given(st.binary(max_size=60), st.binary(max_size=60), st.integers(0, 80))
def test_a_reader_never_gives_more_than_was_declared(first: bytes, second: bytes, length: int) -> None:
    reader = LengthReader(length)
    got, rest = reader.feed(first)
    if not reader.done:
        more, rest = reader.feed(second)
        got += more
        assert got + rest == first + second
    else:
        assert got + rest == first
    assert len(got) <= length
    assert reader.done is (len(got) == length)


TRIE = OperationTrie((OperationDocument(1, "GET", "/open/{id}"), OperationDocument(2, "GET", "/files/{rest+}")))


@settings(max_examples=400)
@given(st.lists(st.sampled_from(
    ["/", "open", "closed", "files", "1", ".", "..", "%2e", "%2E%2e", ";", "%3b", "%2f", "%5c", "%63losed", "é", "x"]
)).map("".join))  # fmt: skip
def test_no_spelling_reaches_what_is_not_described(path: str) -> None:
    """However a server reads what we forward (dropping parameters, decoding once), we found the same operation."""
    try:
        canonical = canonical_path(b"/" + path.encode())
    except Malformed:
        return
    operation = TRIE.find(canonical, b"GET")
    plain = without_parameters(canonical)
    if not operation[0] or TRIE.find(plain, b"GET") != operation:
        return  # refused
    for read in (canonical, plain):
        segments = read.split(b"/")
        assert segments[1] in (b"open", b"files")
        assert not {b"..", b"."} & set(segments)
        assert segments[1] != b"closed"
