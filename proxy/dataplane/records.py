"""The record of a call, laid out as ``contracts.usage.UsageRecord`` is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from apimgr.contracts.credentials import without_keys
from apimgr.contracts.outcomes import Outcome
from apimgr.contracts.usage import FLAG_TUNNEL, KNOWN, MAX_PATH_BYTES, MAX_TRAIL_BYTES, METHOD_NUMBERS, REST, seal
from proxy.dataplane.http.request import RequestHead
from proxy.dataplane.runtime import NOBODY

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange

_MOST_MICROSECONDS: Final = 0xFFFF_FFFF  # 71 minutes; streams and tunnels last longer
_METHOD_NUMBERS: Final = {method.encode(): number for method, number in METHOD_NUMBERS.items()}


def method_number(head: RequestHead) -> int:
    """0 for a method that has none."""
    return _METHOD_NUMBERS.get(head.method, 0)


def what_is_known(exchange: Exchange) -> bytes:
    """The first part, which is settled once a call is passed on; of one that was not, as far as it came."""
    version, caller = exchange.version, exchange.caller or NOBODY
    of_api = version or exchange.fork  # a call that names no version of it is still the API's to explain
    return KNOWN.pack(
        exchange.request_id,
        int(exchange.started_at * 1_000_000),
        of_api.api_id if of_api is not None else 0,
        version.id if version is not None else 0,
        exchange.operation_id,
        caller.application_id,
        caller.credential_id,
        caller.plan_id,
    )


def record_of(exchange: Exchange, outcome: Outcome, trail: bytes) -> bytes:
    """The whole record, sealed. Who makes ``trail`` keeps it within its bound: what is cut here is no JSON any more."""
    head, caller = exchange.head, exchange.caller or NOBODY
    # A key may stand in a path by mistake; it is not for us to keep.
    path = b"" if exchange.operation_id and not outcome.refusal else without_keys(head.path)[:MAX_PATH_BYTES]
    trail = trail[:MAX_TRAIL_BYTES]
    rest = REST.pack(
        exchange.bytes_in,
        exchange.bytes_out,
        min(((exchange.ended_ns or time.monotonic_ns()) - exchange.started_ns) // 1000, _MOST_MICROSECONDS),
        min(exchange.upstream_us, _MOST_MICROSECONDS),
        exchange.status,
        exchange.upstream_status,
        outcome.number,
        method_number(head),
        caller.flags | FLAG_TUNNEL if exchange.status == 101 else caller.flags,
        exchange.client.address_of(head),
        len(path),
        len(trail),
    )
    return seal((exchange.known or what_is_known(exchange)) + rest + path + trail)
