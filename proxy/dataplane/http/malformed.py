"""What the parsers raise."""

from __future__ import annotations


class Malformed(Exception):
    """Bytes that are not the HTTP we serve. ``code`` is an outcome code; ``detail`` never repeats the input."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


def bad_request(detail: str) -> Malformed:
    return Malformed("bad_request", detail)
