"""A usage record as the row of ``usage_event`` it becomes, whoever stores it: a gateway's shipper or a backfill."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final
from uuid import UUID

from apimgr.contracts.usage import UsageRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MOST_MICROSECONDS: Final = 2**31 - 1  # 35 minutes: a longer call is stored as that long


def event_rows(batch_id: int, records: Iterable[UsageRecord]) -> Iterator[tuple[Any, ...]]:
    """The values of ``EVENT_COLUMNS``, in their order, for each record; the trail as what JSON holds."""
    for record in records:
        yield (
            batch_id,
            UUID(bytes=record.request_id),
            at(record.started_at_us),
            *record[2:10],
            min(record.total_us, _MOST_MICROSECONDS),
            min(record.upstream_us, _MOST_MICROSECONDS),
            *record[12:17],
            _client(record.client),
            _text(record.path) or None,
            _trail(record.trail),
        )


def at(microseconds: int) -> datetime:
    """A record's time, microseconds since the Unix epoch, in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)


def _client(packed: bytes) -> IPv4Address | IPv6Address | None:
    if not any(packed):
        return None
    address = IPv6Address(packed)
    return address.ipv4_mapped or address


def _text(raw: bytes) -> str:
    """PostgreSQL's text takes neither NUL nor what is not UTF-8; a caller's path may hold both."""
    return raw.decode(errors="replace").replace("\0", "\ufffd")


def _trail(raw: bytes) -> Any:
    if not raw:
        return None
    text = _text(raw).replace("\\u0000", "\\ufffd")
    try:
        return json.loads(text)
    except ValueError:  # cut to its limit
        return {"cut": text}
