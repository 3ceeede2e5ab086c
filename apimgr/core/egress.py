"""The one way out: every HTTP call the control plane makes to an address somebody typed (security.md R1-R4).

A URL is refused for its spelling first. Its host is then resolved once per connection, *every* address is checked
against the table of ``contracts.addresses``, and the connection is made to a checked address; Host and SNI keep the
name. A name that resolves to something else the next time gains nothing: the check and the connection use the same
answer. The gateway does the same for upstreams (``proxy.dataplane.upstreams``).
"""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import httpcore
import httpx
import idna
from django.conf import settings
from django.utils.translation import gettext as _

from apimgr.contracts.addresses import Address, EgressRules, literal
from apimgr.core.errors import DomainError

TIMEOUT_S: Final = 10.0
MAX_REDIRECTS: Final = 3
MAX_URL_CHARS: Final = 2_000


class EgressRefused(DomainError):
    """The address is one we do not call. Nothing was sent."""

    code = "address_not_allowed"


class EgressFailed(DomainError):
    """The call was made and came to nothing: no name, no connection, too slow, too large."""

    code = "unreachable"


@dataclass(frozen=True, slots=True)
class Target:
    """A URL whose spelling has been checked. ``host`` is ASCII, lower case, without brackets."""

    url: str
    scheme: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Answer:
    """``body`` is empty when it was not asked for."""

    url: str
    status: int
    latency_ms: int
    content_type: str
    body: bytes


# --- URLs -------------------------------------------------------------------------------------------------------------


def check_url(url: str, *, schemes: Iterable[str] = ("http", "https")) -> Target:
    """Check the spelling of ``url``, and an address in place of a name. Resolves nothing; raises ``EgressRefused``."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(_("This is not a URL.")) from error
    if len(url) > MAX_URL_CHARS or re.search(r"[\x00-\x20\x7f\\]", url):
        raise _refused(_("A URL is at most 2,000 characters, without spaces or backslashes."))
    if parts.scheme not in schemes:
        raise _refused(_("The URL must start with %(schemes)s.") % {"schemes": " or ".join(f"{s}://" for s in schemes)})
    if "@" in parts.netloc:
        raise _refused(_("The URL must not hold a user name or password."))
    if port == 0:
        raise _refused(_("Port 0 cannot be called."))
    host = _check_host_name(parts.hostname or "", is_bracketed="[" in parts.netloc)
    target = Target(url, parts.scheme, host, port or (443 if parts.scheme == "https" else 80))
    if (address := literal(host)) is not None:
        _check_address(target, address)
    return target


def _refused(message: str) -> EgressRefused:
    return EgressRefused(message, code="url_not_allowed", fields={"url": message})


def _check_host_name(host: str, *, is_bracketed: bool) -> str:
    if not host or host.endswith("."):
        raise _refused(_("The URL needs a host name without a dot at its end."))
    if is_bracketed:
        if "%" in host:
            raise _refused(_("The URL must not name a network interface."))
        try:
            return IPv6Address(host).compressed
        except ValueError as error:
            raise _refused(_("This is not an IPv6 address.")) from error
    if re.search("[\u3002\uff0e\uff61]", host):
        raise _refused(_("The host name must be written with plain dots."))
    if not host.isascii():
        try:
            host = idna.encode(host, uts46=True).decode("ascii").lower()
        except idna.IDNAError as error:
            raise _refused(_("This is not a host name.")) from error
    # The C library reads 127.1, 0x7f.1, 017700000001 and 2130706433 as addresses; we take dotted decimals alone.
    if re.fullmatch(r"\d+|0x[0-9a-f]*", host.rpartition(".")[2]):
        try:
            return str(IPv4Address(host))
        except ValueError as error:
            raise _refused(_("Write an IPv4 address as four decimal numbers.")) from error
    if len(host) > 253 or not re.fullmatch(r"(?!-)[a-z0-9_-]{1,63}(?<!-)(\.(?!-)[a-z0-9_-]{1,63}(?<!-))*", host):
        raise _refused(_("This is not a host name."))
    return host


def _check_address(target: Target, address: Address) -> None:
    rules = EgressRules(settings.EGRESS_ALLOW, settings.EGRESS_NEVER)
    if rules.is_own(target.host, target.port, address):
        raise _refused(
            _("%(host)s:%(port)s is a port of this platform itself.") % {"host": target.host, "port": target.port}
        )
    reason = rules.refusal(target.host, target.port, address)
    if reason:
        message = _("%(host)s is not a public address (%(reason)s).") % {"host": target.host, "reason": reason}
        fix = _("An operator can allow it with APIMGR_EGRESS_ALLOW.")
        raise EgressRefused(message, fix=fix, fields={"url": message})


def check_target(target: Target, timeout: float = TIMEOUT_S) -> list[str]:
    """Resolve the host and check every address it has. Raises ``EgressRefused``, or ``EgressFailed`` for no answer."""
    addresses = _resolve(target.host, target.port, timeout)
    for address in addresses:
        _check_address(target, address)
    return [str(address) for address in addresses]


def _resolve(host: str, port: int, timeout: float) -> list[Address]:
    """``getaddrinfo`` with a deadline: it has none of its own, so it runs in a thread that may be left behind."""
    found: list[Any] = []
    failed: list[OSError] = []

    def ask() -> None:
        try:
            found.extend(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            failed.append(OSError(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(max(timeout, 0))
    if failed or not found:
        raise EgressFailed(_("The name %(host)s is not known.") % {"host": host}, code="name_unknown")
    return list(dict.fromkeys(ip_address(row[4][0].partition("%")[0]) for row in found))


# --- Connections ------------------------------------------------------------------------------------------------------


class _DeadlineStream(httpcore.NetworkStream):
    """A connection that ends at one moment, however slowly bytes trickle in."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def _left(self, error: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise error("the deadline has passed")
        return left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._left(httpcore.ConnectTimeout)
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _GuardedBackend(httpcore.NetworkBackend):
    """Resolves, checks and connects: the address that was checked is the address that is called."""

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        target = Target("", "", host.strip("[]"), port)
        last: Exception = httpcore.ConnectError("no address")
        for address in check_target(target, self._deadline - time.monotonic()):
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise httpcore.ConnectTimeout("the deadline has passed")
            try:
                return _DeadlineStream(self._backend.connect_tcp(address, port, left), self._deadline)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last


class _GuardedTransport(httpx.BaseTransport):
    """httpx over a connection pool with our own backend. One per call: nothing is reused, nothing escapes a check."""

    def __init__(self, deadline: float) -> None:
        self._pool = httpcore.ConnectionPool(ssl_context=_tls_context(), network_backend=_GuardedBackend(deadline))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        core = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(core.status, headers=core.headers, stream=_Body(core), extensions=core.extensions)

    def close(self) -> None:
        self._pool.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        assert isinstance(self._response.stream, Iterable)
        yield from self._response.stream

    def close(self) -> None:
        self._response.close()


@cache
def _tls_context() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)


# --- Calls ------------------------------------------------------------------------------------------------------------


def fetch(
    url: str,
    *,
    max_bytes: int,
    schemes: Iterable[str] = ("http", "https"),
    timeout: float = TIMEOUT_S,
    max_redirects: int = MAX_REDIRECTS,
) -> Answer:
    """GET ``url`` and return a successful answer whole. Each redirect is checked like the first URL.

    Raises ``EgressRefused`` or ``EgressFailed``; neither ever holds a byte of the answer.
    """
    deadline = time.monotonic() + timeout
    for _hop in range(max_redirects + 1):
        with _exchange("GET", url, schemes, deadline) as (response, latency_ms):
            if response.has_redirect_location:
                url = _next_url(url, response.headers["location"])
                continue
            if not response.is_success:
                message = _("%(host)s answered with status %(status)s.")
                raise EgressFailed(
                    message % {"host": response.url.host, "status": response.status_code}, code="bad_status"
                )
            body = _read(response, max_bytes)
            return Answer(url, response.status_code, latency_ms, response.headers.get("content-type", ""), body)
    raise EgressFailed(_("The URL redirects more than %(count)s times.") % {"count": max_redirects}, code="redirects")


def _next_url(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise _refused(_("The URL redirects to something that is no URL.")) from error


def probe(url: str, *, timeout: float = TIMEOUT_S) -> Answer:
    """GET ``url`` for its status and the time its head took. The body is not read, redirects are not followed."""
    with _exchange("GET", url, ("http", "https"), time.monotonic() + timeout) as (response, latency_ms):
        return Answer(url, response.status_code, latency_ms, response.headers.get("content-type", ""), b"")


@contextmanager
def _exchange(method: str, url: str, schemes: Iterable[str], deadline: float) -> Iterator[tuple[httpx.Response, int]]:
    target = check_url(url, schemes=schemes)
    headers = {"User-Agent": "apimgr", "Accept": "*/*", "Accept-Encoding": "identity"}
    started = time.monotonic()
    try:
        # trust_env would let a proxy or a .netrc of the environment around the guard.
        with (
            httpx.Client(transport=_GuardedTransport(deadline), trust_env=False, headers=headers) as client,
            client.stream(method, target.url) as response,
        ):
            yield response, round((time.monotonic() - started) * 1000)
    except (httpx.TimeoutException, httpcore.TimeoutException) as error:
        raise EgressFailed(_("%(host)s did not answer in time.") % {"host": target.host}, code="timeout") from error
    except ssl.SSLError as error:
        raise EgressFailed(_("%(host)s has no valid certificate.") % {"host": target.host}, code="tls") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpcore.NetworkError, httpcore.ProtocolError, OSError) as error:
        raise EgressFailed(_reason(target.host, error)) from error


def _reason(host: str, error: Exception) -> str:
    if "CERTIFICATE" in str(error) or "SSL" in str(error):
        return _("%(host)s has no valid certificate.") % {"host": host}
    if isinstance(error, httpcore.ProtocolError):
        return _("%(host)s did not answer with valid HTTP.") % {"host": host}
    return _("%(host)s could not be reached.") % {"host": host}


def _read(response: httpx.Response, max_bytes: int) -> bytes:
    too_large = EgressFailed(
        _("The answer is larger than %(limit)s MiB.") % {"limit": max_bytes // 2**20}, code="document_too_large"
    )
    # Nothing was asked to be compressed: what is all the same could unpack to anything.
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise EgressFailed(_("The answer is compressed although that was not asked for."), code="compressed")
    length = response.headers.get("content-length", "")
    if length.isascii() and length.isdigit() and int(length[:20]) > max_bytes:
        raise too_large
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)
