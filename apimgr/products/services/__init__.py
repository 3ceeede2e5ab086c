"""What can be done to products and plans."""

from apimgr.products.services.plans import LimitTerms, change_limits, create_plan, update_plan
from apimgr.products.services.products import ensure_product

__all__ = ["LimitTerms", "change_limits", "create_plan", "ensure_product", "update_plan"]
