from __future__ import annotations

from django.db import transaction

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.models import API, Version
from apimgr.core import events
from apimgr.core.validation import store
from apimgr.products.events import ProductVersionsChanged
from apimgr.products.models import Product
from apimgr.products.services.plans import create_plan


@transaction.atomic
def ensure_product(*, actor: User | None, version: Version) -> Product:
    """The API's own product, with ``version`` in it. The first time it is made with the default Free plan."""
    api = API.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=version.api_id)
    require(actor, Permission.API_EDIT, api.organisation)
    product = own_product(api)
    if product is None:
        product = store(Product(organisation=api.organisation, name=api.name, slug=_free_slug(api)))
        audit.record(
            actor=actor, action="products.product.created", target=product, organisation_id=api.organisation_id
        )
        create_plan(actor=None, product=product, name="Free")
    if not product.versions.filter(pk=version.pk).exists():
        product.versions.add(version)
        events.emit(ProductVersionsChanged(product.pk))
    return product


def own_product(api: API) -> Product | None:
    """The product that came with the API: it has its slug, or else was the first to hold a version of it."""
    mine = Product.objects.filter(organisation_id=api.organisation_id)
    return mine.filter(slug=api.slug).first() or mine.filter(versions__api=api).order_by("id").first()


def _free_slug(api: API) -> str:
    """The API's own, unless a product of somebody else happens to have it."""
    taken = Product.objects.filter(slug=api.slug).exists()
    return f"{api.slug[:46]}-{api.public_id}" if taken else api.slug
