"""One limit's state: a smooth rate, or a hard count per calendar period. Pure: ``now`` is Unix seconds, passed in."""

from __future__ import annotations

from math import ceil

from apimgr.contracts.snapshot import PERIOD_SECONDS, LimitDocument
from proxy.dataplane.limits.calendar import period_bounds
from proxy.dataplane.limits.store import QuotaStore

_SLACK = 1e-6  # Unix seconds in a double are exact to about a quarter of a microsecond


class RateWindow:
    """A token bucket kept as one number (GCRA): when the bucket will be full again.

    ``amount`` calls may come at once; after that they are spread over the period.
    """

    __slots__ = ("amount", "full_at", "interval", "limit_id", "name", "period")

    kind = "rate"

    def __init__(self, limit: LimitDocument) -> None:
        self.limit_id = limit.id
        self.name = f"rate-{limit.period}"
        self.amount = limit.amount
        self.period = PERIOD_SECONDS.get(limit.period, 30 * 86_400)
        self.interval = self.period / limit.amount if limit.amount else float("inf")
        self.full_at = 0.0

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.amount};w={self.period}'

    def wait(self, now: float) -> int:
        """0 if a call may pass now, else the whole seconds until one may."""
        # A clock that stepped back must not lock callers out for the length of the step.
        full_at = self.full_at
        if full_at < now:
            self.full_at = now
            return 0 if self.amount else self.period
        if full_at > now + self.period:
            self.full_at = full_at = now + self.period
        over = full_at + self.interval - now - self.period
        return 0 if over <= _SLACK else max(1, ceil(min(over, self.period)))

    def spend(self) -> None:
        self.full_at += self.interval

    def state(self, now: float) -> tuple[int, int]:
        """Calls left, and the seconds until there are as many as there can be."""
        filled_in = self.full_at - now
        if filled_in <= 0:
            return self.amount, 0
        left = int((self.period - filled_in + _SLACK) / self.interval)
        return min(left, self.amount), ceil(filled_in)


class QuotaWindow:
    """A count that starts again with each calendar period (UTC), written through to the store."""

    __slots__ = ("amount", "end", "limit_id", "name", "period", "start", "store", "subscription_id", "used")

    kind = "quota"

    def __init__(self, limit: LimitDocument, subscription_id: int, store: QuotaStore) -> None:
        self.limit_id = limit.id
        self.name = f"quota-{limit.period}"
        self.amount = limit.amount
        self.period = limit.period
        self.subscription_id = subscription_id
        self.store = store
        self.start = self.end = self.used = 0

    @property
    def policy(self) -> str:
        return f'"{self.name}";q={self.amount};w={self.end - self.start}'

    def wait(self, now: float) -> int:
        if now >= self.end or not self.store.is_alone:
            self._look_up(now)
        return 0 if self.used < self.amount else max(1, ceil(self.end - now))

    def _look_up(self, now: float) -> None:
        """What was used of the present period, by us or by the worker that we replace or that replaces us."""
        self.start, self.end = period_bounds(self.period, now)
        start, used = self.store.read(self.subscription_id, self.limit_id)
        self.used = used if start == self.start else 0

    def spend(self) -> None:
        self.used = self.store.spend(self.subscription_id, self.limit_id, self.start)

    def state(self, now: float) -> tuple[int, int]:
        """Calls left, and the seconds until there are as many as there can be."""
        return max(self.amount - self.used, 0), ceil(self.end - now)


Window = RateWindow | QuotaWindow
