"""Calls for tests: usage records made with the fewest words, stored by the road real ones take."""

from __future__ import annotations

import itertools
import random
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

from analytics.services import ingest
from apimgr.contracts.usage import METHOD_NUMBERS, UsageRecord

_segments = itertools.count(1)
NOW = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)


def request_id(started_at_us: int) -> bytes:
    """A UUIDv7 of that moment."""
    random_bits = secrets.randbits(76)
    value = started_at_us // 1000 << 80 | 7 << 76 | (random_bits >> 64) << 64 | 2 << 62 | random_bits & (1 << 62) - 1
    return value.to_bytes(16, "big")


def call(at: datetime = NOW, **fields: Any) -> UsageRecord:
    started = round(at.timestamp() * 1_000_000)
    values: dict[str, Any] = {
        "request_id": request_id(started),
        "started_at_us": started,
        "api_id": 1,
        "version_id": 2,
        "operation_id": 3,
        "application_id": 4,
        "credential_id": 5,
        "plan_id": 6,
        "bytes_in": 10,
        "bytes_out": 200,
        "total_us": 12_000,
        "upstream_us": 10_000,
        "status": 200,
        "upstream_status": 200,
        "outcome": 0,
        "method": METHOD_NUMBERS["GET"],
        "flags": 0,
        "client": bytes(10) + b"\xff\xff" + bytes([203, 0, 113, 7]),
    }
    return UsageRecord(**{**values, **fields})


def store(*records: UsageRecord, node: str = "node-1") -> int:
    return ingest.write_batch(node=node, boot=1, worker=0, segment=next(_segments), records=records)


def random_calls(
    seed: int, count: int, *, start: datetime = NOW, span: timedelta = timedelta(hours=30)
) -> list[UsageRecord]:
    """A believable mess, the same for the same seed."""
    choose = random.Random(seed)
    return [
        call(
            start + span * choose.random(),
            version_id=choose.choice([2, 2, 2, 7]),
            operation_id=choose.choice([0, 3, 31, 32]),
            application_id=choose.choice([0, 4, 41]),
            credential_id=choose.choice([0, 5, 51]),
            plan_id=choose.choice([6, 61]),
            bytes_out=choose.randrange(10_000),
            total_us=int(choose.lognormvariate(9, 1)),
            upstream_us=choose.choice((0, choose.randrange(1, 5_000))),
            status=choose.choice([200, 200, 200, 201, 304, 404, 429, 500, 502]),
            outcome=choose.choice([0, 0, 0, 0, 21, 40, 50, 53, 60, 75]),
            method=choose.choice([1, 3]),
        )
        for _ in range(count)
    ]
