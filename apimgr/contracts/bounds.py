"""What gateway settings and limits may be, for both planes: a page, a file and a compiler refuse the same things."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Final
from urllib.parse import urlsplit

from apimgr.contracts import selection
from apimgr.contracts.snapshot import (
    PERIOD_SECONDS,
    Document,
    LimitDocument,
    PlanDocument,
    RouteDocument,
    VersionDocument,
    may_switch_to,
)
from apimgr.contracts.templates import MAX_WAYS, most_ways

#: Least and most of each number; bytes and milliseconds.
BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "connect_timeout_ms": (1, 600_000),
    "read_timeout_ms": (1, 3_600_000),
    "max_connections": (1, 65_536),
    "max_body_bytes": (0, 2**40),
    "tunnel_idle_ms": (1_000, 86_400_000),
    "max_message_bytes": (1, 2**30),
}
MAX_BASE_SEGMENTS: Final = 15
# Every node keeps every version whole, reads it anew whenever it changes, and serves everybody else beside it.
MAX_OPERATIONS: Final = 10_000
MAX_PATHS_BYTES: Final = 2**20  # of all operations' paths together: some hundred for each of as many as there may be
MAX_DOCUMENT_BYTES: Final = 2**21  # as the change log has it
MAX_UPGRADES: Final = 10
MAX_ORIGINS: Final = 100
MAX_LIMITS: Final = 50  # every one that holds for a call is asked, and told in the answer's fields
MAX_AMOUNT: Final = 10**12
MAX_PER_SECOND: Final = 10_000_000  # calls are spaced by whole nanoseconds: beyond, a rate is no longer exact to 1 %
MAX_AT_ONCE: Final = 65_535  # what a worker can count
UPGRADE: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")
ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")
_USUAL_PORT: Final = {"http": ":80", "https": ":443"}


def is_upgrade(protocol: str) -> bool:
    """Whether calls may switch to ``protocol``, as ``Upgrade`` names it, in lower case."""
    return UPGRADE.fullmatch(protocol) is not None and may_switch_to(protocol)


def is_origin(origin: str) -> bool:
    """Whether ``origin`` is one in the words of a browser: lower case, no path, no port that goes without saying."""
    scheme = origin.partition(":")[0]
    return ORIGIN.fullmatch(origin) is not None and not origin.endswith(_USUAL_PORT.get(scheme, "\0"))


def most(kind: str, period: str) -> int:
    """The largest amount of a limit that makes sense."""
    if kind == "concurrency":
        return MAX_AT_ONCE
    return MAX_PER_SECOND * PERIOD_SECONDS[period] if kind == "rate" else MAX_AMOUNT


def problem_of_limits(limits: Iterable[LimitDocument]) -> str:
    """What is wrong with the limits of one owner; empty if nothing is."""
    places = set()
    for limit in limits:
        words = f"{limit.kind}, per {limit.period}" if limit.period != "none" else limit.kind
        highest = most(limit.kind, limit.period)
        if not 1 <= limit.amount <= highest:
            return f"a limit ({words}) is {limit.amount}, not between 1 and {highest}"
        place = limit.kind, limit.period, limit.api_id, limit.operation_id
        if place in places:
            return f"there are two limits ({words}) for the same calls"
        places.add(place)
    return f"more than {MAX_LIMITS} limits" if len(places) > MAX_LIMITS else ""


def is_upstream(url: str) -> bool:
    """Whether calls can be forwarded below ``url``, as it is spelled; what is behind it is not looked at."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_whole and url.isascii() and not any(char <= " " or char in "?#@" for char in url)


def problem_of_paths(paths: Collection[str]) -> str:
    """Why no gateway should serve operations with these paths, each as often as it has operations; empty if one may."""
    if len(paths) > MAX_OPERATIONS:
        return f"there are {len(paths):,} operations, more than the {MAX_OPERATIONS:,} of a version"
    size = sum(len(path.encode("utf-8", "surrogatepass")) for path in paths)
    if size > MAX_PATHS_BYTES:
        return f"the paths of all operations have {size:,} bytes together, more than {MAX_PATHS_BYTES:,}"
    return ""


def problem_of_size(raw: bytes) -> str:
    """Why no node should be sent the document that ``raw`` is; empty if one may."""
    return f"it has {len(raw):,} bytes, more than {MAX_DOCUMENT_BYTES:,}" if len(raw) > MAX_DOCUMENT_BYTES else ""


def problem_of(document: Document) -> str:
    """Why no gateway should serve by ``document`` as it is set; empty if one may."""
    if isinstance(document, VersionDocument):
        return _problem_of_version(document)
    if isinstance(document, PlanDocument):
        return problem_of_limits(document.limits)
    return selection.problem_of(document) if isinstance(document, RouteDocument) else ""


def _problem_of_version(version: VersionDocument) -> str:
    for name, (least, most) in BOUNDS.items():
        value = getattr(version if hasattr(version, name) else version.upstream, name)
        if not least <= value <= most:
            return f"{name} is {value}, not between {least} and {most}"
    if wrong := [name for name in version.upgrades if not is_upgrade(name)]:
        return f"calls cannot switch to {wrong[0]!r}"
    if wrong := [origin for origin in version.websocket_origins if not is_origin(origin)]:
        return f"{wrong[0]!r} is no origin of a browser"
    if len(version.upgrades) > MAX_UPGRADES or len(version.websocket_origins) > MAX_ORIGINS:
        return f"more than {MAX_UPGRADES} protocols or {MAX_ORIGINS} origins"
    paths = [operation.path for operation in version.operations]
    if problem := problem_of_paths(paths):
        return problem
    ways = most_ways(paths)
    if ways > MAX_WAYS:
        return f"one path could lead to {ways:,} places of the templates, more than {MAX_WAYS:,}"
    if not is_upstream(version.upstream.url):
        return f"the upstream {version.upstream.url!r} is not an http or https address in ASCII"
    return problem_of_limits(version.limits)
