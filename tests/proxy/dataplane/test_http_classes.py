"""Our own requests, one or more of each class that smuggles, hides or confuses: bytes in, bytes out.

They stand beside the corpora of others, which are not everywhere at hand. Each is sent to a running gateway with a key
that is good, so that only what is wrong with it can keep it from the upstream.
"""

from __future__ import annotations

import asyncio
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import OperationDocument
from proxy.dataplane.http.body import LAST_CHUNK, ChunkedReader, LengthReader, chunk
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.path import canonical_path, without_parameters
from proxy.dataplane.http.request import parse_request
from proxy.dataplane.policies.admit import find_operation
from proxy.dataplane.policies.refusal import Refusal
from proxy.dataplane.routing import OperationTrie
from proxy.dataplane.runtime import Version
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
        ("POST /orders/items HTTP/1.0|Host: g|{key}|Connection: keep-alive|Transfer-Encoding: chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3|Content-Length: 0||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3;q=1||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3,||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 3|Content_Length: 0||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content.Length: 3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer~Encoding: chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding|: chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked,||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: ,chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked;x||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: \"chunked\"||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: \xa0chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked\0||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding:| chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: identity, chunked||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked|Transfer-Encoding: x||0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Connection: Content-Length|Content-Length: 3||abc", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Connection: transfer-encoding||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|Connection: close, Authorization||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|Connection: x-api-key||", 400),
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
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3|abc0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3|abc\n0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3|abc\r0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3;|abc|0\n\n", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked|||3|abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked|| 3|abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3\t|abc|0||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||-0|", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||3_0|", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0;a\0b||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|Transfer-Encoding: x||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|host: x||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|X: y| z||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|X : y||", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|X: y\n\n", 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||0|" + "Xy: yyyyy|" * 900, 400),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Transfer-Encoding: chunked||" + f"1;{'e' * 900}|x|" * 19, 400),
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
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X\t: a||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X\0: a||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a\x0bb||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a\x1bb||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a\r\r||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|\x0bX: a||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: a\n||", 400),
        ("GET /orders/items HTTP/1.1\r\rHost: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g\n{key}||", 400),
        ("G;T /orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("G\0T /orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items\x00 HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/it\xe9ms HTTP/1.1|Host: g|{key}||", 400),
        ("GET HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1 GET /x HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1\t|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1|Host: g|{key}||", 400),
        ("GET /orders/items ICY/1.1|Host: g|{key}||", 400),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        ("PROXY TCP4 1.2.3.4 5.6.7.8 1 2|GET /orders/items HTTP/1.1|Host: g|{key}||", 400),
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
        ("GET http://g:81/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET http://g:80/orders/items HTTP/1.1|Host: g:81|{key}||", 400),
        ("GET https://g:80/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET http://g/orders/items HTTP/1.1|Host: h|Host: g|{key}||", 400),
        ("GET http://g/orders/items HTTP/1.1|{key}||", 400),
        ("GET http://g\\@h/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET http://g#@h/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET http:/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET http:///orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET ftp://g/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET g/orders/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET g:80 HTTP/1.1|Host: g|{key}||", 400),
        ("GET * HTTP/1.1|Host: g|{key}||", 400),
        ("GET ?x HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g:99999|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g:80:80|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g:+80|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: [::1|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: [::1%25lo]|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: [::1]g|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g#h|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g%00h|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g\xe9|{key}||", 400),
        ("GET /orders/items HTTP/1.1|Host: g|Ho_st: h|X: y|host: g|{key}||", 400),
    ],
    "methods and versions": [
        ("get /orders/items HTTP/1.1|Host: g|{key}||", 501),
        ("TRACE /orders/items HTTP/1.1|Host: g|{key}||", 501),
        ("CONNECT g:80 HTTP/1.1|Host: g|{key}||", 501),
        ("PRI * HTTP/2.0||SM||", 505),
        ("GET /orders/items HTTP/1.2|Host: g|{key}||", 505),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|Expect: 200-ok||", 417),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|Expect:||", 417),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Expect: 100-continue, x|Content-Length: 3||abc", 417),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Expect: 100-continue|Expect: 100-continue||", 417),
        ("Get /orders/items HTTP/1.1|Host: g|{key}||", 501),
        ("TRACK /orders/items HTTP/1.1|Host: g|{key}||", 501),
        ("PROPFIND /orders/items HTTP/1.1|Host: g|{key}||", 501),
        ("CONNECT g:80 HTTP/1.1|Host: g:80|{key}||", 501),
        ("GET /orders/items HTTP/2.0|Host: g|{key}||", 505),
        ("GET /orders/items HTTP/0.9|Host: g|{key}||", 505),
        ("GET /orders/items HTTP/9.9|Host: g|{key}||", 505),
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
        ("GET /orders/items/%2e%2e%5cadmin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%u002e%u002e/admin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%e0%80%ae%e0%80%ae/admin HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%ed%a0%80 HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%ff HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%7f HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/% HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%2 HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/%%32%66 HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items/;/../../admin HTTP/1.1|Host: g|{key}||", 404),
        ("GET /orders/;x/items HTTP/1.1|Host: g|{key}||", 400),
        ("GET /orders/items;/../../x HTTP/1.1|Host: g|{key}||", 404),
        ("GET /orders/%2e%2e/x HTTP/1.1|Host: g|{key}||", 404),
        ("GET //orders/..//x HTTP/1.1|Host: g|{key}||", 404),
        ("GET /ORDERS/items HTTP/1.1|Host: g|{key}||", 404),
        ("GET http://g/orders/items/..%2fx HTTP/1.1|Host: g|{key}||", 400),
    ],
    "sizes": [
        ("GET /orders/items?" + "a" * 8200 + " HTTP/1.1|Host: g|{key}||", 414),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: " + "a" * 8200 + "||", 431),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|" + "X: y|" * 101 + "|", 431),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|" + ("X: " + "a" * 4000 + "|") * 9 + "|", 431),
        ("POST /orders/items HTTP/1.1|Host: g|{key}|Content-Length: 10485761||", 413),
        ("GET /orders/items?" + "a&" * 1001 + " HTTP/1.1|Host: g|{key}||", 414),
        ("GET /" + "a" * 9000, 414),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|" + "x" * 9000 + ": y||", 431),
        ("GET /orders/items HTTP/1.1|Host: g|{key}|X: " + "a" * 33000, 431),
    ],
}  # fmt: skip


@pytest.mark.requirement(
    "H1.1",
    "H1.2",
    "H1.3",
    "H1.4",
    "H2.1",
    "H2.2",
    "H2.3",
    "H2.4",
    "H3.1",
    "H3.2",
    "H3.3",
    "H3.5",
    "H6.1",
    "H6.2",
    "H6.3",
    "H7.2",
    "H10.2",
    "H11.2",
    "H12.1",
    "H15.1",
)
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
        assert (gateway.upstream.received, gateway.upstream.connections) == ([], 0), "not a byte"
        assert len(gateway.recorder.records) == len(CASES[name])

    play(tmp_path, scenario)


# --- properties -----------------------------------------------------------------------------------------------------

NAMES = st.text("abcXYZ-_!#", min_size=1, max_size=8).map(lambda text: f"q{text}".encode())
VALUES = st.binary(max_size=20).map(lambda raw: bytes(b for b in raw if b in reference.FIELD_BYTES).strip(b" \t"))


@pytest.mark.requirement("H4.1")
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
    assert (head.body_length, head.block.fields, head.block.passed_on) == (length, fields, lines)


@pytest.mark.requirement("H1.1", "H2.1")
@given(st.binary(max_size=300))
def test_heads_agree_with_the_reference(raw: bytes) -> None:
    raw = b"GET /a HTTP/1.1\r\nHost: h\r\n" + raw + b"\r\n\r\n"
    try:
        head = parse_request(raw)
    except Malformed:
        return
    assert head is not None, "what ends in an empty line is whole or wrong"
    expected = reference.read_request(raw)
    assert (head.size, head.body_length) == (expected.size, reference.body_length(expected))


@pytest.mark.requirement("H3.4")
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


@pytest.mark.requirement("H4.2")
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


@pytest.mark.requirement("H10.3")
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


SERVED = Version(
    snapshot.VersionDocument(
        1, 1, 1, "v1", "published", "/api", snapshot.UpstreamDocument("http://a.test/base"),
        operations=(OperationDocument(1, "GET", "/open/{id}"), OperationDocument(2, "GET", "/files/{rest+}"),
                    OperationDocument(3, "POST", "/closed"), OperationDocument(4, "GET", "/open/{id}/parts")),
    )
)  # fmt: skip
# How servers read a path, one leniency after the other; the last ones after they decoded it.
PLAIN_READINGS: dict[str, Callable[[bytes], bytes]] = {
    "as it stands": lambda path: path,
    "dots resolved": lambda path: resolved(path),
    "parameters dropped": lambda path: re.sub(rb";[^/]*", b"", path),
    "parameters dropped, dots resolved": lambda path: resolved(re.sub(rb";[^/]*", b"", path)),
}
DECODED_READINGS: dict[str, Callable[[bytes], bytes]] = {
    **{f"decoded, {name}": read for name, read in PLAIN_READINGS.items()},
    "decoded, backslashes for slashes": lambda path: resolved(path.replace(b"\\", b"/")),
    "decoded, cut at NUL": lambda path: path.partition(b"\0")[0],
}


def resolved(path: bytes) -> bytes:
    end = b"/" if path.endswith(b"/") else b""
    return posixpath.normpath(path.decode("latin-1")).encode("latin-1").replace(b"//", b"/").rstrip(b"/") + end


SPELLINGS = [
    "/", "//", "/closed", "open", "closed", "api", "parts", "1", ".", "..", "/..", "/../", "%2e", "%2E", "%252e",
    "%2e%2e", "..;", ";", "%3b", ";v=1", "%2f", "%252f", "%5c", "\\", "%00", "%c0%ae", "%u002e", "%6fpen", "%63losed",
    "%c3%a9", "?", "%3f", "#", "%20", "%", "%25", "*", "~", "%7E", "\t", "é", "%EF%BC%8E",
]  # fmt: skip


@pytest.mark.requirement("H10.1", "H10.3")
@settings(max_examples=1000)
@given(st.sampled_from(["", "/api/open/", "/api/files/", "http://g/api/open/"]), st.lists(st.sampled_from(SPELLINGS)))
def test_no_spelling_leads_elsewhere(start: str, parts: list[str]) -> None:
    """From the bytes of a request to those of the next: matched, recorded and forwarded is one path, for any reader."""
    try:
        head = parse_request(f"GET {start}{''.join(parts)} HTTP/1.1\r\nHost: g\r\n\r\n".encode())
        assert head is not None
        if not head.path.startswith(b"/api/"):
            return
        rest = head.path[len(b"/api") :]  # what is recorded, and what is forwarded below the upstream's own path
        operation = find_operation(SERVED, rest, head)
    except (Malformed, Refusal):
        return
    assert operation in (1, 2, 4)
    assert canonical_path(rest) == rest
    for name, read in PLAIN_READINGS.items():
        assert SERVED.trie.find(read(rest), b"GET") == (operation, ()), name
    for name, read in DECODED_READINGS.items():
        # Encoded again, all of it, as nothing that was decoded once is decoded twice.
        found = quote(read(unquote_to_bytes(rest)), safe="/;").encode()
        assert SERVED.trie.find(canonical_path(found), b"GET") == (operation, ()), name
