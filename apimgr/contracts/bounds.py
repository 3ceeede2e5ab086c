"""What a version's gateway settings may be, for both planes: a page, a file and a compiler refuse the same things."""

from __future__ import annotations

import re
from typing import Final

from apimgr.contracts.snapshot import VersionDocument, may_switch_to

#: Least and most of each number; bytes and milliseconds.
BOUNDS: Final[dict[str, tuple[int, int]]] = {
    "connect_timeout_ms": (1, 600_000),
    "read_timeout_ms": (1, 3_600_000),
    "max_connections": (1, 65_536),
    "max_body_bytes": (0, 2**40),
    "tunnel_idle_ms": (1_000, 86_400_000),
    "max_message_bytes": (1, 2**30),
}
MAX_UPGRADES: Final = 10
MAX_ORIGINS: Final = 100
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


def problem_of(version: VersionDocument) -> str:
    """Why no gateway should serve ``version`` as it is set; empty if one may."""
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
    return ""
