from __future__ import annotations

from dataclasses import dataclass

from apimgr.core.events import Event


@dataclass(frozen=True, slots=True)
class PlanChanged(Event):
    """A plan is new, or its limits or terms are others."""

    plan_id: int


@dataclass(frozen=True, slots=True)
class ProductVersionsChanged(Event):
    """Other versions belong to the product than before."""

    product_id: int


@dataclass(frozen=True, slots=True)
class ApiLimitsChanged(Event):
    """What holds for all callers of an API together is another."""

    api_id: int
