"""What happened: the ledger of shipped batches, the calls themselves, and their rollups."""

from __future__ import annotations

from analytics.models.event import UsageBatch, UsageBoot, UsageEvent, UsageNode
from analytics.models.rollup import (
    ConsumerDay,
    ConsumerHour,
    ConsumerMinute,
    KeyHour,
    TrafficDay,
    TrafficHour,
    TrafficMinute,
)

__all__ = [
    "ConsumerDay",
    "ConsumerHour",
    "ConsumerMinute",
    "KeyHour",
    "TrafficDay",
    "TrafficHour",
    "TrafficMinute",
    "UsageBatch",
    "UsageBoot",
    "UsageEvent",
    "UsageNode",
]
