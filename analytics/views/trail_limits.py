"""A limit of a decision trail in words: how much of it was left, and when there is more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.formats import date_format
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

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


@dataclass(frozen=True, slots=True)
class Limit:
    """``reset_s``: seconds from the call until the limit was whole again; none for calls at once.

    ``retry_after_s``: of the one that refused the call the wait its caller was told, 0 of others.
    """

    what: str
    is_of_api: bool
    narrowed: str
    amount: int
    left: int
    reset_s: int
    retry_after_s: int

    @property
    def kind(self) -> str:
        return self.what.partition("-")[0]

    @property
    def owner(self) -> str | Promise:
        return _("Limit of the API") if self.is_of_api else _("Limit of the plan")

    def sentence(self, at: datetime) -> str:
        what = _WHAT[self.what] % {"count": self.amount, "amount": intcomma(self.amount)}
        whose = str(_WHOSE.get((self.is_of_api, self.narrowed), "%(what)s")) % {"what": what}
        return str(_("%(limit)s: %(state)s") % {"limit": whose, "state": self._state(at)})

    def _state(self, at: datetime) -> str | Promise:
        under_way = intcomma(max(self.amount - self.left, 0))
        facts = {"left": intcomma(self.left) if self.left else _("none"), "under_way": under_way}
        match self.kind:
            case "concurrency" if self.retry_after_s:
                return _("%(under_way)s under way, wait until one has ended") % facts
            case "concurrency":
                return _("%(under_way)s under way, %(left)s left") % facts
            case "quota":
                return _("%(left)s left, starts anew on %(moment)s") % {**facts, "moment": _moment(at, self.reset_s)}
            case _ if self.retry_after_s >= 60:
                begun = 1 if at.microsecond else 0  # a second is over before it is written as over
                wait = {"span": _span(self.retry_after_s), "moment": _moment(at, self.retry_after_s + begun)}
                return _("%(left)s left, wait %(span)s, until %(moment)s") % {**facts, **wait}
            case _ if self.retry_after_s:
                return _("%(left)s left, wait %(span)s") % {**facts, "span": _span(self.retry_after_s)}
            case _ if self.reset_s:
                return _("%(left)s left, all of them again after %(span)s") % {**facts, "span": _span(self.reset_s)}
            case _:
                return _("%(left)s left") % facts


def limit_in(step: Any) -> Limit | None:
    """The limit of a step. None for one that is not as the gateway writes it."""
    match step:
        case {"name": str(name), "amount": int(amount), "left": int(left)} if found := _NAME.fullmatch(name):
            reset = step.get("reset_s", 0 if found["what"] == "concurrency" else None)
            wait = step.get("retry_after_s", 0)
            if amount > 0 and left >= 0 and all(isinstance(s, int) and 0 <= s < _LONGEST_S for s in (reset, wait)):
                return Limit(found["what"], bool(found["api"]), found["narrowed"] or "", amount, left, reset, wait)
    return None


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
