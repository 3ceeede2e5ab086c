"""Calls from our pages to the gateway: "Run it here" and the reference's try-it.

Only ever to the gateway's own address, without redirects, bounded in size, time and number: a page of ours is no relay
to anywhere else.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx
from django.conf import settings
from django.utils.translation import gettext as _

from apimgr.core.errors import DomainError

MAX_REQUEST_BYTES: Final = 1024 * 1024
MAX_RESPONSE_BYTES: Final = 1024 * 1024
TIMEOUT: Final = httpx.Timeout(15, connect=3)
# A slow upstream must not take every thread the pages are served with.
_room = threading.BoundedSemaphore(3)


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes
    is_whole: bool
    took_ms: int

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Busy(DomainError):
    status = 503
    code = "busy"


class Unreachable(DomainError):
    status = 502
    code = "gateway_unreachable"


def is_gateway_url(url: str) -> bool:
    """Whether ``url`` is below the gateway's own address, spelt plainly."""
    try:
        given, own = urlsplit(url), urlsplit(settings.GATEWAY_URL)
        same = (given.scheme, given.hostname, given.port) == (own.scheme, own.hostname, own.port)
    except ValueError:
        return False
    return same and given.username is None and given.password is None and "\\" not in url and url.isprintable()


def call_gateway(
    method: str, url: str, *, headers: Iterable[tuple[str, str]] = (), body: bytes = b"", keep: int = MAX_RESPONSE_BYTES
) -> Answer:
    """One call; ``body`` of the answer is cut after ``keep`` bytes. Raises ``DomainError`` when there is no answer."""
    if not is_gateway_url(url):
        raise DomainError(_("Only calls to the gateway are possible here."), code="not_gateway")
    if len(body) > MAX_REQUEST_BYTES:
        raise DomainError(_("The request is larger than 1 MiB."), fix=_("Send it from your own client."))
    if not _room.acquire(timeout=2):
        raise Busy(_("Too many calls are being tried at the moment."), fix=_("Try again in a few seconds."))
    try:
        return _call(method, url, list(headers), body, keep)
    except httpx.TimeoutException as error:
        raise Unreachable(
            _("No answer within 15 s."), code="timeout", fix=_("Call it from your own client.")
        ) from error
    except httpx.HTTPError as error:
        raise Unreachable(_("The gateway at %(url)s does not answer.") % {"url": settings.GATEWAY_URL}) from error
    finally:
        _room.release()


def _call(method: str, url: str, headers: list[tuple[str, str]], body: bytes, keep: int) -> Answer:
    began = time.monotonic()
    deadline = began + 15
    with (
        httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False) as client,
        client.stream(method, url, headers=headers, content=body or None) as response,
    ):
        received = bytearray()
        for chunk in response.iter_bytes():
            received += chunk
            if len(received) > keep or time.monotonic() > deadline:
                break
        whole = len(received) <= keep and response.is_stream_consumed
        took = round((time.monotonic() - began) * 1000)
        return Answer(response.status_code, response.headers.multi_items(), bytes(received[:keep]), whole, took)
