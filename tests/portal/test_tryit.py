"""The relay of the reference's try-it: from our pages, to the gateway, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client

from portal import gateway

OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "empty"}


class Gateway(BaseHTTPRequestHandler):
    """Answers with what it got, and with fields that must not get through."""

    seen: list[Any] = []
    content_type = "text/html"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.seen.append((self.path, dict(self.headers), body))
        self.send_response(201)
        fields = {
            "Content-Type": self.content_type,
            "Set-Cookie": "session=evil",
            "WWW-Authenticate": "Basic realm=x",
            "RateLimit": '"minute";r=59;t=60',
            "X-Request-Id": "abc",
            "Content-Security-Policy": "default-src *",
        }
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"<script>alert(1)</script>" if self.path != "/long" else b"x" * 3_000_000)

    do_GET = do_POST  # noqa: N815

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def upstream(settings: Any) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    Gateway.seen = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.GATEWAY_URL = f"http://127.0.0.1:{server.server_port}"
    yield settings.GATEWAY_URL
    server.shutdown()
    server.server_close()


def send(url: str, **headers: str) -> HttpResponse:
    fields = {**OWN_PAGE, "X-Api-Key": "secret", "Cookie": "session=mine", **headers}
    client = Client(enforce_csrf_checks=True)
    return client.post("/try/?scalar_url=" + url, b'{"a": 1}', content_type="application/json", headers=fields)


def test_passes_the_call_on(upstream: str) -> None:
    response = send(f"{upstream}/orders", **{"X-Scalar-Cookie": "a=b", "X-Forwarded-For": "1.2.3.4"})
    path, headers, body = Gateway.seen.pop()
    names = {name.lower() for name in headers}
    assert (response.status_code, path, body) == (201, "/orders", b'{"a": 1}')
    assert headers["X-Api-Key"] == "secret"
    assert not names & {"cookie", "x-scalar-cookie", "x-forwarded-for", "sec-fetch-site", "origin", "referer"}


def test_the_answer_can_do_nothing_here(upstream: str) -> None:
    response = send(f"{upstream}/orders")
    assert "Set-Cookie" not in response
    assert "WWW-Authenticate" not in response
    assert response["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["RateLimit"] == '"minute";r=59;t=60'
    assert response["X-Request-Id"] == "abc"


@pytest.mark.parametrize(
    "change",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Sec-Fetch-Site": ""},
        {"Sec-Fetch-Dest": "document"},
    ],
)
def test_only_our_own_pages_get_through(upstream: str, change: dict[str, str]) -> None:
    assert send(f"{upstream}/orders", **change).status_code == 403
    assert not Gateway.seen


@pytest.mark.parametrize(
    "url",
    [
        "", "/orders", "https://127.0.0.1/x", "http://127.0.0.1:1/x", "http://169.254.169.254/", "file:///etc/passwd",
        "{own}@evil.example/", "http://evil.example#{own}", "{own}.evil.example/", "http://user:x@{host}/",
        "http:\\\\{host}/", "{own}\\@evil.example/", "//{host}/", "{own}:99999/", "http://{host}%20.evil.example/",
    ],
)  # fmt: skip
def test_nowhere_but_the_gateway(upstream: str, url: str) -> None:
    given = url.format(own=upstream, host=upstream.removeprefix("http://"))
    assert send(given).status_code == 422
    assert not Gateway.seen


def test_is_bounded(upstream: str, monkeypatch: pytest.MonkeyPatch) -> None:
    long = send(f"{upstream}/long")
    assert (len(long.content), long["X-Truncated"]) == (gateway.MAX_RESPONSE_BYTES, "true")
    monkeypatch.setattr("portal.gateway._room", threading.BoundedSemaphore(1))
    gateway._room.acquire()
    assert send(f"{upstream}/orders").status_code == 503


def test_a_gateway_that_is_away_is_said_plainly(settings: Any) -> None:
    settings.GATEWAY_URL = "http://127.0.0.1:9"
    response = send("http://127.0.0.1:9/orders")
    assert (response.status_code, response.json()["code"]) == (502, "gateway_unreachable")
