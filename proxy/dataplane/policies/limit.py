"""The limits of plan and API, all windows together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.dataplane.limits import ASKING, TAKEN
from proxy.dataplane.policies.refusal import Refusal

if TYPE_CHECKING:
    from proxy.dataplane.limits.meter import Meter

_CODES: Final = {"rate": "rate_limited", "quota": "quota_exceeded", "concurrency": "concurrency_exceeded"}


def spend(meter: Meter, now: float, *, waited: bool = False) -> bool:
    """Count the call, or refuse it and count nothing. False, and nothing counted, if it has to wait.

    Who has ``waited`` for the grantor is told without it.
    """
    taken = meter.take(now, waited=waited)
    if taken == TAKEN:
        return True
    if taken == ASKING:
        return False
    window = meter.denied_by
    assert window is not None, "a refusal names its window"
    lines = b"Retry-After: %d\r\n" % meter.retry_after + meter.fields(now)
    if meter.is_stuck:
        raise Refusal("limits_unavailable", "Calls cannot be counted at the moment.", lines)
    if meter.unavailable:
        raise Refusal("limits_unavailable", f"The gateway cannot ask how much is left of {window.name}.", lines)
    raise Refusal(_CODES[window.kind], _sentence(window.owner, window.amount, window.limit.period), lines)


def _sentence(owner: int, amount: int, period: str) -> str:
    who = "The plan" if owner > 0 else "The API"
    what = "call" if amount == 1 else "calls"
    if period == "none":
        return f"{who} allows {amount} {what} at once."
    return f"{who} allows {amount} {what} per {'billing month' if period == 'billing' else period}."
