from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.db import transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.core import events
from apimgr.core.errors import Conflict, DomainError
from apimgr.core.validation import store
from apimgr.products.events import PlanChanged
from apimgr.products.models import Limit, LimitKind, LimitPeriod, Plan, Product

_PERIODS = {
    LimitKind.RATE: (LimitPeriod.SECOND, LimitPeriod.MINUTE, LimitPeriod.HOUR, LimitPeriod.DAY),
    LimitKind.QUOTA: (LimitPeriod.DAY, LimitPeriod.MONTH),
}
MAX_AMOUNT = 10**12


class LimitTerms(NamedTuple):
    """One limit as given: ``LimitTerms("rate", 60, "minute")``. A plain tuple will do."""

    kind: str
    amount: int
    period: str


FREE = (LimitTerms("rate", 60, "minute"), LimitTerms("quota", 10_000, "month"))


@transaction.atomic
def create_plan(
    *,
    actor: User | None,
    product: Product,
    name: str,
    limits: Sequence[LimitTerms | tuple[str, int, str]] = FREE,
    description: str = "",
    is_internal: bool = False,
    requires_approval: bool = False,
) -> Plan:
    """A new plan, offered at once unless it is internal. No limits at all means calls are not limited."""
    require(actor, Permission.PLAN_EDIT, product.organisation)
    terms = check_limits(limits)
    slug = slugify(name)[:60] or "plan"
    if product.plans.filter(slug=slug).exists():
        message = _("%(product)s already has a plan %(name)s.") % {"product": product, "name": name}
        raise Conflict(message, code="taken", fields={"name": message})
    plan = store(
        Plan(
            product=product,
            name=name.strip(),
            slug=slug,
            description=description.strip(),
            is_internal=is_internal,
            requires_approval=requires_approval,
            position=product.plans.count(),
        )
    )
    Limit.objects.bulk_create(Limit(plan=plan, **term._asdict()) for term in terms)
    _tell(actor, plan, "created", limits=[list(term) for term in terms])
    return plan


@transaction.atomic
def update_plan(
    *,
    actor: User | None,
    plan: Plan,
    name: str | None = None,
    description: str | None = None,
    is_internal: bool | None = None,
    requires_approval: bool | None = None,
) -> Plan:
    """Change what is given. Subscriptions that exist stay as they are."""
    require(actor, Permission.PLAN_EDIT, plan.product.organisation)
    given = {
        "name": name,
        "description": description,
        "is_internal": is_internal,
        "requires_approval": requires_approval,
    }
    changed = [field for field, value in given.items() if value is not None and getattr(plan, field) != value]
    for field in changed:
        setattr(plan, field, given[field])
    if changed:
        store(plan)
        _tell(actor, plan, "updated", fields=changed)
    return plan


@transaction.atomic
def change_limits(*, actor: User | None, plan: Plan, limits: Sequence[LimitTerms | tuple[str, int, str]]) -> Plan:
    """Replace the plan's limits. One of the same kind and period keeps its id, and with it what callers have used."""
    require(actor, Permission.PLAN_EDIT, plan.product.organisation)
    plan = Plan.objects.select_for_update(of=("self",)).select_related("product__organisation").get(pk=plan.pk)
    terms = check_limits(limits)
    known = {(limit.kind, limit.period): limit for limit in plan.limits.all()}
    before = [[limit.kind, limit.amount, limit.period] for limit in known.values()]
    for term in terms:
        limit = known.pop((term.kind, term.period), None) or Limit(plan=plan, kind=term.kind, period=term.period)
        limit.amount = term.amount
        limit.save()
    plan.limits.filter(pk__in=[limit.pk for limit in known.values()]).delete()
    _tell(actor, plan, "limits_changed", before=before, after=[list(term) for term in terms])
    return plan


def check_limits(limits: Sequence[LimitTerms | tuple[str, int, str]]) -> list[LimitTerms]:
    """The limits as terms, or a ``DomainError`` that says which one is wrong and why."""
    terms = [LimitTerms(*limit) for limit in limits]
    seen = set()
    for term in terms:
        if term.kind not in LimitKind.values:
            raise _bad(_("A limit is a rate or a quota, not “%(kind)s”.") % {"kind": term.kind})
        periods = _PERIODS[LimitKind(term.kind)]
        if term.period not in periods:
            raise _bad(
                _("A %(kind)s counts per %(periods)s.") % {"kind": term.kind, "periods": _(" or ").join(periods)}
            )
        if not 1 <= term.amount <= MAX_AMOUNT:
            raise _bad(_("A limit allows at least 1 call and at most %(most)s.") % {"most": f"{MAX_AMOUNT:,}"})
        if (term.kind, term.period) in seen:
            raise _bad(_("There are two %(kind)ss per %(period)s.") % {"kind": term.kind, "period": term.period})
        seen.add((term.kind, term.period))
    return terms


def _bad(message: str) -> DomainError:
    return DomainError(message, code="limit_invalid", fields={"limits": message})


def _tell(actor: User | None, plan: Plan, verb: str, **data: object) -> None:
    organisation_id = plan.product.organisation_id
    audit.record(actor=actor, action=f"products.plan.{verb}", target=plan, organisation_id=organisation_id, **data)
    events.emit(PlanChanged(plan.pk))
