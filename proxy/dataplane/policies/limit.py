"""The plan's limits, all windows together."""

from __future__ import annotations

from proxy.dataplane.limits.meter import Meter
from proxy.dataplane.policies.refusal import Refusal


def spend(meter: Meter, now: float) -> None:
    """Count the call, or refuse it and count nothing."""
    if meter.take(now):
        return
    window = meter.denied_by
    assert window is not None, "a refusal names its window"
    code = "rate_limited" if window.kind == "rate" else "quota_exceeded"
    what = "calls" if window.amount != 1 else "call"
    detail = f"The plan allows {window.amount} {what} per {window.name.partition('-')[2]}."
    raise Refusal(code, detail, b"Retry-After: %d\r\n" % meter.retry_after + meter.fields(now))
