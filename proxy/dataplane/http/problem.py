"""The gateway's own answers: RFC 9457 problem documents."""

from __future__ import annotations

import json
from http import HTTPStatus

from apimgr.contracts.outcomes import Outcome


def problem_body(outcome: Outcome, detail: str, request_id: str, pages: str) -> bytes:
    """The JSON document. It names the outcome and the request and repeats nothing the caller sent (H18).

    Its type is the outcome's page below ``pages``; without them ``about:blank``, which is titled as its status is.
    """
    body = {
        "type": f"{pages}{outcome.code}/" if pages else "about:blank",
        "title": outcome.title if pages else HTTPStatus(outcome.status).phrase,
        "status": outcome.status,
        "detail": detail or outcome.title,
        "code": outcome.code,
        "request_id": request_id,
    }
    if outcome.fix:
        body["fix"] = outcome.fix
    return json.dumps(body, ensure_ascii=False).encode() + b"\n"


def problem_head(status: int, length: int, lines: bytes) -> bytes:
    """The response head without its final empty line. ``lines`` are further fields, each ended by CRLF."""
    return (
        b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\nCache-Control: no-store\r\n"
        % (status, HTTPStatus(status).phrase.encode(), length)
    ) + lines
