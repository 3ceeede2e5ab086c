"""The guard of outgoing calls, against a real server on loopback and the spellings attackers use."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from typing import Any

import pytest

from apimgr.contracts import addresses
from apimgr.core import egress
from apimgr.core.egress import EgressFailed, EgressRefused

HOSTILE_SPELLINGS = """
http://127.0.0.1/
http://127.0.0.1./
http://127.1/
http://127.0.1/
http://2130706433/
http://0x7f000001/
http://0x7f.0.0.1/
http://0x7f.1/
http://0177.0.0.1/
http://017700000001/
http://127.0.0.01/
http://0/
http://0.0.0.0/
http://169.254.169.254/latest/meta-data/
http://0xa9fea9fe/
http://2852039166/
http://10.0.0.1/
http://172.16.0.1/
http://172.31.255.255/
http://192.168.0.1/
http://100.64.0.1/
http://100.127.255.255/
http://192.0.0.8/
http://198.18.0.1/
http://224.0.0.1/
http://255.255.255.255/
http://[::1]/
http://[0:0:0:0:0:0:0:1]/
http://[::]/
http://[::127.0.0.1]/
http://[::ffff:127.0.0.1]/
http://[::ffff:7f00:1]/
http://[::ffff:8.8.8.8]/
http://[64:ff9b::127.0.0.1]/
http://[64:ff9b::a9fe:a9fe]/
http://[64:ff9b:1::8.8.8.8]/
http://[2002:7f00:1::]/
http://[2002:a00:1::]/
http://[2002:808:808::]/
http://[2001:0:4136:e378:8000:63bf:80ff:fffe]/
http://[2001:db8::1]/
http://[fc00::1]/
http://[fd00:ec2::254]/
http://[fe80::1]/
http://[fe80::1%25eth0]/
http://[fe80::1%eth0]/
http://[fec0::1]/
http://[ff02::1]/
http://[4000::1]/
http://[::1
http://user@public.example/
http://user:password@public.example/
http://public.example@127.0.0.1/
http://127.0.0.1\\@public.example/
http://public.example\\@127.0.0.1/
http://public.example./
http://public.example:0/
http://public.example:99999/
http://１２７.０.０.１/
http://127。0。0。1/
http://127．0．0．1/
http://127｡0｡0｡1/
http://①②⑦.⓪.⓪.①/
http://public。example/
http://-public.example/
http://public..example/
http://%31%32%37.0.0.1/
http://public.example%00.evil.example/
http:///etc/passwd
http://
//public.example/
file:///etc/passwd
ftp://public.example/
gopher://127.0.0.1:6379/
dict://127.0.0.1:11211/
data:text/plain,hello
javascript:alert(1)
HTTP://127.0.0.1/
http://public.example/a b
http://public.example/\x00
""".strip().splitlines()


@pytest.mark.parametrize(
    "url", [*HOSTILE_SPELLINGS, "http://public.example/\r\nX: 1", f"http://p.example/{'a' * 2000}"]
)
def test_hostile_spelling_is_refused_before_any_name_is_asked(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("a name server was asked")

    monkeypatch.setattr(socket, "getaddrinfo", never)
    with pytest.raises(EgressRefused):
        egress.check_url(url)


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://api.example", "api.example", 443),
        ("HTTP://API.Example:8080/v1?x=1", "api.example", 8080),
        ("https://8.8.8.8/", "8.8.8.8", 443),
        ("https://[2606:4700::1111]/", "2606:4700::1111", 443),
        ("https://[64:ff9b::808:808]/", "64:ff9b::808:808", 443),
        ("https://bücher.example/", "xn--bcher-kva.example", 443),
        ("http://one_word/", "one_word", 80),
    ],
)
def test_plain_spelling_passes(url: str, host: str, port: int) -> None:
    target = egress.check_url(url)
    assert (target.host, target.port) == (host, port)


@pytest.mark.requirement("R2.1")
@pytest.mark.parametrize("network", [network for network, _reason in addresses._denied_networks()], ids=str)
def test_denied_network_is_denied_from_end_to_end(network: Any) -> None:
    assert addresses.denial(network[0])
    assert addresses.denial(network[-1])


@pytest.mark.requirement("R2.1")
@pytest.mark.parametrize("address", ["1.1.1.1", "9.255.255.255", "11.0.0.0", "172.32.0.0", "100.128.0.0", "2a00::1"])
def test_public_neighbour_is_not_denied(address: str) -> None:
    assert addresses.denial(ip_address(address)) == ""


# --- A real server on loopback ----------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.seen.append((self.headers["Host"], self.path))  # type: ignore[attr-defined]
        getattr(self, self.path.strip("/").partition("/")[0] or "plain")()

    def plain(self, body: bytes = b"hello", status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def missing(self) -> None:
        self.plain(b"secret page", 404)

    def large(self) -> None:
        self.plain(b"x" * 2_000_000)

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 65_536)

    def lying(self) -> None:
        self.plain(b"", Content_Length="99999999999")

    def packed(self) -> None:
        self.plain(b"x", Content_Encoding="gzip")

    def slow(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        while True:  # until the guard hangs up
            self.wfile.write(b"X: 1\r\n")
            time.sleep(0.05)

    def hop(self) -> None:
        left = int(self.path.rpartition("/")[2])
        self.plain(b"", 302, Location=f"/hop/{left - 1}" if left else "/plain")

    def inside(self) -> None:
        self.plain(b"", 302, Location=f"http://127.0.0.2:{self.server.server_address[1]}/plain")

    def elsewhere(self) -> None:
        self.plain(b"", 302, Location="file:///etc/passwd")

    def nowhere(self) -> None:
        self.plain(b"", 302)

    def broken(self) -> None:
        self.plain(b"", 302, Location="http://[::1")

    def nonsense(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")

    def handle(self) -> None:
        with suppress(BrokenPipeError, ConnectionResetError):  # the guard hangs up, as it should
            super().handle()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        httpd.block_on_close = False
        httpd.seen = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield httpd
        httpd.shutdown()
        thread.join()


@pytest.fixture
def url(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def allowed(settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]


def test_loopback_is_reached_only_when_allowed(server: Any, url: str, settings: Any) -> None:
    for entries in ([], ["127.0.0.2"], ["127.0.0.1:1"], ["other.example"], ["10.0.0.0/8"]):
        settings.EGRESS_ALLOW = entries
        with pytest.raises(EgressRefused):
            egress.fetch(url, max_bytes=10)
    assert server.seen == []
    port = server.server_address[1]
    for entries in (["127.0.0.1"], ["127.0.0.0/8"], [f"127.0.0.1:{port}"]):
        settings.EGRESS_ALLOW = entries
        assert egress.fetch(url, max_bytes=10).body == b"hello"


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0", "::", "", "localhost"])
def test_no_allow_list_opens_our_own_ports(server: Any, url: str, settings: Any, listen: str) -> None:
    port = server.server_address[1]
    settings.EGRESS_ALLOW = ["127.0.0.0/8", "localhost", "::ffff:0:0/96"]
    settings.EGRESS_NEVER = [(listen, port)]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        with pytest.raises(EgressRefused, match="platform itself"):
            egress.fetch(f"http://{host}:{port}/metrics", max_bytes=10)
    assert server.seen == []
    settings.EGRESS_NEVER = [(listen, port + 1)]
    assert egress.fetch(url, max_bytes=10).body == b"hello"


def resolver(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """A name server that gives ``answers`` one after another, then the last one for ever."""
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *args: object, **kwargs: object) -> list[Any]:
        addresses = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize("answer", [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["fe80::1%eth0"]])
def test_name_with_one_private_address_is_refused(
    server: Any, monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    resolver(monkeypatch, answer)
    with pytest.raises(EgressRefused) as error:
        egress.fetch(f"http://evil.example:{server.server_address[1]}/", max_bytes=10)
    assert server.seen == []
    assert "127.0.0.1" not in error.value.message


def test_rebinding_resolver_gains_nothing(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Public when checked, loopback right after: the connection goes to the address that was checked."""
    target = egress.check_url(f"http://evil.example:{server.server_address[1]}/")
    resolver(monkeypatch, ["192.0.2.1"], ["127.0.0.1"])
    monkeypatch.setattr(addresses, "denial", lambda address: "" if str(address) == "192.0.2.1" else "loopback")
    called: list[tuple[str, int]] = []

    def connect(self: object, host: str, port: int, *args: object) -> None:
        called.append((host, port))
        raise egress.httpcore.ConnectError

    monkeypatch.setattr(egress.httpcore.SyncBackend, "connect_tcp", connect)
    with pytest.raises(EgressFailed):
        egress.fetch(target.url, max_bytes=10)
    with pytest.raises(EgressRefused):  # asked again for the next connection, checked again
        egress.fetch(target.url, max_bytes=10)
    assert called == [("192.0.2.1", target.port)]
    assert server.seen == []


def test_name_is_kept_in_the_host_field(server: Any, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    resolver(monkeypatch, ["127.0.0.1"])
    port = server.server_address[1]
    settings.EGRESS_ALLOW = ["inner.example"]
    assert egress.fetch(f"http://inner.example:{port}/plain", max_bytes=10).status == 200
    assert server.seen == [(f"inner.example:{port}", "/plain")]


def test_proxy_of_the_environment_is_not_used(url: str, allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert egress.fetch(url, max_bytes=10).status == 200


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/missing", "bad_status"),
        ("/large", "document_too_large"),
        ("/endless", "document_too_large"),
        ("/lying", "document_too_large"),
        ("/packed", "compressed"),
        ("/nonsense", "unreachable"),
        ("/hop/9", "redirects"),
        ("/nowhere", "bad_status"),
        ("/broken", "unreachable"),
    ],
)
def test_failure_says_why_and_nothing_of_the_answer(url: str, allowed: None, path: str, code: str) -> None:
    with pytest.raises(EgressFailed) as error:
        egress.fetch(url + path, max_bytes=1_000_000)
    assert error.value.code == code
    assert "secret" not in error.value.message


def test_slow_answer_ends_at_the_deadline(url: str, allowed: None) -> None:
    started = time.monotonic()
    with pytest.raises(EgressFailed) as error:
        egress.fetch(f"{url}/slow", max_bytes=10, timeout=0.4)
    assert error.value.code == "timeout"
    assert time.monotonic() - started < 20, "it never ends by itself"


def test_slow_name_server_ends_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: release.wait(60) and [])
    started = time.monotonic()
    with pytest.raises(EgressFailed):
        egress.fetch("http://slow.example/", max_bytes=10, timeout=0.2)
    release.set()
    assert time.monotonic() - started < 20, "no answer comes before that"


def test_redirects_are_followed_a_few_times_and_checked(server: Any, url: str, allowed: None) -> None:
    assert egress.fetch(f"{url}/hop/2", max_bytes=10).body == b"hello"
    for path in ("/inside", "/elsewhere"):
        with pytest.raises(EgressRefused):
            egress.fetch(url + path, max_bytes=10)


def test_nothing_listens(allowed: None) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(EgressFailed) as error:
            egress.probe(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert error.value.code == "unreachable"


def test_probe_reads_the_status_only(url: str, allowed: None) -> None:
    answer = egress.probe(f"{url}/missing")
    assert (answer.status, answer.body) == (404, b"")
    assert egress.probe(f"{url}/endless").status == 200
    assert egress.probe(f"{url}/hop/1").status == 302
