"""All limits that hold for a call, decided together: a call that one of them refuses spends none of the others.

Limits of the plan belong to the subscription, or the one it carries on, limits of the API to all of its callers
together; either may be narrowed to an operation. What was spent lies in the node's table, so a meter is a view that can
be made anew at any time.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, partial

from apimgr.contracts.snapshot import LimitDocument, PlanDocument, SubscriptionDocument, VersionDocument
from proxy.dataplane.limits import ASKING, REFUSED, TAKEN
from proxy.dataplane.limits.leased import ASK, CLOSED, Leased, leased_window
from proxy.dataplane.limits.table import ASKED, CHANGES, STUCK_SECONDS, Stuck, Table
from proxy.dataplane.limits.windows import ConcurrencyWindow, QuotaWindow, RateWindow, name_of

Window = RateWindow | QuotaWindow | ConcurrencyWindow


class Meter:
    """The windows that hold for one caller of one version. ``denied_by`` and ``retry_after`` explain the last refusal.

    ``narrows``: some hold for certain operations only; then ask ``for_operation``. ``shared``: with other hosts; then
    ``lacking`` are the slots whose leases the last call that was ``ASKING`` found spent, ``is_granted`` says whether
    the last one taken rests on grants alone, and ``unavailable`` whether the last refusal is for want of the grantor.
    ``is_stuck``: the last call could not be decided, for another process stands on what the owner has spent.
    """

    __slots__ = (
        "_all", "_by_operation", "_changes", "_lock", "_quotas", "_slots", "_table", "_template", "_template_until",
        "counts_failures", "denied_by", "is_granted", "is_stuck", "lacking", "narrows", "retry_after", "shared",
        "slots_held", "unavailable", "windows",
    )  # fmt: skip

    def __init__(self, table: Table, windows: Iterable[Window], *, counts_failures: bool, operation: int = 0) -> None:
        self._table = table
        self._all = self.windows = tuple(windows)
        holding = tuple(w for w in self._all if w.limit.operation_id in (0, operation))
        if len(holding) < len(self._all):
            self.windows = holding
        self.narrows = not operation and self.windows is not self._all
        self._by_operation: dict[int, Meter] | None = {} if self.narrows else None
        self._lock = table.locked(*(window.owner for window in self.windows))
        self._quotas = tuple(window for window in self.windows if isinstance(window, QuotaWindow))
        self._slots = tuple(window for window in self.windows if isinstance(window, ConcurrencyWindow))
        self.slots_held = bool(self._slots)
        self.counts_failures = counts_failures
        self.denied_by: Window | None = None
        self.retry_after = 0
        self.shared = table.shared
        self.is_granted = True
        self.unavailable = False
        self.is_stuck = False
        self.lacking: tuple[int, ...] = ()
        self._changes = -1
        self._template = b""
        self._template_until = 0.0

    def for_operation(self, operation: int) -> Meter:
        """The meter of the calls of one operation; 0 for calls of none."""
        assert self._by_operation is not None, "only asked where some limits hold for certain operations"
        narrow = self._by_operation.get(operation)
        if narrow is None:
            narrow = Meter(self._table, self._all, counts_failures=self.counts_failures, operation=operation or -1)
            self._by_operation[operation] = narrow
        return narrow

    def take(self, now: float, *, waited: bool = False) -> int:
        """Spend one call: ``TAKEN``. If a window has none left, nothing is spent: ``REFUSED``.

        ``ASKING``: nothing is spent yet, for the grantor must be asked about ``lacking``. Who has ``waited`` for it
        long enough gets an answer without it. Where nothing is lacking it is to be tried again in a moment: another
        process stands on what the owner has spent. If it does so for long, the call is refused, whatever the plan says
        of the grantor: what is not counted must not pass, and it is this owner's calls alone.
        """
        table = self._table
        table.look_around()
        self.is_stuck = False
        try:
            if table.alone:
                # More than once if one was given up while another was made.
                while table.cells[CHANGES] != self._changes:
                    self._find_slots(now)
                return self._decide(now)
            while True:
                with self._lock:
                    if table.cells[CHANGES] == self._changes:
                        return self._decide_shared(now, waited=waited) if self.shared else self._decide(now)
                # Not under the owner's lock: the index has one of its own, which comes first.
                self._find_slots(now)
        except Stuck as stuck:
            return self._cannot_decide(stuck)

    def _cannot_decide(self, stuck: Stuck) -> int:
        self.is_stuck = True
        if stuck.seconds < STUCK_SECONDS:
            self.lacking = ()
            return ASKING
        self.denied_by, self.retry_after = self.windows[0], 1
        return REFUSED

    def _find_slots(self, now: float) -> None:
        changes = self._table.cells[CHANGES]
        for window in self.windows:
            anchor = window.anchor if isinstance(window, QuotaWindow) else 0
            window.at = self._table.slot(window.owner, window.limit, anchor, now)
        # What changed meanwhile, by ourselves as well, is yet to be found.
        self._changes = changes

    def _decide(self, now: float) -> int:
        longest, by = 0, None
        for window in self.windows:
            wait = window.wait(now)
            if wait > longest:
                longest, by = wait, window
        if by is not None:
            self.denied_by, self.retry_after = by, longest
            return REFUSED
        for window in self.windows:
            window.spend()
        return TAKEN

    def _decide_shared(self, now: float, *, waited: bool) -> int:
        longest, by, asks, closed = 0, None, False, None
        for window in self.windows:
            wait = window.wait(now)
            if wait == ASK and waited:
                assert isinstance(window, Leased), "the others never ask"
                wait = window.without(now)
            if wait > longest:
                longest, by = wait, window
            elif wait == ASK:
                asks = True
            elif wait == CLOSED:
                closed = window
        self.unavailable = by is None and closed is not None
        if by is not None or closed is not None:
            # Asking for others would be in vain: a call spends of all or of none.
            self.denied_by, self.retry_after = by or closed, longest or 1
            return REFUSED
        if asks:
            self._note_lacking(now)
            return ASKING
        granted = True
        for window in self.windows:
            window.spend()
            granted = granted and window.granted
        self.is_granted = granted
        return TAKEN

    def _note_lacking(self, now: float) -> None:
        self.lacking = tuple(window.at for window in self.windows if window.wait(now) == ASK)
        for at in self.lacking:
            self._table.cells[at + ASKED] += 1

    def ended(self, *, counts: bool, began: float) -> None:
        """A call that was let through is over. ``counts``: whether it counts against quotas, of when it ``began``."""
        for slot in self._slots:
            slot.release()
        if counts or not self._quotas:
            return
        table = self._table
        table.look_around()
        if table.alone:
            self._give_back(began)
        elif not self._give_back_locked(began):
            table.later(partial(self._give_back_locked, began))

    def _give_back_locked(self, began: float) -> bool:
        """False if another process stands on what the owner has spent."""
        try:
            with self._lock:
                self._give_back(began)
        except Stuck:
            return False
        return True

    def _give_back(self, began: float) -> None:
        for quota in self._quotas:
            quota.give_back(began)

    def fields(self, now: float) -> bytes:
        """The ``RateLimit`` and ``RateLimit-Policy`` lines (draft-ietf-httpapi-ratelimit-headers-10), where known."""
        if self.is_stuck:
            return b""
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
            states = ", ".join(
                f'"{window.name}";r=%d' if isinstance(window, ConcurrencyWindow) else f'"{window.name}";r=%d;t=%d'
                for window in self.windows
            )
            self._template = _one(f"RateLimit-Policy: {policies}\r\nRateLimit: {states}\r\n".encode())
        self._template_until = min((window.end for window in self._quotas), default=float("inf"))


@lru_cache(maxsize=1024)
def _one(template: bytes) -> bytes:
    """The same object for equal templates: meters are many, and most are of few plans."""
    return template


def window_for(table: Table, owner: int, limit: LimitDocument, anchor: int, *, opens: bool = True) -> Window:
    """The window of a limit. ``owner`` below zero is an API; ``anchor`` is where billing months begin.

    ``opens``: without the grantor, calls pass.
    """
    name = name_of(owner, limit)
    if table.shared:
        return leased_window(table, owner, limit, name, anchor, opens=opens)
    if limit.kind == "rate":
        return RateWindow(table, owner, limit, name)
    if limit.kind == "quota":
        return QuotaWindow(table, owner, limit, name, anchor)
    return ConcurrencyWindow(table, owner, limit, name)


def meter_of_caller(
    table: Table, plan: PlanDocument, subscription: SubscriptionDocument, version: VersionDocument
) -> Meter | None:
    """The limits of a subscriber's calls to a version; ``None`` if there are none."""
    anchor, opens = subscription.billing_anchor, plan.without_grantor == "open"
    windows = [
        window_for(table, subscription.spender, limit, anchor, opens=opens)
        for limit in plan.limits
        if limit.api_id in (0, version.api_id) and _may_apply(limit, version)
    ]
    windows += [window_for(table, -version.api_id, limit, 0, opens=opens) for limit in version.limits]
    return Meter(table, windows, counts_failures=plan.counts_failures) if windows else None


def meter_of_anybody(table: Table, version: VersionDocument) -> Meter | None:
    """The limits of calls without a key."""
    windows = [window_for(table, -version.api_id, limit, 0) for limit in version.limits]
    return Meter(table, windows, counts_failures=True) if windows else None


def _may_apply(limit: LimitDocument, version: VersionDocument) -> bool:
    return not limit.operation_id or any(operation.id == limit.operation_id for operation in version.operations)
