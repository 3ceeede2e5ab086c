"""Why a call ended as it did, step by step, for whoever has to find out. Only made of what went wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from apimgr.contracts.outcomes import Outcome
from apimgr.contracts.usage import MAX_TRAIL_BYTES
from proxy.dataplane.limits.meter import Meter, Window

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.upstreams.connection import UpstreamConnection

Step = dict[str, object]

_LIMITED: Final = frozenset({"rate_limited", "quota_exceeded", "concurrency_exceeded", "limits_unavailable"})
_MARK: Final = "…"  # of a text that was cut
_MARK_BYTES: Final = len(_MARK.encode())
_MOST_OF_A_CHARACTER: Final = 6  # bytes in JSON: a control character is written as \u0001
# What a text may take in a trail that is too long, the first that will do. No code or word of ours is longer than the
# last, and at that everything but limits fits.
_TEXT_BYTES: Final = (400, 200, 100, 60, 36)
_ROOM_FOR_LIMITS: Final = 256  # for the one that denied, and the count of those left out


def _limit(window: Window, now: float) -> Step:
    left, *reset = window.state(now)
    step: Step = {"step": "limit", "name": window.name, "amount": window.amount, "left": left}
    return step | {"reset_s": reset[0]} if reset else step


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def attempt(exchange: Exchange, connection: UpstreamConnection | None, code: str, stage: str = "") -> Step:
    """How far one attempt to have the upstream answer came, and how long each part of it took.

    Stages in their order: ``wait``, ``resolve``, ``connect``, ``answer`` (sent, and nothing heard), ``head`` (a part of
    it came), ``body``, ``whole``. ``host`` is for the eyes of those alone who look after the API.
    """
    version = exchange.version
    assert version is not None, "an upstream is that of a version"
    target, now = version.target, time.monotonic_ns()
    step: Step = {"step": "upstream", "attempt": len(exchange.attempts) + 1}
    if connection is None:
        step |= {"stage": stage, "took_ms": _ms((now - exchange.started_ns) / 1e9)}
    else:
        step |= {"stage": _reached(exchange, connection, code), "connection": "kept" if connection.reused else "new"}
        if not connection.reused:
            step |= {"resolve_ms": _ms(connection.resolve_s), "connect_ms": _ms(connection.connect_s)}
        step |= {
            "sent_after_ms": _ms((exchange.sent_at - exchange.started_ns) / 1e9),
            "took_ms": _ms((now - exchange.sent_at) / 1e9),
        }
        if exchange.responding:
            step |= {"status": exchange.upstream_status, "relayed_bytes": exchange.bytes_out}
    if code == "upstream_timeout":
        document = target.document
        limit = "connect_timeout_ms" if connection is None else "read_timeout_ms"
        step |= {"limit": limit, "limit_ms": getattr(document, limit)}
    return step | {"host": f"{target.host}:{target.port}"}


def _reached(exchange: Exchange, connection: UpstreamConnection, code: str) -> str:
    if exchange.responding:
        return "whole" if code == "ok" else "body"
    return "head" if connection.heard else "answer"


def explain(exchange: Exchange, outcome: Outcome, detail: str) -> bytes:
    """The decision trail as JSON: what each step found, the last one being how the call ended."""
    found = _found(exchange)
    found += exchange.attempts
    last = "refused" if outcome.refusal and not exchange.sent_at else "ended"
    found.append({"step": last, "code": outcome.code, "detail": detail or outcome.title})
    meter = exchange.meter
    if meter is None or meter.is_stuck or outcome.code not in _LIMITED:
        return written(found)
    at = len(found) - 1 - len(exchange.attempts)
    return written(found, at, *_limits(meter, exchange.started_at))


def _found(exchange: Exchange) -> list[Step]:
    """Where the call went and who made it."""
    steps: list[Step] = []
    fork = exchange.fork
    chosen: Step = {"chosen_by": fork.where} if fork is not None else {}
    if exchange.version is not None:
        document = exchange.version.document
        steps.append({"step": "route", "base_path": document.base_path, "version": document.name, **chosen})
    elif fork is not None:
        steps.append({"step": "route", "base_path": fork.base_path, **chosen})
    if exchange.operation_id:
        steps.append({"step": "operation", "id": str(exchange.operation_id)})
    caller = exchange.caller
    if caller is not None:
        if caller.credential_state:
            steps.append({"step": "credential", "state": caller.credential_state})
        if caller.application_state:
            steps.append({"step": "application", "state": caller.application_state})
        if caller.subscription_state:
            steps.append({"step": "subscription", "state": caller.subscription_state})
        if caller.plan is not None:
            steps.append({"step": "plan", "name": caller.plan.name})
    return steps


def _limits(meter: Meter, now: float) -> tuple[list[Step], list[int]]:
    """Every window as a step; and their places by weight: the one that denied, others with nothing left, the rest.

    The one that denied has ``retry_after_s``, the wait that the caller was told.
    """
    steps = [_limit(window, now) for window in meter.windows]
    denied = [number for number, window in enumerate(meter.windows) if window is meter.denied_by]
    for number in denied:
        steps[number]["retry_after_s"] = meter.retry_after
    empty = [number for number, step in enumerate(steps) if step["left"] == 0 and number not in denied]
    return steps, denied + empty + [n for n in range(len(steps)) if n not in denied and n not in empty]


def written(steps: list[Step], at: int = 0, limits: Sequence[Step] = (), by_weight: Sequence[int] = ()) -> bytes:
    """A trail as JSON within its bound: ``steps``, the ``limits`` standing before that numbered ``at``.

    Whole wherever there is room. Else long texts are cut, each saying so by its end, and limits left out, the first
    ``by_weight`` last; how many is told. Never a step that is none of a limit.
    """
    raw = _json([*steps[:at], *limits, *steps[at:]])
    if len(raw) <= MAX_TRAIL_BYTES:
        return raw
    steps = _shortened(steps, MAX_TRAIL_BYTES - (_ROOM_FOR_LIMITS if limits else 0))
    room = MAX_TRAIL_BYTES - len(_json(steps)) - len(_json(_more(len(limits)))) - 1
    kept: list[int] = []
    for number in by_weight:
        room -= len(_json(limits[number])) + 1
        if room < 0:
            break
        kept.append(number)
    told = [limits[number] for number in sorted(kept)]
    if len(told) < len(limits):
        told.append(_more(len(limits) - len(told)))
    return _json([*steps[:at], *told, *steps[at:]])


def _more(count: int) -> Step:
    return {"step": "limit", "more": count}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _shortened(steps: list[Step], room: int) -> list[Step]:
    """The steps with their texts cut as far as it takes."""
    for most in _TEXT_BYTES:
        if len(_json(steps)) <= room:
            break
        steps = [{name: _cut(value, most) for name, value in step.items()} for step in steps]
    return steps


def _cut(value: object, most: int) -> object:
    """A text of which as much is left as ``most`` bytes of JSON hold; anything else as it is."""
    if not isinstance(value, str) or len(_json(value)) <= most:
        return value
    text = value[:most]
    while (over := len(_json(text)) + _MARK_BYTES - most) > 0:
        text = text[: -1 - over // _MOST_OF_A_CHARACTER]
    return text + _MARK
