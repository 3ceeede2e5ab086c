"""Who calls, where the peer is a proxy that the operator trusts to say so (H8). Pure.

From such a peer ``X-Forwarded-For``, ``-Proto`` and ``-Host`` are believed as far as trusted proxies wrote them: the
caller is the right-most hop that is none of them, and what stands left of it is what the caller claims. Everybody
else's fields of these names were dropped unread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, ip_address
from typing import Final, NamedTuple

from apimgr.contracts.addresses import Address, Network
from proxy.dataplane.http.fields import Field
from proxy.dataplane.http.malformed import Malformed
from proxy.dataplane.http.request import authority, spelled

MAX_HOPS: Final = 16
# Some proxies add the port: "192.0.2.1:4711", "[2001:db8::1]:4711".
_WITH_PORT: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::[0-9]{1,5})?")
_SCHEMES: Final = frozenset({b"http", b"https"})


class Caller(NamedTuple):
    """``address`` is that of the record, ``lines`` what the upstream is told, but for the host."""

    address: bytes
    lines: bytes
    host: str


def packed(address: Address) -> bytes:
    """The address as a record has it: 16 bytes, IPv4 mapped."""
    return b"\0" * 10 + b"\xff\xff" + address.packed if isinstance(address, IPv4Address) else address.packed


def plain(address: Address) -> Address:
    """An IPv4 address that came over an IPv6 socket is one all the same."""
    return getattr(address, "ipv4_mapped", None) or address


def is_trusted(address: Address, trusted: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in trusted)


def lines_for(hops: Iterable[Address | str], scheme: bytes = b"http") -> bytes:
    return b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\n" % (", ".join(map(str, hops)).encode(), scheme)


def host_line(host: str) -> bytes:
    """Nothing for a call of HTTP/1.0 that names no host."""
    return f"X-Forwarded-Host: {host}\r\n".encode("ascii") if host else b""


def caller_behind(peer: Address, told: tuple[Field, ...], host: str, trusted: tuple[Network, ...]) -> Caller:
    """The caller that the trusted ``peer`` speaks for. ``told`` are its fields, ``host`` that of the request."""
    is_usual = sum(len(name) + len(value) for name, value in told) <= _REMEMBERED_SIZE
    return (_remembered_caller if is_usual else _find_caller)(peer, told, host, trusted)


def _find_caller(peer: Address, told: tuple[Field, ...], host: str, trusted: tuple[Network, ...]) -> Caller:
    hops = [peer]
    for text in reversed(_values(told, b"x-forwarded-for")[-MAX_HOPS:]):
        hop = _address(text)
        if hop is None:
            break  # "unknown", or nonsense: what stands left of it may be anybody's
        hops.insert(0, hop)
        if not is_trusted(hop, trusted):
            break
    scheme = (_values(told, b"x-forwarded-proto") or [b""])[-1].lower()
    forwarded_host = _host((_values(told, b"x-forwarded-host") or [b""])[-1])
    return Caller(packed(hops[0]), lines_for(hops, scheme if scheme in _SCHEMES else b"http"), forwarded_host or host)


_REMEMBERED_SIZE: Final = 512  # bytes; much of it is what strangers say, and the memory is ours
_remembered_caller = lru_cache(maxsize=1024)(_find_caller)


def _values(told: tuple[Field, ...], wanted: bytes) -> list[bytes]:
    return [
        part.strip(b" \t")
        for name, value in told
        if name.lower() == wanted
        for part in value.split(b",")
        if part.strip()
    ]


def _address(text: bytes) -> Address | None:
    spelled = text.decode("latin-1")
    match = _WITH_PORT.fullmatch(spelled)
    try:
        return plain(ip_address(spelled if match is None else match[1] or match[2]))
    except ValueError:
        return None


def _host(raw: bytes) -> str:
    try:
        return spelled(*authority(raw))
    except Malformed:
        return ""
