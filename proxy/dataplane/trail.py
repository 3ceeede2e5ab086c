"""Why a call was refused, step by step, for whoever has to find out. Only made for refusals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from apimgr.contracts.outcomes import Outcome
from proxy.dataplane.limits.meter import Window

if TYPE_CHECKING:
    from proxy.dataplane.exchange import Exchange


_LIMITED: Final = frozenset({"rate_limited", "quota_exceeded", "concurrency_exceeded", "limits_unavailable"})


def _limit(window: Window, now: float) -> dict[str, object]:
    left, *reset = window.state(now)
    step: dict[str, object] = {"step": "limit", "name": window.name, "amount": window.amount, "left": left}
    return step | {"reset_s": reset[0]} if reset else step


def explain(exchange: Exchange, outcome: Outcome, detail: str) -> bytes:
    """The decision trail as JSON: what each step found, the last one being the refusal."""
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
    if exchange.meter is not None and outcome.code in _LIMITED:
        steps += [_limit(window, exchange.started_at) for window in exchange.meter.windows]
    steps.append({"step": "refused", "code": outcome.code, "detail": detail or outcome.title})
    return json.dumps(steps, ensure_ascii=False, separators=(",", ":")).encode()
