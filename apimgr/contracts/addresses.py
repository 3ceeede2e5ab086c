"""Which addresses may be called, for both planes (security.md R1-R3): pure, without name look-ups.

``ipaddress.is_global`` is no guard on Python 3.11 (NAT64, 6to4 and CGNAT slip through), hence a table of our own, after
the IANA IPv4 and IPv6 special-purpose address registries.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Everything that is not one host on the public Internet: network, what it is, where that is written.
_DENIED: Final = """
0.0.0.0/8         this network                 RFC 791
10.0.0.0/8        private use                  RFC 1918
100.64.0.0/10     shared address space         RFC 6598
127.0.0.0/8       loopback                     RFC 1122
169.254.0.0/16    link local, cloud metadata   RFC 3927
172.16.0.0/12     private use                  RFC 1918
192.0.0.0/24      protocol assignments         RFC 6890
192.0.2.0/24      documentation                RFC 5737
192.31.196.0/24   AS112                        RFC 7535
192.52.193.0/24   AMT                          RFC 7450
192.88.99.0/24    6to4 relays                  RFC 7526
192.168.0.0/16    private use                  RFC 1918
192.175.48.0/24   AS112                        RFC 7534
198.18.0.0/15     benchmarking                 RFC 2544
198.51.100.0/24   documentation                RFC 5737
203.0.113.0/24    documentation                RFC 5737
224.0.0.0/4       multicast                    RFC 5771
240.0.0.0/4       reserved, broadcast          RFC 1112
::/128            unspecified                  RFC 4291
::1/128           loopback                     RFC 4291
::/96             IPv4-compatible              RFC 4291
::ffff:0:0/96     IPv4-mapped                  RFC 4291
64:ff9b:1::/48    local NAT64                  RFC 8215
100::/64          discard only                 RFC 6666
100:0:0:1::/64    dummy prefix                 RFC 9780
2001::/32         Teredo                       RFC 4380
2001::/23         protocol assignments         RFC 2928
2001:db8::/32     documentation                RFC 3849
2002::/16         6to4                         RFC 3056
2620:4f:8000::/48 AS112                        RFC 7534
3fff::/20         documentation                RFC 9637
5f00::/16         segment routing              RFC 9602
fc00::/7          unique local                 RFC 4193
fe80::/10         link local                   RFC 4291
fec0::/10         site local                   RFC 3879
ff00::/8          multicast                    RFC 4291
"""
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
_NAT64: Final = IPv6Network("64:ff9b::/96")


@cache
def _denied_networks() -> tuple[tuple[Network, str], ...]:
    rows = (re.split(r"\s{2,}", line.replace(" ", "  ", 1)) for line in _DENIED.strip().splitlines())
    return tuple((ip_network(row[0]), f"{row[1]}, {row[2]}") for row in rows)


def denial(address: Address) -> str:
    """Why ``address`` is not called, or an empty string for one on the public Internet."""
    inner = _embedded(address)
    if inner is not None and (reason := denial(inner)):
        return reason
    for network, reason in _denied_networks():
        if address.version == network.version and address in network:
            return reason
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST and address not in _NAT64:
        return "not global unicast, RFC 4291"
    return ""


def _embedded(address: Address) -> IPv4Address | None:
    """The IPv4 address that a packet to ``address`` would reach in the end, if it is such a one."""
    if isinstance(address, IPv4Address):
        return None
    if address.ipv4_mapped or address.sixtofour:
        return address.ipv4_mapped or address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or int(address) >> 32 == 0:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def literal(host: str) -> Address | None:
    """The address that ``host`` is, without brackets, or ``None`` for a name."""
    try:
        return ip_address(host)
    except ValueError:
        return None


def is_special(address: Address) -> bool:
    """Whether a call to ``address`` would end at one that is not public: perhaps at this very host."""
    return bool(denial(_embedded(address) or address))


class EgressRules:
    """What an operator opens (``APIMGR_EGRESS_ALLOW``) and what nothing opens: the installation's own ports.

    An entry of ``allow`` is a host name, an address or a network; a name or an address may be followed by a port.
    ``is_local`` says whether an address is one of the host that a listener on every interface answers on.
    """

    __slots__ = ("_is_local", "_names", "_networks", "_never")

    def __init__(
        self,
        allow: Iterable[str] = (),
        never: Iterable[tuple[str, int]] = (),
        *,
        is_local: Callable[[Address], bool] = is_special,
    ) -> None:
        """Raises ``ValueError`` for an entry with a slash that is no network."""
        self._names: set[tuple[str, int]] = set()  # port 0: any
        self._networks: list[tuple[Network, int]] = []
        self._never = tuple(never)
        self._is_local = is_local
        for entry in allow:
            host, port = _host_and_port(entry)
            self._names.add((host, port))
            try:
                self._networks.append((ip_network(host), port))
            except ValueError:
                if "/" in host:
                    raise ValueError(f"{entry!r} is not a network: write it as 10.0.0.0/8") from None

    def refusal(self, host: str, port: int, address: Address) -> str:
        """Why ``address``, which ``host`` leads to, is not called at ``port``; empty if it may be."""
        if self.is_own(host, port, address):
            return "a port of this platform itself"
        reason = denial(address)
        return "" if not reason or self._allows(host, port, address) else reason

    def is_own(self, host: str, port: int, address: Address) -> bool:
        """Whether a port of this installation is meant: its admin listener, its gateway, its database."""
        inner = _embedded(address) or address
        for own_host, own_port in self._never:
            if port != own_port:
                continue
            own = literal(own_host)
            if host == own_host or (inner == own if own and not own.is_unspecified else self._answers(own_host, inner)):
                return True
        return False

    def _answers(self, own_host: str, address: Address) -> bool:
        """Whether ``own_host``, a name or every interface, may be at ``address``."""
        own = literal(own_host)
        # What a name of ours leads to is not looked up here, so every address that is not public may be it.
        return self._is_local(address) if own is not None or not own_host else is_special(address)

    def _allows(self, host: str, port: int, address: Address) -> bool:
        if (host, 0) in self._names or (host, port) in self._names:
            return True
        return any(
            wanted in (0, port) and address.version == network.version and address in network
            for network, wanted in self._networks
        )


def _host_and_port(entry: str) -> tuple[str, int]:
    entry = entry.strip().lower()
    if re.search(r"[^:]:\d+$|\]:\d+$", entry):
        host, _, port = entry.rpartition(":")
        # "fe80::1" has no port; "host:8080" and "[fe80::1]:8080" do.
        if ":" not in host or host.startswith("["):
            return host.strip("[]"), int(port)
    return entry.strip("[]"), 0
