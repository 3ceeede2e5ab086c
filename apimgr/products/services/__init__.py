"""What can be done to products, plans and limits."""

from apimgr.products.services.apis import change_api_limits
from apimgr.products.services.limits import LimitTerms, terms_of
from apimgr.products.services.plans import change_limits, create_plan, update_plan
from apimgr.products.services.products import ensure_product

__all__ = [
    "LimitTerms",
    "change_api_limits",
    "change_limits",
    "create_plan",
    "ensure_product",
    "terms_of",
    "update_plan",
]
