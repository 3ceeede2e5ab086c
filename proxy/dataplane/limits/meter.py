"""All limits of one subscription, decided together: a call that one of them refuses spends none of the others.

``Meters`` is exact because one worker owns it. A limit shared by workers and nodes will be a window that spends a
lease; nothing above this module would notice.
"""

from __future__ import annotations

from typing import Final

from apimgr.contracts.snapshot import PlanDocument
from proxy.dataplane.limits.store import QuotaStore
from proxy.dataplane.limits.windows import QuotaWindow, RateWindow, Window

_SWEEP_ABOVE: Final = 100_000


class Meter:
    """The windows of one subscription under one plan. ``denied_by`` and ``retry_after`` explain the last refusal."""

    __slots__ = ("_template", "_template_until", "denied_by", "plan", "retry_after", "subscription_id", "windows")

    def __init__(self, plan: PlanDocument, subscription_id: int, store: QuotaStore) -> None:
        self.plan = plan
        self.subscription_id = subscription_id
        self.windows: tuple[Window, ...] = tuple(
            RateWindow(limit) if limit.kind == "rate" else QuotaWindow(limit, subscription_id, store)
            for limit in plan.limits
        )
        self.denied_by: Window | None = None
        self.retry_after = 0
        self._template = b""
        self._template_until = 0.0

    def take(self, now: float) -> bool:
        """Spend one call. False, and nothing spent, if a window has none left."""
        longest, by = 0, None
        for window in self.windows:
            wait = window.wait(now)
            if wait > longest:
                longest, by = wait, window
        if by is not None:
            self.denied_by, self.retry_after = by, longest
            return False
        for window in self.windows:
            window.spend()
        return True

    def fields(self, now: float) -> bytes:
        """The ``RateLimit`` and ``RateLimit-Policy`` lines (draft-ietf-httpapi-ratelimit-headers-10)."""
        if now >= self._template_until:
            self._make_template()
        states: list[int] = []
        for window in self.windows:
            states += window.state(now)
        return self._template % tuple(states)

    def _make_template(self) -> None:
        """All of the fields but the numbers that each call changes. A quota's length is that of its present period."""
        if self.windows:
            policies = ", ".join(window.policy for window in self.windows)
            states = ", ".join(f'"{window.name}";r=%d;t=%d' for window in self.windows)
            self._template = f"RateLimit-Policy: {policies}\r\nRateLimit: {states}\r\n".encode()
        self._template_until = min((w.end for w in self.windows if isinstance(w, QuotaWindow)), default=float("inf"))

    def is_idle(self, now: float) -> bool:
        """Whether dropping this meter loses nothing: full buckets are as new, and quotas are in the store."""
        return all(isinstance(window, QuotaWindow) or window.full_at <= now for window in self.windows)


class Meters:
    """The meters of the subscriptions that called lately."""

    def __init__(self, store: QuotaStore) -> None:
        self._store = store
        self._meters: dict[int, Meter] = {}
        self._sweep_above = _SWEEP_ABOVE

    def of(self, plan: PlanDocument, subscription_id: int, now: float) -> Meter:
        """The meter of a subscription. When its plan has changed, what was spent of limits that stay is kept."""
        meter = self._meters.get(subscription_id)
        if meter is not None and (meter.plan is plan or meter.plan == plan):
            return meter
        fresh = Meter(plan, subscription_id, self._store)
        if meter is not None:
            _carry_over(meter, fresh)
        elif len(self._meters) >= self._sweep_above:
            self._sweep(now)
        self._meters[subscription_id] = fresh
        return fresh

    def _sweep(self, now: float) -> None:
        self._meters = {key: meter for key, meter in self._meters.items() if not meter.is_idle(now)}
        self._sweep_above = max(_SWEEP_ABOVE, 2 * len(self._meters))


def _carry_over(old: Meter, fresh: Meter) -> None:
    spent = {window.limit_id: window for window in old.windows if isinstance(window, RateWindow)}
    for window in fresh.windows:
        before = spent.get(window.limit_id)
        if isinstance(window, RateWindow) and before is not None:
            window.full_at = before.full_at
