"""Why a call ended as it did, step by step, for whoever has to find out. Only made of what went wrong."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Final

from apimgr.contracts.outcomes import Outcome
from proxy.dataplane.limits.meter import Window

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange
    from proxy.dataplane.upstreams.connection import UpstreamConnection


_LIMITED: Final = frozenset({"rate_limited", "quota_exceeded", "concurrency_exceeded", "limits_unavailable"})


def _limit(window: Window, now: float) -> dict[str, object]:
    left, *reset = window.state(now)
    step: dict[str, object] = {"step": "limit", "name": window.name, "amount": window.amount, "left": left}
    return step | {"reset_s": reset[0]} if reset else step


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)


def attempt(exchange: Exchange, connection: UpstreamConnection | None, code: str, stage: str = "") -> dict[str, object]:
    """How far one attempt to have the upstream answer came, and how long each part of it took.

    Stages in their order: ``wait``, ``resolve``, ``connect``, ``answer`` (sent, and nothing heard), ``head`` (a part of
    it came), ``body``, ``whole``. ``host`` is for the eyes of those alone who look after the API.
    """
    version = exchange.version
    assert version is not None, "an upstream is that of a version"
    target, now = version.target, time.monotonic_ns()
    step: dict[str, object] = {"step": "upstream", "attempt": len(exchange.attempts) + 1}
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
    steps: list[dict[str, object]] = []
    fork = exchange.fork
    chosen: dict[str, object] = {"chosen_by": fork.where} if fork is not None else {}
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
    if exchange.meter is not None and outcome.code in _LIMITED and not exchange.meter.is_stuck:
        steps += [_limit(window, exchange.started_at) for window in exchange.meter.windows]
    steps += exchange.attempts
    steps.append(
        {"step": "refused" if outcome.refusal else "ended", "code": outcome.code, "detail": detail or outcome.title}
    )
    return json.dumps(steps, ensure_ascii=False, separators=(",", ":")).encode()
