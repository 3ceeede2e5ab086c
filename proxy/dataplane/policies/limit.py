"""The limits of plan and API, all windows together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.dataplane.policies.refusal import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.limits.meter import Meter

_CODES: Final = {"rate": "rate_limited", "quota": "quota_exceeded", "concurrency": "concurrency_exceeded"}


def spend(meter: Meter, now: float) -> None:
    """Count the call, or refuse it and count nothing."""
    if meter.take(now):
        return
    window = meter.denied_by
    assert window is not None, "a refusal names its window"
    lines = b"Retry-After: %d\r\n" % meter.retry_after + meter.fields(now)
    raise Refusal(_CODES[window.kind], _sentence(window.owner, window.amount, window.limit.period), lines)


def _sentence(owner: int, amount: int, period: str) -> str:
    who = "The plan" if owner > 0 else "The API"
    what = "call" if amount == 1 else "calls"
    if period == "none":
        return f"{who} allows {amount} {what} at once."
    return f"{who} allows {amount} {what} per {'billing month' if period == 'billing' else period}."
