"""The ``Vary`` field (RFC 9110 section 12.5.5): what a cache has to compare besides the address."""

from __future__ import annotations

import re
from typing import Final

# From the LF before it, so that the scan leaps from line to line; the LF after it is the next line's.
_VARY: Final = re.compile(rb"\n[Vv][Aa][Rr][Yy]:[ \t]*+([^\r]*+)\r(?=\n)")


def vary_on(lines: bytes, name: bytes) -> bytes:
    """Field lines whose ``Vary`` names ``name``, in one field with what the upstream said."""
    given = _VARY.findall(b"\n" + lines)
    members = [member for value in given for part in value.split(b",") if (member := part.strip(b" \t"))]
    if b"*" in members or name.lower() in (member.lower() for member in members):
        return lines
    kept = _VARY.sub(b"", b"\n" + lines)[1:] if given else lines
    return kept + b"Vary: " + b", ".join([*members, name]) + b"\r\n"
