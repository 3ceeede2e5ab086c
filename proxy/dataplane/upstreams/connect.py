"""From a host's name to a connection: resolved, checked, then made to the address that was checked (R1-R3).

Every address of the name must be one the operator lets us call; one that is not condemns the name, as whoever runs its
name server chooses which we would use. The look-up is kept for ``FRESH_SECONDS`` at most, and connections are made to
what was checked, so a name that leads elsewhere a moment later gains nothing.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from apimgr.contracts.addresses import Address, EgressRules
from proxy.dataplane.descriptors import EXHAUSTED

if TYPE_CHECKING:
    from proxy.dataplane.upstreams.connection import UpstreamConnection

log = logging.getLogger(__name__)

FRESH_SECONDS: Final = 2.0
NEXT_ADDRESS_SECONDS: Final = 0.25  # RFC 8305: how long an address is tried before the next one is tried beside it
MAX_ADDRESSES: Final = 8
_TOO_LATE: Final = {
    "resolve": "The name of the upstream was not resolved in time.",
    "connect": "The upstream did not accept a connection in time.",
}

Resolve = Callable[[str, int], Awaitable[list[Address]]]


class CannotConnect(Exception):
    """No connection: ``code`` is an outcome code, ``detail`` a sentence that names no address.

    ``stage`` is how far it came: ``wait`` (for a turn), ``resolve`` or ``connect``, which includes TLS.
    """

    def __init__(self, code: str, detail: str, stage: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.stage = stage


async def resolve(host: str, port: int) -> list[Address]:
    """The addresses of ``host`` in the system's order. Raises ``OSError`` where there is none."""
    rows: list[Any] = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(ip_address(row[4][0].partition("%")[0]) for row in rows))


def is_local_address(address: Address) -> bool:
    """Whether ``address`` is one of this host's own. Raises ``OSError`` if that cannot be told now."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError as error:
        if error.errno in EXHAUSTED:  # which says nothing of the address
            raise
        return False
    return True


@lru_cache(maxsize=1)
def tls_context() -> ssl.SSLContext:
    """Certificates and names are verified. ``SSL_CERT_FILE`` adds an authority of one's own."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


class Connector:
    """Opens connections to one host and port."""

    def __init__(self, host: str, port: int, *, tls: bool, rules: EgressRules, resolve: Resolve = resolve) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._rules = rules
        self._resolve = resolve
        self._addresses: list[str] | CannotConnect = []
        self._fresh_until = 0.0
        self._lookup: asyncio.Task[list[str] | CannotConnect] | None = None

    async def open(self, factory: Callable[[], UpstreamConnection], timeout: float) -> UpstreamConnection:
        """A connection within ``timeout`` seconds, TLS and all. Raises ``CannotConnect``."""
        stage = "resolve"
        began = time.monotonic()
        try:
            async with asyncio.timeout(timeout):
                addresses = await self._checked_addresses()
                stage, resolved = "connect", time.monotonic()
                connection = await self._race(factory, addresses)
                connection.resolve_s, connection.connect_s = resolved - began, time.monotonic() - resolved
                return connection
        except TimeoutError:
            raise CannotConnect("upstream_timeout", _TOO_LATE[stage], stage) from None
        except ssl.SSLCertVerificationError:
            raise CannotConnect("upstream_unreachable", "The upstream's certificate is not valid.", stage) from None
        except ssl.SSLError:
            raise CannotConnect(
                "upstream_unreachable", "No TLS connection to the upstream came about.", stage
            ) from None
        except (socket.gaierror, UnicodeError):
            raise CannotConnect("upstream_unreachable", "The name of the upstream is not known.", stage) from None
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise CannotConnect("gateway_overloaded", "", stage) from None
            raise CannotConnect("upstream_unreachable", "The upstream does not accept connections.", stage) from None

    async def _checked_addresses(self) -> list[str]:
        if time.monotonic() < self._fresh_until:
            found = self._addresses
        else:
            if self._lookup is None:
                # One look-up for all who wait; it goes on if the one who asked first gives up.
                self._lookup = asyncio.get_running_loop().create_task(self._look_up())
                self._lookup.add_done_callback(self._looked_up)
            found = await asyncio.shield(self._lookup)
        if isinstance(found, CannotConnect):
            raise CannotConnect(found.code, found.detail, found.stage)
        return found

    def _looked_up(self, lookup: asyncio.Task[list[str] | CannotConnect]) -> None:
        self._lookup = None
        if not lookup.cancelled() and lookup.exception() is None:
            self._addresses = lookup.result()
            self._fresh_until = time.monotonic() + FRESH_SECONDS

    async def _look_up(self) -> list[str] | CannotConnect:
        addresses = await self._resolve(self._host, self._port)
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "no address")
        for address in addresses:
            reason = self._rules.refusal(self._host, self._port, address)
            if reason:
                # For the operator, not for callers: it says where the name leads.
                log.warning("The upstream %s:%d is not called: %s (%s)", self._host, self._port, address, reason)
                return CannotConnect("upstream_forbidden", "", "resolve")
        return [str(address) for address in _families_by_turns(addresses)[:MAX_ADDRESSES]]

    async def _race(self, factory: Callable[[], UpstreamConnection], addresses: list[str]) -> UpstreamConnection:
        """The first connection to come about, where each further address is tried a moment after the one before."""
        if len(addresses) == 1:
            return await self._connect(factory, addresses[0])
        waiting = list(addresses)
        running: set[asyncio.Task[UpstreamConnection]] = set()
        failure: BaseException | None = None
        try:
            while waiting or running:
                if waiting:
                    running.add(asyncio.create_task(self._connect(factory, waiting.pop(0))))
                patience = NEXT_ADDRESS_SECONDS if waiting else None
                done, running = await asyncio.wait(running, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
                for attempt in done:
                    if attempt.exception() is None:
                        running |= done - {attempt}
                        return attempt.result()
                    failure = attempt.exception()
            assert failure is not None, "there was at least one address"
            raise failure
        finally:
            for attempt in running:
                attempt.cancel()
                attempt.add_done_callback(_close_late)

    async def _connect(self, factory: Callable[[], UpstreamConnection], address: str) -> UpstreamConnection:
        _, connection = await asyncio.get_running_loop().create_connection(
            factory,
            address,
            self._port,
            ssl=tls_context() if self._tls else None,
            server_hostname=self._host if self._tls else None,
        )
        return connection


def _close_late(attempt: asyncio.Task[UpstreamConnection]) -> None:
    """Two connections came about at once: close the one that nobody needs."""
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _families_by_turns(addresses: list[Address]) -> list[Address]:
    """IPv6 and IPv4 by turns, beginning with what the system prefers (RFC 8305 section 4)."""
    first = [address for address in addresses if address.version == addresses[0].version]
    second = [address for address in addresses if address.version != addresses[0].version]
    mixed: list[Address] = []
    for at in range(max(len(first), len(second))):
        mixed += first[at : at + 1] + second[at : at + 1]
    return mixed
