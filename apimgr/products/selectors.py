"""Reads of what is offered. The viewer comes first; ``public_*`` is what the portal shows to everybody."""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.models import User
from apimgr.catalog.models import API
from apimgr.catalog.selectors import LIVE
from apimgr.core.errors import NotFound
from apimgr.products.models import ApiLimit, Plan, Product


def products_for(viewer: User | AnonymousUser) -> QuerySet[Product]:
    """Products of the viewer's organisations, by name, with plans, limits and versions."""
    found = Product.objects.filter(organisation__in=organisations_for(viewer, Permission.API_VIEW))
    return (
        found.select_related("organisation").prefetch_related("plans__limits", "versions__api").order_by("name", "id")
    )


def product_for(viewer: User | AnonymousUser, slug: str) -> Product:
    """Raises ``NotFound``, also for a product of somebody else."""
    product = products_for(viewer).filter(slug=slug).first()
    if product is None:
        raise _nothing()
    return product


def plans_for(viewer: User | AnonymousUser) -> QuerySet[Plan]:
    """Every plan of the viewer's organisations, internal ones included."""
    found = Plan.objects.filter(product__organisation__in=organisations_for(viewer, Permission.API_VIEW))
    return found.select_related("product__organisation").prefetch_related("limits")


def plan_for(viewer: User | AnonymousUser, pk: int) -> Plan:
    """Raises ``NotFound``."""
    plan = plans_for(viewer).filter(pk=pk).first()
    if plan is None:
        raise _nothing()
    return plan


def plans_of(api: API) -> QuerySet[Plan]:
    """Every plan that covers a version of ``api``, internal ones included: for the API's own publishers."""
    found = Plan.objects.filter(product__versions__api=api).distinct()
    return found.select_related("product__organisation").prefetch_related("limits")


def public_plans(api: API) -> QuerySet[Plan]:
    """The plans the portal offers for ``api``: those of products that hold a live version of it."""
    found = Plan.objects.filter(
        is_internal=False, product__versions__api=api, product__versions__state__in=LIVE
    ).distinct()
    return found.select_related("product__organisation").prefetch_related("limits")


def public_api_limits(api: API) -> list[ApiLimit]:
    """What holds for all callers of ``api`` together, as far as the gateway serves what it names."""
    return [limit for limit in api.limits.all() if limit.is_served]


def _nothing() -> NotFound:
    return NotFound(_("There is nothing here, or nothing for you."))
