from __future__ import annotations

from typing import Any

from django.db import transaction
from django.utils.text import slugify
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.core import events
from apimgr.core.errors import Conflict
from apimgr.core.validation import store
from apimgr.products.events import PlanChanged
from apimgr.products.models import Limit, Plan, Product, WithoutGrantor
from apimgr.products.services.limits import (
    Fact,
    Given,
    LimitTerms,
    check_limits,
    check_places,
    replace_limits,
    terms_of,
)

FREE = (LimitTerms("rate", 60, "minute"), LimitTerms("quota", 10_000, "month"))


@transaction.atomic
def create_plan(
    *,
    actor: User | None,
    product: Product,
    name: str,
    limits: Given = FREE,
    description: str = "",
    is_internal: bool = False,
    requires_approval: bool = False,
    without_grantor: str = WithoutGrantor.OPEN,
    counts_failures: bool = True,
) -> Plan:
    """A new plan, offered at once unless it is internal. No limits at all means calls are not limited."""
    require(actor, Permission.PLAN_EDIT, product.organisation)
    terms = check_limits(limits)
    check_places(terms, (), product.versions.all())
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
            without_grantor=without_grantor,
            counts_failures=counts_failures,
        )
    )
    _before, after = _replace(plan, terms)
    _tell(actor, plan, "created", limits=after)
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
    without_grantor: str | None = None,
    counts_failures: bool | None = None,
) -> Plan:
    """Change what is given. Subscriptions that exist stay as they are."""
    require(actor, Permission.PLAN_EDIT, plan.product.organisation)
    given: dict[str, Any] = {
        "name": name,
        "description": description,
        "is_internal": is_internal,
        "requires_approval": requires_approval,
        "without_grantor": without_grantor,
        "counts_failures": counts_failures,
    }
    changed = [field for field, value in given.items() if value is not None and getattr(plan, field) != value]
    for field in changed:
        setattr(plan, field, given[field])
    if changed:
        store(plan, changed)
        _tell(actor, plan, "updated", fields=changed)
    return plan


@transaction.atomic
def change_limits(*, actor: User | None, plan: Plan, limits: Given) -> Plan:
    """Replace the plan's limits. One that stays in its place keeps its id, and with it what callers have used.

    So does one that another plan of the product has, too: whichever plan a subscriber moves to, it is spent as it was.
    """
    require(actor, Permission.PLAN_EDIT, plan.product.organisation)
    plan = Plan.objects.select_for_update(of=("self",)).select_related("product__organisation").get(pk=plan.pk)
    terms = check_limits(limits)
    check_places(terms, plan.limits.all(), plan.product.versions.all())
    before, after = _replace(plan, terms)
    _tell(actor, plan, "limits_changed", before=before, after=after)
    return plan


def _replace(plan: Plan, terms: list[LimitTerms]) -> tuple[list[Fact], list[Fact]]:
    """As ``replace_limits``; what is new counts together with what the product's other plans have in its place."""
    # Of two plans that get a limit of one place at once, the later finds the other's.
    Product.objects.select_for_update(no_key=True).get(pk=plan.product_id)
    kept = set(plan.limits.values_list("pk", flat=True))
    before, after = replace_limits(plan.limits, terms)
    counted: dict[Any, int] = {}
    for limit in Limit.objects.filter(plan__product=plan.product_id).exclude(plan=plan).order_by("pk"):
        counted.setdefault(terms_of(limit).place, limit.counted_by)
    for limit in plan.limits.exclude(pk__in=kept):
        if (first := counted.get(terms_of(limit).place)) is not None:
            limit.counts_as = first
            limit.save(update_fields=["counts_as"])
    return before, after


def _tell(actor: User | None, plan: Plan, verb: str, **data: object) -> None:
    organisation_id = plan.product.organisation_id
    audit.record(actor=actor, action=f"products.plan.{verb}", target=plan, organisation_id=organisation_id, **data)
    events.emit(PlanChanged(plan.pk))
