"""What a gateway node is told from outside: read once from the environment, checked, then frozen."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from apimgr.contracts.addresses import EgressRules, Network
from proxy.dataplane import compiled

DURABILITIES: Final = ("os", "group", "strict")
STATS_NAME: Final = "stats"
SOFTWARE_VERSION: Final = "0.1.0"
MAX_WORKERS: Final = 32
# The number a supervisor gives to everything it starts, so that agent and workers agree on it.
BOOT_VARIABLE: Final = "APIMGR_GATEWAY_BOOT"
# The descriptor on which a child says that it has started, and from then on that it goes on.
READY_VARIABLE: Final = "APIMGR_GATEWAY_READY_FD"
# While a reload drains the old workers, the new ones must not count in the same blocks.
STATS_VARIABLE: Final = "APIMGR_GATEWAY_STATS_OFFSET"
# The supervisor tells its children which ports are the installation's own, since workers are not told of the database.
OWN_PORTS_VARIABLE: Final = "APIMGR_GATEWAY_OWN_PORTS"
# And whether limits are shared with other hosts, since only the agent is told by which Redis.
SHARES_LIMITS_VARIABLE: Final = "APIMGR_GATEWAY_SHARES_LIMITS"

_ADDRESS: Final = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_WEB_URL: Final = re.compile(r"https?://[A-Za-z0-9._:\[\]-]+(?:/[A-Za-z0-9._~/-]*)?")
_NODE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def software_version() -> str:
    """What this node says that it is: with ``+compiled`` where the hot path is machine code."""
    return f"{SOFTWARE_VERSION}+compiled" if compiled.is_in_use() else SOFTWARE_VERSION


class ImproperConfiguration(ValueError):
    """A setting that is missing or wrong; the message says which one and what to give."""


@dataclass(frozen=True, slots=True)
class Address:
    """A host and port to listen at. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Secrets are kept out of ``repr``, so that no log line can hold them."""

    listen: Address
    admin_listen: Address
    workers: int
    node_name: str
    var_dir: Path
    boot: int
    max_connections: int
    max_per_address: int
    stall_seconds: int
    spool_bytes: int
    stats_offset: int
    declaration: Path | None
    max_staleness: int
    durability: str
    egress_allow: tuple[str, ...]
    trusted_proxies: tuple[Network, ...]
    own_ports: tuple[Address, ...]
    shares_limits: bool
    outcome_pages: str
    limits_url: str = field(repr=False)
    database_url: str = field(repr=False)
    key_pepper: bytes = field(repr=False)
    admin_token: str = field(repr=False)

    @property
    def home(self) -> Path:
        return self.var_dir / "gateway"

    @property
    def replica_path(self) -> Path:
        return self.home / "replica"

    @property
    def spool_root(self) -> Path:
        return self.home / "spool"

    @property
    def spool_path(self) -> Path:
        """This boot's spool. Those of earlier boots lie beside it until they are shipped."""
        return self.spool_root / str(self.boot)

    @property
    def stats_path(self) -> Path:
        """Beside this boot's spool: its counts are told when the last of it is shipped, maybe by a later boot.

        Where that could not be written when the node started, they are kept for as long as it runs.
        """
        return self.passing_stats_path if self.passing_stats_path.exists() else self.spool_path / STATS_NAME

    @property
    def passing_stats_path(self) -> Path:
        return self.home / STATS_NAME

    @property
    def limits_path(self) -> Path:
        return self.home / "limits" / "table"


def parse_address(text: str, name: str) -> Address:
    """``host:port`` or ``[v6]:port``; an empty host is every IPv4 address."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or int(match["port"]) > 65_535:
        raise ImproperConfiguration(f"{name}={text!r} is not an address: give host:port, such as 127.0.0.1:8080")
    return Address(match["six"] or match["host"] or "0.0.0.0", int(match["port"]))  # noqa: S104 - the empty host says so


def _number(environ: Mapping[str, str], name: str, default: int, minimum: int, maximum: int) -> int:
    text = environ.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and minimum <= int(text) <= maximum):
        raise ImproperConfiguration(f"{name}={text!r} is not a whole number from {minimum} to {maximum}")
    return int(text)


def _one_of(environ: Mapping[str, str], name: str, words: tuple[str, ...], default: str) -> str:
    text = environ.get(name, "").strip() or default
    if text not in words:
        raise ImproperConfiguration(f"{name}={text!r} is not one of {', '.join(words)}")
    return text


def key_pepper(environ: Mapping[str, str]) -> bytes:
    """Raises ``ImproperConfiguration``."""
    pepper = environ.get("APIMGR_KEY_PEPPER", "").strip().encode()
    if not 32 <= len(pepper) <= 64:
        raise ImproperConfiguration("APIMGR_KEY_PEPPER must have 32 to 64 characters, the same as the web process has")
    return pepper


def _node_name(environ: Mapping[str, str]) -> str:
    name = environ.get("APIMGR_NODE_NAME", "").strip() or socket.gethostname()
    if not _NODE_NAME.fullmatch(name):
        raise ImproperConfiguration(f"APIMGR_NODE_NAME={name!r}: use letters, digits, dots, dashes and underscores")
    return name


def _declaration(environ: Mapping[str, str]) -> Path | None:
    text = environ.get("APIMGR_GATEWAY_CONFIG", "").strip()
    # Told to whoever starts a node. What its supervisor starts again comes up whatever has become of the file.
    if text and OWN_PORTS_VARIABLE not in environ and not Path(text).is_file():
        raise ImproperConfiguration(f"APIMGR_GATEWAY_CONFIG={text!r} is not a file")
    return Path(text).absolute() if text else None


def _words(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in environ.get(name, "").split(",") if word.strip())


def _egress_allow(environ: Mapping[str, str]) -> tuple[str, ...]:
    words = _words(environ, "APIMGR_EGRESS_ALLOW")
    try:
        EgressRules(words)
    except ValueError as error:
        raise ImproperConfiguration(f"APIMGR_EGRESS_ALLOW: {error}") from None
    return words


def _trusted_proxies(environ: Mapping[str, str]) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(word) for word in _words(environ, "APIMGR_GATEWAY_TRUSTED_PROXIES"))
    except ValueError as error:
        raise ImproperConfiguration(
            f"APIMGR_GATEWAY_TRUSTED_PROXIES: {error}: give addresses or networks, such as 10.0.0.0/8"
        ) from None


def _limits_url(environ: Mapping[str, str]) -> str:
    """The Redis that hosts share limits by; empty where this host counts for itself."""
    name = "APIMGR_GATEWAY_LIMITS_URL"
    given = environ.get(name, "").strip()
    url = given or environ.get("REDIS_URL", "").strip()
    if url == "local":
        return ""
    if url and urlsplit(url).scheme not in {"redis", "rediss", "unix"}:
        raise ImproperConfiguration(
            f"{name if given else 'REDIS_URL'} is not an address of Redis such as redis://host:6379/0;"
            f" {name}=local has this host count for itself"
        )
    return url


def _outcome_pages(environ: Mapping[str, str]) -> str:
    """Below what address of the web each outcome has its page; empty where the web's is not known."""
    url = environ.get("APIMGR_WEB_URL", "").strip().rstrip("/")
    if url and not _WEB_URL.fullmatch(url):
        raise ImproperConfiguration(f"APIMGR_WEB_URL={url!r} is not an address such as https://portal.example.com")
    return f"{url}/docs/outcomes/" if url else ""


def _database_url(environ: Mapping[str, str]) -> str:
    """Empty for none. A driver would repeat what it does not understand in our log, password and all."""
    url = environ.get("DATABASE_URL", "").strip()
    if url and urlsplit(url).scheme not in {"postgres", "postgresql"}:
        raise ImproperConfiguration("DATABASE_URL is not one of PostgreSQL: postgres://user:password@host:port/name")
    return url


def _own_ports(environ: Mapping[str, str]) -> tuple[Address, ...]:
    """What no upstream may be: the listeners, the database and Redis of this installation."""
    told = _words(environ, OWN_PORTS_VARIABLE)
    if told:
        return tuple(parse_address(word, OWN_PORTS_VARIABLE) for word in told)
    own = [_listen(environ), _admin_listen(environ)]
    for name, usual_port in (("DATABASE_URL", 5432), ("REDIS_URL", 6379), ("APIMGR_GATEWAY_LIMITS_URL", 6379)):
        try:
            url = urlsplit(environ.get(name, "").strip())
            if url.hostname:
                own.append(Address(url.hostname, url.port or usual_port))
        except ValueError:
            raise ImproperConfiguration(f"{name} is not a URL") from None
    return tuple(own)


def _listen(environ: Mapping[str, str]) -> Address:
    return parse_address(environ.get("APIMGR_GATEWAY_LISTEN", "127.0.0.1:8080"), "APIMGR_GATEWAY_LISTEN")


def _admin_listen(environ: Mapping[str, str]) -> Address:
    return parse_address(environ.get("APIMGR_GATEWAY_ADMIN_LISTEN", "127.0.0.1:8081"), "APIMGR_GATEWAY_ADMIN_LISTEN")


def from_environment(environ: Mapping[str, str] = os.environ) -> GatewayConfig:
    """Raises ``ImproperConfiguration``. Without ``DATABASE_URL`` the node runs on the replica it has."""
    return GatewayConfig(
        listen=_listen(environ),
        admin_listen=_admin_listen(environ),
        workers=_number(environ, "APIMGR_GATEWAY_WORKERS", 1, 1, MAX_WORKERS),
        node_name=_node_name(environ),
        var_dir=Path(environ.get("APIMGR_VAR", "").strip() or "var").absolute(),
        boot=_number(environ, BOOT_VARIABLE, time.time_ns() // 1_000_000, 1, 2**63 - 1),
        max_connections=_number(environ, "APIMGR_GATEWAY_MAX_CONNECTIONS", 10_000, 1, 1_000_000),
        max_per_address=_number(environ, "APIMGR_GATEWAY_MAX_CONNECTIONS_PER_ADDRESS", 4096, 0, 1_000_000),
        stall_seconds=_number(environ, "APIMGR_GATEWAY_STALL_SECONDS", 30, 0, 86_400),
        spool_bytes=_number(environ, "APIMGR_GATEWAY_SPOOL_BYTES", 10 * 1024**3, 1024**2, 2**62),
        declaration=_declaration(environ),
        max_staleness=_number(environ, "APIMGR_GATEWAY_MAX_STALENESS", 0, 0, 10 * 365 * 86_400),
        durability=_one_of(environ, "APIMGR_GATEWAY_DURABILITY", DURABILITIES, "group"),
        stats_offset=_number(environ, STATS_VARIABLE, 0, 0, MAX_WORKERS),
        egress_allow=_egress_allow(environ),
        trusted_proxies=_trusted_proxies(environ),
        own_ports=_own_ports(environ),
        shares_limits=environ.get(SHARES_LIMITS_VARIABLE, "") == "1" or bool(_limits_url(environ)),
        outcome_pages=_outcome_pages(environ),
        limits_url=_limits_url(environ),
        database_url=_database_url(environ),
        key_pepper=key_pepper(environ),
        admin_token=environ.get("APIMGR_GATEWAY_ADMIN_TOKEN", "").strip(),
    )
