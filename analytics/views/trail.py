"""A decision trail (``proxy.dataplane.trail``) as rows to read: what each step looked at, and what it found.

What the gateway writes has a sentence each (``TOLD``). Anything else, of earlier gateways or of none, is shown as it
is: no trail is too odd to be read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.contrib.humanize.templatetags.humanize import intcomma
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from analytics.views.trail_limits import limit_in

STEPS: Final[dict[str, str | Promise]] = {
    "route": _("Route"),
    "operation": _("Operation"),
    "credential": _("Key"),
    "application": _("Application"),
    "subscription": _("Subscription"),
    "plan": _("Plan"),
    "limit": _("Limit"),
    "upstream": _("Upstream"),
    "tunnel": _("Tunnel"),
    "refused": _("Refused"),
    "ended": _("Ended"),
    "cut": _("Cut short"),
}
CONNECTIONS: Final[dict[str, str | Promise]] = {
    "kept": _("Over a kept connection."),
    "new": _("Over a new connection."),
}
# How far it had come when it ended.
STAGES: Final[dict[str, str | Promise]] = {
    "wait": _("Gave up after %(took)s while it waited for a connection."),
    "resolve": _("Gave up after %(took)s while the name was looked up."),
    "connect": _("Gave up after %(took)s while it connected."),
    "answer": _("Ended %(took)s later, before anything was heard."),
    "head": _("Ended %(took)s later, in the middle of the answer's head."),
    "body": _("Ended %(took)s later, in the middle of the answer's body."),
    "whole": _("Answered in full %(took)s later."),
}
TIMEOUTS: Final[dict[str, str | Promise]] = {
    "connect_timeout_ms": _("Connecting may take %(allowed)s."),
    "read_timeout_ms": _("Each part of the answer may take %(allowed)s."),
}
_COUNTED: Final = re.compile(r"\b\d{4,}(?= (?:calls?|bytes?)\b)")
_MOST_MS: Final = 1e12  # JSON's numbers may be infinite to Python
_DEEPEST: Final = 4  # of what is shown as it is

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """What the trail's numbers stand for, as far as the reader may know it; empty for what they may not."""

    at: datetime
    outcome: str = ""
    version: str = ""  # with its API: Orders v1
    operation: str = ""
    application: str = ""
    product: str = ""
    key_end: str = ""  # of the very secret that was sent
    is_test_key: bool = False
    is_former_secret: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    title: str
    text: str
    state: str = ""  # of what the step looked at: a word of ``ui.STATES``
    mark: str = ""  # why the call was refused lies here: what it did


def rows(trail: Any, call: Call) -> list[Row]:
    match trail:
        case dict():
            return [Row(_title(name), as_it_is(value)) for name, value in trail.items()]
        case list():
            return [_row(number, item, call) for number, item in enumerate(trail, 1)]
        case _:
            return []


def with_grouped_numbers(detail: str) -> str:
    """A sentence of the gateway's with its calls and bytes as numbers are written here."""
    return _COUNTED.sub(lambda match: intcomma(int(match[0])), detail)


def _row(number: int, item: Any, call: Call) -> Row:
    match item:
        case {"step": str(kind)} if kind in TOLD and (row := TOLD[kind](item, call)) is not None:
            return row
        case {"step": kind, **facts}:
            return Row(_title(kind), as_it_is(facts))
        case [kind, *rest]:
            return Row(_title(kind), " · ".join(as_it_is(value) for value in rest))
        case _:
            return Row(str(number), as_it_is(item))


# --- What each step says. None for facts that are not as the gateway writes them. -----------------------------------


def _route(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"base_path": str(path), "version": str(name), "chosen_by": str(field)}:
            text = _("%(version)s at %(path)s, chosen by %(field)s") % {
                "version": call.version or name,
                "path": path,
                "field": field,
            }
        case {"base_path": str(path), "version": str(name)}:
            text = _("%(version)s at %(path)s") % {"version": call.version or name, "path": path}
        case {"base_path": str(path), "chosen_by": str(field)}:
            text = _("Several versions at %(path)s, chosen by %(field)s: the call got none") % {
                "path": path,
                "field": field,
            }
        case _:
            return None
    return Row(_title("route"), str(text))


def _operation(facts: Facts, call: Call) -> Row | None:
    return Row(_title("operation"), call.operation) if call.operation else None


def _credential(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"state": str(state)}:
            # Keys expire by themselves: their state in the configuration goes on being active.
            return Row(_title("credential"), str(_key(call)), "expired" if call.outcome == "key_expired" else state)
        case _:
            return None


def _key(call: Call) -> str | Promise:
    end = {"end": call.key_end}
    match call:
        case Call(is_former_secret=True, key_end=""):
            return _("Former secret of a key that was rolled")
        case Call(is_former_secret=True):
            return _("Former secret, ending in %(end)s, of a key that was rolled") % end
        case Call(is_test_key=True, key_end=""):
            return _("Test key")
        case Call(is_test_key=True):
            return _("Test key ending in %(end)s") % end
        case Call(key_end=""):
            return _("Live key")
        case _:
            return _("Live key ending in %(end)s") % end


def _application(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"state": str(state)}:
            return Row(_title("application"), call.application, state)
        case _:
            return None


def _subscription(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"state": str(state)}:
            text = _("To %(product)s") % {"product": call.product} if call.product else ""
            return Row(_title("subscription"), str(text), state)
        case _:
            return None


def _plan(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"name": str(name)} if call.product:
            text = _("%(plan)s, a plan of %(product)s") % {"plan": name, "product": call.product}
            return Row(_title("plan"), str(text))
        case {"name": str(name)}:
            return Row(_title("plan"), name)
        case _:
            return None


def _limit(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"more": int(count)}:
            text = ngettext(
                "%(count)s more limit, not listed for want of room",
                "%(count)s more limits, not listed for want of room",
                count,
            )
            return Row(_title("limit"), text % {"count": intcomma(count)})
        case _:
            if (limit := limit_in(facts)) is None:
                return None
            refused = _("Could not be checked") if call.outcome == "limits_unavailable" else _("Refused this call")
            return Row(str(limit.owner), limit.sentence(call.at), mark=str(refused) if limit.retry_after_s else "")


def _upstream(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"attempt": int(), "stage": str(stage), "took_ms": int() | float()} if stage in STAGES:
            return Row(_title("upstream"), " ".join(_attempt(facts)))
        case _:
            return None


def _attempt(facts: Facts) -> Iterator[str]:
    """An attempt to have the upstream answer, in the order in which things happened."""
    attempt = {"attempt": facts["attempt"], "host": facts.get("host", "")}
    yield str((_("Attempt %(attempt)s, at %(host)s.") if attempt["host"] else _("Attempt %(attempt)s.")) % attempt)
    match facts:
        case {"connection": "new", "resolve_ms": int() | float() as resolve, "connect_ms": int() | float() as connect}:
            text = _("Over a new connection: name resolved in %(resolve)s, connected in %(connect)s.")
            yield str(text % {"resolve": _ms(resolve), "connect": _ms(connect)})
        case {"connection": str(connection)} if connection in CONNECTIONS:
            yield str(CONNECTIONS[connection])
    match facts:
        case {"sent_after_ms": int() | float() as after}:
            yield str(_("Sent after %(after)s.") % {"after": _ms(after)})
    yield str(STAGES[facts["stage"]]) % {"took": _ms(facts["took_ms"])}
    match facts:
        case {"status": int(status), "relayed_bytes": int(size)}:
            relayed = ngettext(
                "Relayed by then: status %(status)s and %(size)s byte.",
                "Relayed by then: status %(status)s and %(size)s bytes.",
                size,
            )
            yield relayed % {"status": status, "size": intcomma(size)}
    match facts:
        case {"limit": str(name), "limit_ms": int() | float() as allowed} if name in TIMEOUTS:
            yield str(TIMEOUTS[name]) % {"allowed": _ms(allowed)}


def _tunnel(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"protocol": str(protocol), "messages_in": int(sent), "messages_out": int(got), "ended": str(reason)}:
            text = _(
                "%(protocol)s. Messages of the caller: %(sent)s, of the upstream: %(got)s. The end: %(reason)s"
            ) % {
                "protocol": protocol,
                "sent": intcomma(sent),
                "got": intcomma(got),
                "reason": reason,
            }
        case {"protocol": str(protocol), "ended": str(reason)}:
            text = _("%(protocol)s. The end: %(reason)s") % {"protocol": protocol, "reason": reason}
        case _:
            return None
    return Row(_title("tunnel"), str(text))


def _how_it_ended(facts: Facts, call: Call) -> Row | None:
    match facts:
        case {"detail": str(detail)}:
            return Row(_title(facts["step"]), with_grouped_numbers(detail))
        case _:
            return None


TOLD: Final[dict[str, Callable[[Facts, Call], Row | None]]] = {
    "route": _route,
    "operation": _operation,
    "credential": _credential,
    "application": _application,
    "subscription": _subscription,
    "plan": _plan,
    "limit": _limit,
    "upstream": _upstream,
    "tunnel": _tunnel,
    "refused": _how_it_ended,
    "ended": _how_it_ended,
}


def _title(kind: Any) -> str:
    return str(STEPS.get(kind, kind)) if isinstance(kind, str) else as_it_is(kind)


def _ms(value: float) -> str:
    """Milliseconds as the rest of the page has them: the fewer they are, the finer."""
    value = min(value, _MOST_MS)
    return str(
        _("%(count)s\u00a0ms") % {"count": intcomma(round(value) if value >= 100 or value == int(value) else value)}
    )


def as_it_is(value: Any, depth: int = 0) -> str:
    match value:
        case dict() | list() if depth == _DEEPEST:
            return "…"
        case dict():
            return ", ".join(f"{key}: {as_it_is(item, depth + 1)}" for key, item in value.items())
        case list():
            return ", ".join(as_it_is(item, depth + 1) for item in value)
        case bool():
            return str(_("yes") if value else _("no"))
        case _:
            return str(value)
