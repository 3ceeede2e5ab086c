"""What is valid, byte for byte on the other side: requests as the upstream gets them, responses as the caller does."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from proxy.dataplane.http.body import ChunkedReader
from tests.proxy.dataplane.support import PATIENCE, Running, World, read_reply, response
from tests.proxy.dataplane.test_gateway import play

pytestmark = pytest.mark.processes

# A request without Host, key and final CRLF; what the upstream gets beside what every request carries; and the body.
Case = tuple[str, bytes, list[str], bytes]

REQUESTS: dict[str, Case] = {
    "plain": ("GET /orders/items?a=%2f&b HTTP/1.1", b"", ["GET /base/items?a=%2f&b HTTP/1.1"], b""),
    "HTTP/1.0": ("GET /orders/items HTTP/1.0", b"", ["GET /base/items HTTP/1.1"], b""),
    "HTTP/1.0 that stays": (
        "GET /orders/items HTTP/1.0|Connection: keep-alive",
        b"",
        ["GET /base/items HTTP/1.1"],
        b"",
    ),
    "absolute": ("GET HTTP://G:80/orders/items?x HTTP/1.1", b"", ["GET /base/items?x HTTP/1.1"], b""),
    "absolute without a path": ("GET http://g?x HTTP/1.1", b"", [], b""),  # 404: nothing at the upstream
    "every spelling of one path": (
        "GET //orders/./x/..//%69tems/%41%2d%7e%5f HTTP/1.1",
        b"",
        ["GET /base/items/A-~_ HTTP/1.1"],
        b"",
    ),
    "dots that are none": ("GET /orders/items/...%20..a HTTP/1.1", b"", ["GET /base/items/...%20..a HTTP/1.1"], b""),
    "encoded twice is data": (
        "GET /orders/items/%252e%252e%252fx HTTP/1.1",
        b"",
        ["GET /base/items/%252e%252e%252fx HTTP/1.1"],
        b"",
    ),
    "UTF-8 in lower case": ("GET /orders/items/%c3%a9 HTTP/1.1", b"", ["GET /base/items/%C3%A9 HTTP/1.1"], b""),
    "odd but plain values": (
        "GET /orders/items HTTP/1.1|X-Empty:|X-Tabs:\t a\tb \t|X-Obs: \xe9\xff|!#$%&'*+-.^_`|~: x".replace("`|~", "`~"),
        b"",
        ["GET /base/items HTTP/1.1", "X-Empty: ", "X-Tabs: a\tb", "X-Obs: \xe9\xff", "!#$%&'*+-.^_`~: x"],
        b"",
    ),
    "repeated fields": (
        "GET /orders/items HTTP/1.1|Accept: a|X-A: 1|accept: b|X-A: 2",
        b"",
        ["GET /base/items HTTP/1.1", "Accept: a", "X-A: 1", "accept: b", "X-A: 2"],
        b"",
    ),
    "a long name": (
        f"GET /orders/items HTTP/1.1|{'n' * 5000}: x",
        b"",
        ["GET /base/items HTTP/1.1", "n" * 5000 + ": x"],
        b"",
    ),
    "hop by hop": (
        (
            "GET /orders/items HTTP/1.1|Connection: close, X-Hop ,, cookie|X-Hop: 1|X-HOP: 2|Cookie: c|Keep-Alive: 5"
            "|TE: gzip|Trailer: X|Proxy-Authorization: x|Proxy-Connection: x|Proxy: http://evil|Upgrade: h2c"
            "|HTTP2-Settings: AA|X: 1"
        ),
        b"",
        ["GET /base/items HTTP/1.1", "X: 1"],
        b"",
    ),
    "a list that names what we add": (
        "GET /orders/items HTTP/1.1|Connection: X-Consumer-Id, X-Forwarded-For, X-Request-Id, X-Forwarded-Host",
        b"",
        ["GET /base/items HTTP/1.1"],
        b"",
    ),
    "identities": (
        (
            "GET /orders/items HTTP/1.1|X-Forwarded-For: 6.6.6.6|X-Forwarded-Proto: https|X-Forwarded-Port: 1"
            "|Forwarded: for=x|X-Real-IP: 6.6.6.6|X-Consumer-Id: root|X-Api-User: root|X_Consumer_Id: root"
            "|X.Real~IP: 6.6.6.6|X-Request-Id: x|X-Original-URL: /admin|X-Rewrite-URL: /admin|X-Remote-User: root"
            "|Remote_User: root|X-Client-IP: x|X-Keep: 1"
        ),
        b"",
        ["GET /base/items HTTP/1.1", "X-Keep: 1"],
        b"",
    ),
    "other methods in disguise": (
        "GET /orders/items HTTP/1.1|X-HTTP-Method-Override: DELETE|X-HTTP-Method: DELETE|X_Method_Override: DELETE",
        b"",
        ["GET /base/items HTTP/1.1"],
        b"",
    ),
    "credentials of another kind": (
        "GET /orders/items HTTP/1.1|Authorization: Basic eA==",
        b"",
        ["GET /base/items HTTP/1.1", "Authorization: Basic eA=="],
        b"",
    ),
    "no body where one is usual": (
        "POST /orders/items HTTP/1.1",
        b"",
        ["POST /base/items HTTP/1.1", "Content-Length: 0"],
        b"",
    ),
    "length with zeroes": (
        "POST /orders/items HTTP/1.1|content-LENGTH: 005",
        b"hello",
        ["POST /base/items HTTP/1.1", "Content-Length: 5"],
        b"hello",
    ),
    "a body where none is usual": (
        "GET /orders/items HTTP/1.1|Content-Length: 5",
        b"hello",
        ["GET /base/items HTTP/1.1", "Connection: close", "Content-Length: 5"],
        b"hello",
    ),
    "chunks with extensions and trailers": (
        "POST /orders/items HTTP/1.1|Transfer-Encoding: CHUNKED",
        b'005;a="b;c";d\r\nhello\r\n0;x\r\nX-T: 1\r\nX-Admin: 1\r\n\r\n',
        ["POST /base/items HTTP/1.1", "Transfer-Encoding: chunked"],
        b"5\r\nhello\r\n0\r\n\r\n",
    ),
    "an empty chunked body": (
        "POST /orders/items HTTP/1.1|Transfer-Encoding: chunked",
        b"0\r\n\r\n",
        ["POST /base/items HTTP/1.1", "Transfer-Encoding: chunked"],
        b"0\r\n\r\n",
    ),
    "an expectation with its body": (
        "POST /orders/items HTTP/1.1|Expect: 100-Continue|Content-Length: 5",
        b"hello",
        ["POST /base/items HTTP/1.1", "Content-Length: 5"],
        b"hello",
    ),
}


def always(gateway: Running) -> list[str]:
    """The fields of every request that is passed on."""
    port = gateway.world.version.upstream.url.rpartition(":")[2].partition("/")[0]
    return [f"Host: 127.0.0.1:{port}", "X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: g",
            "X-Request-Id: ?", "Via: 1.1 apimgr-test"]  # fmt: skip


async def send(gateway: Running, head: str, body: bytes) -> None:
    """One request on a connection of its own, until it is answered."""
    reader, writer = await gateway.connect()
    raw = (
        head.replace("|", "\r\n").encode("latin-1") + f"\r\nHost: g\r\nX-Api-Key: {gateway.world.key}\r\n\r\n".encode()
    )
    writer.write(raw + body)
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE)
    writer.close()


@pytest.mark.requirement("H3.4", "H4.1", "H4.2", "H7.1", "H7.2", "H8.1", "H9.1", "H10.1", "H11.1", "M4", "M5", "M7")
@pytest.mark.parametrize("authentication", ["key", "none"])
@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_is_rebuilt(tmp_path: Path, what: str, authentication: str) -> None:
    """Exactly these lines, in any order, one framing field at most, and a body of just the bytes it announces."""
    head, body, expected, expected_body = REQUESTS[what]
    world = World()
    world.version = replace(world.version, authentication=authentication)  # type: ignore[arg-type]

    async def scenario(gateway: Running) -> None:
        await send(gateway, head, body)
        if not expected:
            assert gateway.upstream.received == []
            return
        (sent,) = gateway.upstream.received
        found_head, _, found_body = sent.partition(b"\r\n\r\n")
        lines = found_head.decode("latin-1").split("\r\n")
        assert lines[0] == expected[0]
        lines = [line if not line.startswith("X-Request-Id: ") else "X-Request-Id: ?" for line in lines]
        assert sorted(lines) == sorted(expected + always(gateway))
        assert found_body == expected_body
        lengths = [line for line in lines if line.lower().startswith(("content-length", "transfer-encoding"))]
        assert len(lengths) <= 1
        assert not lengths[:1] or lengths in (["Transfer-Encoding: chunked"], [f"Content-Length: {len(found_body)}"])

    play(tmp_path, scenario, world)


@pytest.mark.requirement("H4.1", "M5")
def test_it_does_not_matter_how_a_request_is_cut(tmp_path: Path) -> None:
    """In two pieces, at every byte: the same head and the same payload reach the upstream."""

    async def scenario(gateway: Running) -> None:
        head = f"POST /orders/items HTTP/1.1\r\nHost: g\r\nX-Api-Key: {gateway.world.key}\r\n".encode()
        for framing, body in (
            (b"Content-Length: 5\r\n\r\n", b"hello"),
            (b"Transfer-Encoding: chunked\r\n\r\n", b"2;x\r\nhe\r\n3\r\nllo\r\n0\r\nX: y\r\n\r\n"),
        ):
            raw = head + framing + body
            for cut in range(len(head), len(raw)):
                gateway.upstream.received.clear()
                reader, writer = await gateway.connect()
                writer.write(raw[:cut])
                await asyncio.sleep(0.002)
                writer.write(raw[cut:])
                assert (await read_reply(reader)).status == 200, cut
                writer.close()
                (sent,) = gateway.upstream.received
                sent_head, _, sent_body = sent.partition(b"\r\n\r\n")
                assert framing.strip() in sent_head
                assert (decoded(sent_body) if b"chunked" in framing else sent_body) == b"hello", cut

    play(tmp_path, scenario)


def decoded(body: bytes) -> bytes:
    reader = ChunkedReader()
    payload, rest = reader.feed(body)
    assert (reader.done, rest) == (True, b"")
    return payload


# --- responses ------------------------------------------------------------------------------------------------------

CLOSE, KEEP = "Connection: close", "Connection: keep-alive"

# What the upstream sends before it closes; method and version of the caller; the lines and the body it gets.
Answer = tuple[bytes, str, list[str], bytes]
ANSWERS: dict[str, Answer] = {
    "a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Content-Length: 2"],
        b"ok",
    ),
    "a length, spelled and placed oddly": (
        b"HTTP/1.1 200\r\nA: b\r\ncontent-length:\t002 \r\nDate: d\r\n\r\nok",
        "GET 1.1",
        ["HTTP/1.1 200 ", "A: b", "Date: d", "Content-Length: 2"],
        b"ok",
    ),
    "chunks": (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-T: 1\r\n\r\n",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"],
        b"2\r\nok\r\n0\r\n\r\n",
    ),
    "chunks for HTTP/1.0": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "GET 1.0",
        ["HTTP/1.1 200 OK", CLOSE],
        b"ok",
    ),
    "until it closes": (
        b"HTTP/1.1 200 OK\r\n\r\nok",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"],
        b"2\r\nok\r\n0\r\n\r\n",
    ),
    "until it closes, in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nok",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Transfer-Encoding: chunked"],
        b"2\r\nok\r\n0\r\n\r\n",
    ),
    "until it closes, for HTTP/1.0": (b"HTTP/1.1 200 OK\r\n\r\nok", "GET 1.0", ["HTTP/1.1 200 OK", CLOSE], b"ok"),
    "a length for HTTP/1.0": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "GET 1.0",
        ["HTTP/1.1 200 OK", "Content-Length: 2", CLOSE],
        b"ok",
    ),
    "HEAD with a length": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n",
        "HEAD 1.1",
        ["HTTP/1.1 200 OK", "Content-Length: 9"],
        b"",
    ),
    "HEAD without": (b"HTTP/1.1 200 OK\r\n\r\n", "HEAD 1.1", ["HTTP/1.1 200 OK"], b""),
    "HEAD with chunks": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HEAD 1.1",
        ["HTTP/1.1 200 OK"],
        b"",
    ),
    "HEAD with a body": (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HEAD 1.1",
        ["HTTP/1.1 200 OK", "Content-Length: 2"],
        b"",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n", "GET 1.1", ["HTTP/1.1 204 No Content", "A: b"], b""),
    "204 with a body": (b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nok", "GET 1.1", ["HTTP/1.1 204 No"], b""),
    "304": (
        b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 9\r\n\r\n",
        "GET 1.1",
        ["HTTP/1.1 304 Not Modified", "ETag: x"],
        b"",
    ),
    "205": (
        b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
        "GET 1.1",
        ["HTTP/1.1 205 Reset", "Content-Length: 0"],
        b"",
    ),
    "hop by hop": (
        (
            b"HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: x\r\n"
            b"Proxy-Status: x\r\nProxy-Connection: x\r\nTE: x\r\nTrailer: X\r\nUpgrade: h2c\r\nX-Request-Id: x\r\n"
            b"RateLimit: x\r\nX: 1\r\nContent-Length: 0\r\n\r\n"
        ),
        "GET 1.1",
        ["HTTP/1.1 200 OK", "X: 1", "Content-Length: 0"],
        b"",
    ),
    "a list that names what we add": (
        b"HTTP/1.1 200 OK\r\nConnection: X-Request-Id, Content-Length\r\nContent-Length: 2\r\n\r\nok",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Content-Length: 2"],
        b"ok",
    ),
    "cookies stay apart": (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nset-cookie: b=2, c\r\nContent-Length: 0\r\n\r\n",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Set-Cookie: a=1", "set-cookie: b=2, c", "Content-Length: 0"],
        b"",
    ),
    "a very long reason": (
        b"HTTP/1.1 200 " + b"x" * 5000 + b"\r\nContent-Length: 0\r\n\r\n",
        "GET 1.1",
        ["HTTP/1.1 200 ", "Content-Length: 0"],
        b"",
    ),
    "its own words about itself": (
        b"HTTP/1.1 500 X\r\nServer: s/1\r\nX-Powered-By: p\r\nContent-Length: 0\r\n\r\n",
        "GET 1.1",
        ["HTTP/1.1 500 X", "Server: s/1", "X-Powered-By: p", "Content-Length: 0"],
        b"",
    ),
    "an interim response first": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Content-Length: 0"],
        b"",
    ),
    "interim responses to HTTP/1.0": (
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "GET 1.0",
        ["HTTP/1.1 200 OK", "Content-Length: 0", CLOSE],
        b"",
    ),
    "a second response right behind": (
        response(b"ok") + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        "GET 1.1",
        ["HTTP/1.1 200 OK", "Content-Type: application/json", "Content-Length: 2"],
        b"ok",
    ),
}


@pytest.mark.requirement("H7.1", "H17.1", "H17.2", "M2", "M3", "M5", "M6")
@pytest.mark.parametrize("what", ANSWERS)
def test_a_response_is_rebuilt(tmp_path: Path, what: str) -> None:
    """Exactly these lines, in any order, X-Request-Id and a date; nothing that says what the gateway is made of."""
    answer, asked, expected, body = ANSWERS[what]
    method, version = asked.split()

    async def scenario(gateway: Running) -> None:
        gateway.upstream.reply = answer
        gateway.upstream.close_after = True
        reader, writer = await gateway.connect()
        key = f"Host: g\r\nX-Api-Key: {gateway.world.key}\r\n"
        # A second request shows where the first response ends.
        writer.write(f"{method} /orders/items HTTP/{version}\r\n{key}\r\n".encode())
        if version == "1.1":
            writer.write(f"GET /nowhere HTTP/1.1\r\n{key}Connection: close\r\n\r\n".encode())
        raw = await asyncio.wait_for(reader.read(), PATIENCE)
        first = raw.partition(b"HTTP/1.1 404 Not Found\r\n")[0] if version == "1.1" else raw
        assert version == "1.0" or first != raw, "the second one was answered, too"
        head, _, found = first.partition(b"\r\n\r\n")
        lines = [line for line in head.decode("latin-1").split("\r\n") if not line.startswith("X-Request-Id: ")]
        assert lines[0] == expected[0]
        if b"Date: " not in answer:
            (date,) = (line for line in lines if line.startswith("Date: "))
            assert abs(parsedate_to_datetime(date[6:]).timestamp() - time.time()) < 60
            lines.remove(date)
        assert sorted(lines) == sorted(expected)
        assert head.count(b"X-Request-Id: ") == 1
        assert found == body

    play(tmp_path, scenario, World())
