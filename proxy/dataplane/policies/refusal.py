"""A request the gateway answers itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from apimgr.contracts.outcomes import BY_CODE

if TYPE_CHECKING:
    from proxy.dataplane.runtime import Caller


class Refusal(Exception):
    """Ends a request with an outcome. ``detail`` is a sentence about this very call; ``lines`` are response fields."""

    def __init__(self, code: str, detail: str = "", lines: bytes = b"") -> None:
        super().__init__(code)
        self.outcome = BY_CODE[code]
        self.detail = detail
        self.lines = lines
        self.caller: Caller | None = None  # as far as it is known


CHALLENGE: Final = b'WWW-Authenticate: Bearer realm="api"\r\n'
INVALID_TOKEN: Final = b'WWW-Authenticate: Bearer realm="api", error="invalid_token"\r\n'
