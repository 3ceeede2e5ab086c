"""What products do when the catalogue changes."""

from __future__ import annotations

from collections.abc import Iterator

from django.utils.translation import gettext as _

from apimgr.catalog.events import VersionAdded
from apimgr.catalog.models import Authentication, Version
from apimgr.catalog.services import Candidate, Problem, publication_check
from apimgr.core.events import receives
from apimgr.products.models import Plan
from apimgr.products.services import ensure_product


@receives(VersionAdded)
def offer_new_version(event: VersionAdded) -> None:
    """Every API can be subscribed to from its first version on: nobody has to think of a product."""
    version = Version.objects.select_related("api__organisation").get(pk=event.version_id)
    ensure_product(actor=None, version=version)


@publication_check
def needs_plan(candidate: Candidate) -> Iterator[Problem]:
    if candidate.authentication == Authentication.NONE:
        return
    if not Plan.objects.filter(product__versions=candidate.version).exists():
        yield Problem("plan", _("No plan covers this version: nobody could get a key."), _("Add a plan."))
