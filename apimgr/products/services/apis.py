from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.models import API
from apimgr.core import events
from apimgr.products.events import ApiLimitsChanged
from apimgr.products.services.limits import (
    API_PERIODS,
    Given,
    check_limits,
    check_places,
    refused,
    replace_limits,
)


@transaction.atomic
def change_api_limits(*, actor: User | None, api: API, limits: Given) -> API:
    """Replace what holds for all callers of an API together. One that stays in its place keeps what was used."""
    require(actor, Permission.PLAN_EDIT, api.organisation)
    api = API.objects.select_for_update(of=("self",)).select_related("organisation").get(pk=api.pk)
    terms = check_limits(limits, API_PERIODS)
    if any(term.api_id is not None for term in terms):
        raise refused(_("These limits hold for this API already: leave the API out."))
    check_places(terms, api.limits.all(), api.versions.all())
    before, after = replace_limits(api.limits, terms)
    audit.record(
        actor=actor,
        action="products.api.limits_changed",
        target=api,
        organisation_id=api.organisation_id,
        before=before,
        after=after,
    )
    events.emit(ApiLimitsChanged(api.pk))
    return api
