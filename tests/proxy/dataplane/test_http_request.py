"""Request heads, byte for byte."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.dataplane.http import fields as f
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.pieces import worth_another_try
from proxy.dataplane.http.request import CHUNKED, RequestHead, parse_request
from tests.fuzz import reference


def parse(raw: bytes) -> RequestHead:
    head = parse_request(raw)
    assert head is not None
    return head


def head(*lines: str, start: str = "GET /a HTTP/1.1", host: bool = True) -> bytes:
    return "\r\n".join((start, *(["Host: h"] if host else []), *lines, "", "")).encode("latin-1")


def test_parts() -> None:
    parsed = parse(head("Accept: */*", "X-Two:\tb \t", start="POST /a/b?c=d&e HTTP/1.1") + b"rest")
    assert (parsed.method, parsed.path, parsed.query, parsed.host) == (b"POST", b"/a/b", b"?c=d&e", "h")
    assert parsed.block.fields == [(b"Accept", b"*/*"), (b"X-Two", b"b")]
    assert parsed.block.passed_on == b"Accept: */*\r\nX-Two: b\r\n"
    assert parsed.block.keep_alive
    assert parsed.size == len(head("Accept: */*", "X-Two:\tb \t", start="POST /a/b?c=d&e HTTP/1.1"))


@pytest.mark.requirement("H1.2")
@pytest.mark.parametrize(
    ("lines", "length"),
    [
        ([], 0),
        (["Content-Length: 0"], 0),
        (["content-LENGTH: 12"], 12),
        (["Content-Length: 0012"], 12),
        (["Transfer-Encoding: chunked"], CHUNKED),
        (["Transfer-Encoding: Chunked"], CHUNKED),
    ],
)
def test_body_length(lines: list[str], length: int) -> None:
    assert parse(head(*lines)).body_length == length


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [([], True), (["Connection: close"], False), (["Connection: a, CLOSE"], False), (["Connection: keep-alive"], True)],
)
def test_keep_alive(lines: list[str], keep_alive: bool) -> None:
    assert parse(head(*lines)).block.keep_alive is keep_alive
    is_kept = "Connection: keep-alive" in lines
    assert parse(head(*lines, start="GET /a HTTP/1.0")).block.keep_alive is is_kept


@pytest.mark.requirement("H7.1")
def test_connection_names_are_dropped() -> None:
    block = parse(head("Connection: X-Hop, keep-alive", "x-hop: 1", "X-Kept: 1")).block
    assert block.fields == [(b"X-Kept", b"1")]
    assert block.passed_on == b"X-Kept: 1\r\n"


@pytest.mark.requirement("H6.3")
@pytest.mark.parametrize(
    ("host", "canonical"),
    [
        ("Example.COM", "example.com"),
        ("a.b:8080", "a.b"),
        ("[::1]:80", "[::1]"),
        ("h.", "h"),
        ("10.0.0.1", "10.0.0.1"),
        ("[0:0:0:0:0:0:0:1]", "[::1]"),
        ("[2001:DB8::0a]", "[2001:db8::a]"),
    ],
)
def test_hosts(host: str, canonical: str) -> None:
    assert parse(head(f"Host: {host}", host=False)).host == canonical


@pytest.mark.requirement("H6.1")
@pytest.mark.parametrize(
    "host",
    [
        "",
        "a b",
        "a@b",
        "a/b",
        "a:b",
        "a:99999",
        "[::1",
        "a,b",
        "é",
        "a:80:80",
        "a#b",
        ".",
        "a..b",
        ".a",
        "[::1::]",
        "[1.2.3.4]",
        "a:",
        "[::1%25eth0]",
        "*",
    ],
)
def test_bad_hosts(host: str) -> None:
    with pytest.raises(Malformed):
        parse_request(head(f"Host: {host}", host=False))


def test_as_many_fields_as_there_may_be() -> None:
    assert parse(head(*(f"A{n}: b" for n in range(50)), *(["Cookie: a"] * 49))).block.host == "h"


@pytest.mark.requirement("H6.2", "M7")
def test_absolute_form() -> None:
    parsed = parse(head(start="GET http://H:80/x?y HTTP/1.1"))
    assert (parsed.path, parsed.query, parsed.host) == (b"/x", b"?y", "h")
    assert parse(head(start="GET http://h?y HTTP/1.1")).path == b"/"
    assert parse(head("Host: h:80", start="GET http://h./ HTTP/1.1", host=False)).host == "h"
    assert parse(head("Host: h", start="GET https://h:443/ HTTP/1.1", host=False)).host == "h"
    assert parse(head("Host: h:8080", start="GET http://H:8080/ HTTP/1.1", host=False)).host == "h"
    assert parse(head("Host: [::1]:8080", start="GET http://[0::1]:8080/ HTTP/1.1", host=False)).host == "[::1]"
    for target in ("http://other/x", "http://user@h/x", "ftp://h/x", "h:443", "x", "*", "http:///x"):
        with pytest.raises(Malformed):
            parse_request(head(start=f"GET {target} HTTP/1.1"))


@pytest.mark.requirement("H1.1", "H1.2", "H1.3", "H2.1", "H2.2", "H2.3", "H2.4", "H12.1")
@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (head(host=False), "bad_request"),
        (head("Host: h"), "bad_request"),
        (head("Content-Length: 5", "Content-Length: 5"), "bad_request"),
        (head("Content-Length: 5, 5"), "bad_request"),
        (head("Content-Length: +5"), "bad_request"),
        (head("Content-Length: -5"), "bad_request"),
        (head("Content-Length: 0x5"), "bad_request"),
        (head("Content-Length: 1_0"), "bad_request"),
        (head("Content-Length: "), "bad_request"),
        (head("Content-Length: \xb2"), "bad_request"),
        (head("Content-Length: 5", "Transfer-Encoding: chunked"), "bad_request"),
        (head("Transfer-Encoding: chunked, chunked"), "bad_request"),
        (head("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), "bad_request"),
        (head("Transfer-Encoding: gzip, chunked"), "bad_request"),
        (head("Transfer-Encoding: chunked;q=1"), "bad_request"),
        (head("Transfer-Encoding: \x0bchunked"), "bad_request"),
        (head("Transfer-Encoding: chunked", start="GET /a HTTP/1.0"), "bad_request"),
        (head("Transfer_Encoding: chunked"), "bad_request"),
        (head("Content_Length: 5"), "bad_request"),
        (head("A : b"), "bad_request"),
        (head(": b"), "bad_request"),
        (head("A\x00: b"), "bad_request"),
        (head("A: b\x00c"), "bad_request"),
        (head("A: b\rc"), "bad_request"),
        (head("A: b\nc: d"), "bad_request"),
        (head("A: b", " folded"), "bad_request"),
        (head("(A): b"), "bad_request"),
        (head("A"), "bad_request"),
        (head("Connection: a b"), "bad_request"),
        (head("Content-Type: a", "Content-Type: b"), "bad_request"),
        (b"GET /a HTTP/1.1\r\n Host: h\r\n\r\n", "bad_request"),
        (b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", "bad_request"),
        (b"GET /a\tHTTP/1.1\r\nHost: h\r\n\r\n", "bad_request"),
        (b"GET /a HTTP/1.1 \r\nHost: h\r\n\r\n", "bad_request"),
        (b"GET /a http/1.1\r\nHost: h\r\n\r\n", "bad_request"),
        (b"GET /a\r\n", "bad_request"),
        (b"G@T /a HTTP/1.1\r\nHost: h\r\n\r\n", "bad_request"),
        (b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", "bad_request"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "bad_request"),
        (b"GET /a HTTP/1.2\r\nHost: h\r\n\r\n", "version_not_supported"),
        (b"GET /a HTTP/3.0\r\nHost: h\r\n\r\n", "version_not_supported"),
        (head(start="Get /a HTTP/1.1"), "method_not_implemented"),
        (head(start="CONNECT h:1 HTTP/1.1"), "method_not_implemented"),
        (head("Expect: 100-continue, x"), "expectation_failed"),
        (b"GET /" + b"a" * 9000, "uri_too_long"),
        (head("A: " + "b" * 9000), "head_too_large"),
        (head(*(f"A{n}: {'b' * 500}" for n in range(80))), "head_too_large"),
        (b"GET /a HTTP/1.1\r\n" + b"A: b\r\n" * 6000, "head_too_large"),
        (head(*(f"A{n}: b" for n in range(100))), "head_too_large"),
        (head(*(f"A{n}: b" for n in range(50)), *(["Cookie: a"] * 50)), "head_too_large"),
        (head(start="GET /a#b HTTP/1.1"), "bad_path"),
        (head(start="GET /a?b#c HTTP/1.1"), "bad_path"),
    ],
)
def test_malformed(raw: bytes, code: str) -> None:
    with pytest.raises(Malformed) as caught:
        parse_request(raw)
    assert caught.value.code == code


WHOLE = head("Accept: */*", "X-Api-Key: k", "Content-Length: 3", start="POST /a/b?c HTTP/1.1")


@pytest.mark.parametrize("cut", range(1, len(WHOLE)))
def test_every_beginning_waits_for_more(cut: int) -> None:
    assert parse_request(WHOLE[:cut]) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_parsed_refused_or_awaited(raw: bytes) -> None:
    try:
        parsed = parse_request(raw)
    except Malformed:
        return
    assert parsed is None or raw[: parsed.size].endswith(b"\r\n\r\n")


@pytest.mark.requirement("H2.3")
@given(st.lists(st.sampled_from([b"GET", b" ", b"/", b"HTTP/1.1", b"\r\n", b"\n", b"Host: a", b":", b"\0", b"a"])))
def test_near_misses_never_pass_control_characters(parts: list[bytes]) -> None:
    try:
        parsed = parse_request(b"".join(parts))
    except Malformed:
        return
    if parsed is not None:
        assert b"\0" not in b"".join(parts)[: parsed.size]
        assert b"\n" not in b"".join(parts)[: parsed.size].replace(b"\r\n", b"")


def test_what_a_proxy_says_of_each_caller_does_not_make_another_block() -> None:
    one, other = (parse(head("Accept: a", f"X-Forwarded-For: 192.0.2.{n}", "X-Forwarded-Proto: https")) for n in (1, 2))
    assert one.block is other.block
    assert one.forwarded == ((b"X-Forwarded-For", b"192.0.2.1"),)
    assert one.block.forwarded == ((b"X-Forwarded-Proto", b"https"),)
    assert one.block.passed_on + one.own_lines == b"Accept: a\r\n"


@pytest.mark.requirement("H12.3")
def test_a_flood_of_names_is_not_remembered() -> None:
    """What a name means is remembered; that of strangers' inventions must neither fill the memory nor stay (H12)."""
    f._remembered.clear()
    for number in range(0, 3 * f.REMEMBER_AT_MOST, 50):
        parse(head(*(f"N{number + at}: x" for at in range(50))))
        parse(head("X" * 8000 + f"{number}: x"))
    assert 0 < len(f._remembered) <= f.REMEMBER_AT_MOST
    assert max(map(len, f._remembered)) <= f.LONGEST_REMEMBERED
    assert parse(head("X-Forwarded-For: x", "X-Kept: y")).block.fields == [(b"X-Kept", b"y")]


@pytest.mark.requirement("H8.1")
@pytest.mark.parametrize(
    "name",
    ["X_Forwarded_For", "X.Forwarded~For", "x_forwarded-for", "X!Real!IP", "X_Api_Key", "x|consumer|id", "Forwarded",
     "PROXY", "Proxy_Connection", "HTTP2_Settings"],
)  # fmt: skip
def test_other_spellings_of_what_is_ours_to_state_are_dropped(name: str) -> None:
    assert parse(head(f"{name}: x")).block.passed_on == b""


# --- fields that differ from call to call -----------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "calls"), [(990, 2_100), (8_000, 260)], ids=["in a block that is kept", "longer"])
def test_a_flood_of_connection_options_takes_no_memory(size: int, calls: int) -> None:
    """Calls that nobody let in must not fill the memory of those who are (H12)."""
    names = ",".join(map("".join, itertools.product("abcdefghijklm", repeat=3)))
    tracemalloc.start()
    try:
        for number in range(calls):
            parse(head(f"Connection: x{number},{names[: size // 4 * 4]}"))
        assert tracemalloc.get_traced_memory()[0] < 8 * 1024**2
    finally:
        tracemalloc.stop()


def test_what_differs_from_call_to_call_is_no_part_of_what_is_remembered() -> None:
    first, second = (
        parse(head("Accept: */*", f"X-Api-Key: {n}", f"traceparent: 00-{n}", f"Content-Length: {n}", f"Cookie: c={n}"))
        for n in (1, 2)
    )
    assert first.block is second.block
    assert (first.api_keys, second.api_keys) == ((b"1",), (b"2",))
    assert (first.body_length, second.body_length) == (1, 2)
    assert (first.own_lines, second.own_lines) == tuple(
        b"traceparent: 00-%d\r\nCookie: c=%d\r\n" % (n, n) for n in (1, 2)
    )
    assert first.block.passed_on == b"Accept: */*\r\n"


@pytest.mark.parametrize(
    ("lines", "keys"),
    [
        (["x-API-key:k"], ["k"]),
        (["X-Api-Key: \tk \t"], ["k"]),
        (["X-Api-Key:"], [""]),
        (["X-Api-Key: a", "x-api-key: b"], ["a", "b"]),
        (["X-Api-Key: a", "A: b", "X-Api-Key: a"], ["a", "a"]),
        (["X-Api-Key: X-Api-Key: a"], ["X-Api-Key: a"]),
        (["A: X-Api-Key: a"], []),
        (["A: \\r\\nX-Api-Key: a"], []),
        (["A:X-Api-Key:a", "X-Api-Key: b"], ["b"]),
        (["X_Api_Key: a"], []),
        (["X-Api_Key: a", "X-Api-Key: b"], ["b"]),
        (["X-Api-Keys: a"], []),
        (["XX-Api-Key: a"], []),
        (["X-Api-Key-: a", "-X-Api-Key: a"], []),
    ],
)
def test_keys_are_found_whatever_stands_around_them(lines: list[str], keys: list[str]) -> None:
    for placed in ([*lines, "Accept: */*"], ["Accept: */*", *lines]):
        parsed = parse(head(*placed))
        assert parsed.api_keys == tuple(key.encode() for key in keys)
        assert parsed.block is parse(head(*placed)).block
        assert not any(b"X-Api-Key: b" in line for line in parsed.block.passed_on.split(b"\r\n"))


def test_a_field_that_connection_names_is_dropped_wherever_it_is_kept() -> None:
    parsed = parse(head("Connection: cookie, X-Hop", "Cookie: a", "X-Hop: b", "Traceparent: c"))
    assert parsed.fields == [(b"Traceparent", b"c")]
    assert parsed.own_lines + parsed.block.passed_on == b"Traceparent: c\r\n"


_OWN = ["X-Api-Key", "Authorization", "Content-Length", "Cookie", "traceparent", "If-None-Match", "X-Request-Id"]
_SHARED = ["Accept", "Connection", "Content-Type", "Transfer-Encoding", "X_Api_Key", "X-Api-Keys", "Via", "Expect"]
_VALUES = ["", "a", "1", "22", "chunked", "Cookie", "x-own, close", "Bearer t", "X-Api-Key: k", "a:b", " \tspaced \t"]
_LINES = st.tuples(
    st.sampled_from(_OWN + _SHARED).flatmap(lambda name: st.sampled_from([name, name.lower(), name.upper()])),
    st.sampled_from([": ", ":", ":\t "]),
    st.sampled_from(_VALUES),
).map("".join)


@given(st.lists(_LINES, max_size=8), st.lists(_LINES, max_size=4))
def test_a_head_reads_the_same_whatever_is_remembered(lines: list[str], others: list[str]) -> None:
    """Field by field in one go, which is how a block was read before parts of it were taken out."""
    raw = head(*lines)
    first = _read_or_refused(raw)
    _read_or_refused(head(*lines, *others))
    again = _read_or_refused(raw)
    assert (first is None) == (again is None)
    if first is None or again is None:
        return
    expected = reference.read_request(raw)
    named = {value.strip().lower() for field in expected.values(b"connection") for value in field.split(b",")}
    kept = [
        (name, value)
        for name, value in expected.fields
        if f.kind_of(name) in (f.PLAIN, f.CONTENT_TYPE) and name.lower() not in named
    ]
    for parsed in (first, again):
        assert parsed.api_keys == tuple(expected.values(b"x-api-key"))
        assert parsed.authorizations == tuple(expected.values(b"authorization"))
        assert parsed.body_length == reference.body_length(expected)
        # The order may change between names, never within one.
        assert sorted(parsed.fields, key=_name) == sorted(kept, key=_name)
        assert reference.read_fields((parsed.own_lines + parsed.block.passed_on).split(b"\r\n")[:-1]) == parsed.fields


def _read_or_refused(raw: bytes) -> RequestHead | None:
    try:
        return parse(raw)
    except Malformed:
        return None


def _name(field: tuple[bytes, bytes]) -> bytes:
    return field[0].lower()


@pytest.mark.requirement("H13.6")
def test_a_trickle_costs_little() -> None:
    """A head that comes byte by byte is read once per line or kilobyte, and found whole, or wrong, all the same."""
    whole = head(*(f"X-{n}: {'v' * 200}" for n in range(80)))
    tried = tries = 0
    for size in range(1, len(whole) + 1):
        if tried and not worth_another_try(whole[:size], tried):
            continue
        tries += 1
        if parse_request(whole[:size]) is not None:
            break
        tried = size
    assert size == len(whole)
    assert tries <= 82 + len(whole) // 1024 + 2
    with pytest.raises(Malformed):
        parse_request(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 103)  # no more is waited for
