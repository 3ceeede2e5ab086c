"""A limit of a decision trail in words: how much of it was left, and when there is more."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from apimgr.contracts.snapshot import PERIOD_SECONDS

# As ``proxy.dataplane.limits.windows.name_of`` spells it.
_NAME: Final = re.compile(
    r"(?P<api>api-)?"
    r"(?P<what>rate-(?:second|minute|hour|day)|quota-(?:day|month|billing)|concurrency)"
    r"(?P<narrowed>-operation|-of-api)?"
)
_WHAT: Final = {
    "rate-second": ngettext_lazy("%(amount)s call in each second", "%(amount)s calls in each second", "count"),
    "rate-minute": ngettext_lazy("%(amount)s call in each minute", "%(amount)s calls in each minute", "count"),
    "rate-hour": ngettext_lazy("%(amount)s call in each hour", "%(amount)s calls in each hour", "count"),
    "rate-day": ngettext_lazy(
        "%(amount)s call in each day, spread over it", "%(amount)s calls in each day, spread over it", "count"
    ),
    "quota-day": ngettext_lazy("Quota of the day, %(amount)s call", "Quota of the day, %(amount)s calls", "count"),
    "quota-month": ngettext_lazy(
        "Quota of the month, %(amount)s call", "Quota of the month, %(amount)s calls", "count"
    ),
    "quota-billing": ngettext_lazy(
        "Quota of the billing month, %(amount)s call", "Quota of the billing month, %(amount)s calls", "count"
    ),
    "concurrency": ngettext_lazy("%(amount)s call at once", "%(amount)s calls at once", "count"),
}
# Whose calls it counts, by whether it is the API's and what it is narrowed to.
_WHOSE: Final[dict[tuple[bool, str], str | Promise]] = {
    (False, "-operation"): _("%(what)s (of this operation)"),
    (False, "-of-api"): _("%(what)s (of this API)"),
    (True, ""): _("%(what)s (of all callers together)"),
    (True, "-operation"): _("%(what)s (of this operation, of all callers together)"),
}
_LONGEST_S: Final = 10 * 366 * 86_400  # of what can be told as a moment
_KINDS: Final = {"rate_limited": "rate", "quota_exceeded": "quota", "concurrency_exceeded": "concurrency"}


@dataclass(frozen=True, slots=True)
class Limit:
    """``reset_s``: seconds from the call until the limit was whole again; none for calls at once."""

    name: str
    what: str
    is_of_api: bool
    narrowed: str
    amount: int
    left: int
    reset_s: int

    @property
    def kind(self) -> str:
        return self.what.partition("-")[0]

    @property
    def owner(self) -> str | Promise:
        return _("Limit of the API") if self.is_of_api else _("Limit of the plan")

    @property
    def wait_s(self) -> int:
        """Seconds from the call until one could pass, where none was left: of a rate up to one too many."""
        if self.kind != "rate":
            return self.reset_s
        period = PERIOD_SECONDS[self.what.removeprefix("rate-")]
        return max(1, self.reset_s - period - (-period // self.amount))

    @property
    def refusal(self) -> str:
        """What the gateway says of a call that it refused (``proxy.dataplane.policies.limit``)."""
        period = self.what.partition("-")[2]
        per = f"per {'billing month' if period == 'billing' else period}" if period else "at once"
        who, calls = "API" if self.is_of_api else "plan", "call" if self.amount == 1 else "calls"
        return f"The {who} allows {self.amount} {calls} {per}."

    def sentence(self, at: datetime) -> str:
        what = _WHAT[self.what] % {"count": self.amount, "amount": intcomma(self.amount)}
        whose = str(_WHOSE.get((self.is_of_api, self.narrowed), "%(what)s")) % {"what": what}
        return str(_("%(limit)s: %(state)s") % {"limit": whose, "state": self._state(at)})

    def _state(self, at: datetime) -> str | Promise:
        facts = {"left": intcomma(self.left), "under_way": intcomma(max(self.amount - self.left, 0))}
        match self.kind, self.left:
            case "concurrency", 0:
                return _("%(under_way)s under way, wait until one has ended") % facts
            case "concurrency", _:
                return _("%(under_way)s under way, %(left)s left") % facts
            case "quota", 0:
                return _("none left, starts anew on %(moment)s") % {"moment": _moment(at, self.reset_s)}
            case "quota", _:
                return _("%(left)s left, starts anew on %(moment)s") % {**facts, "moment": _moment(at, self.reset_s)}
            case _, 0 if self.wait_s < 60:
                return _("none left, wait %(span)s") % {"span": _span(self.wait_s)}
            case _, 0:
                begun = 1 if at.microsecond else 0  # a second is over before it is written as over
                times = {"span": _span(self.wait_s), "moment": _moment(at, self.wait_s + begun)}
                return _("none left, wait %(span)s, until %(moment)s") % times
            case _, _ if self.reset_s:
                return _("%(left)s left, all of them again after %(span)s") % {**facts, "span": _span(self.reset_s)}
            case _:
                return _("%(left)s left") % facts


def limit_in(step: Any) -> Limit | None:
    """The limit of a step. None for one that is not as the gateway writes it."""
    match step:
        case {"name": str(name), "amount": int(amount), "left": int(left)} if found := _NAME.fullmatch(name):
            reset = step.get("reset_s", 0 if found["what"] == "concurrency" else None)
            if isinstance(reset, int) and amount > 0 and left >= 0 and 0 <= reset < _LONGEST_S:
                is_of_api, narrowed = bool(found["api"]), found["narrowed"] or ""
                return Limit(name, found["what"], is_of_api, narrowed, amount, left, reset)
    return None


def refused_by(steps: Sequence[Any], code: str, detail: str) -> int | None:
    """The place of the limit that refused a call with ``code`` and ``detail``: of several that with the longest wait.

    It need not have none left: where hosts share it, what is left may be another one's.
    """
    limits = {number: limit for number, step in enumerate(steps) if (limit := limit_in(step)) is not None}
    if code == "limits_unavailable":
        return next((number for number, limit in limits.items() if detail.endswith(f" {limit.name}.")), None)
    alike = [number for number, limit in limits.items() if limit.kind == _KINDS.get(code)]
    return max(alike, key=lambda number: _weight(limits[number], detail), default=None)


def _weight(limit: Limit, detail: str) -> tuple[bool, bool, int]:
    return limit.refusal == detail, not limit.left, limit.wait_s


def _moment(at: datetime, seconds: int) -> str:
    """So many seconds after the call, by the calendar in UTC."""
    moment = at.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
    shown = {"day": date_format(moment, "j F Y"), "time": date_format(moment, "H:i:s" if moment.second else "H:i")}
    return str(_("%(day)s at %(time)s UTC") % shown)


def _span(seconds: int) -> str:
    """A time to wait, in the two largest units it takes."""
    hours, minutes = divmod(seconds // 60, 60)
    if seconds < 60:
        return str(_("%(seconds)s\u00a0s") % {"seconds": seconds})
    if not hours:
        return str(_("%(minutes)s\u00a0min %(seconds)s\u00a0s") % {"minutes": minutes, "seconds": seconds % 60})
    return str(_("%(hours)s\u00a0h %(minutes)s\u00a0min") % {"hours": intcomma(hours), "minutes": minutes})
