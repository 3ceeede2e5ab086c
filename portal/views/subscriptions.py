from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from apimgr.core.errors import DomainError, NotAllowed, NotFound
from apimgr.core.ids import decode_id
from apimgr.products.models import Plan
from portal import services
from portal.selectors import subscription_for
from portal.views.people import person


@login_required
@require_POST
def change_plan(request: HttpRequest, subscription_id: int) -> HttpResponse:
    subscription = subscription_for(request.user, subscription_id)
    try:
        plan = Plan.objects.filter(pk=decode_id(request.POST.get("plan", "")), product=subscription.product).first()
    except ValueError:
        plan = None
    if plan is None:
        messages.error(request, _("Choose a plan."))
        return redirect("portal:application", subscription.application_id)
    try:
        moved = services.change_plan(actor=person(request), subscription=subscription, plan=plan)
    except (NotFound, NotAllowed):
        raise
    except DomainError as error:
        messages.error(request, error.in_full)
    else:
        messages.success(
            request, _("%(product)s is now on plan %(plan)s.") % {"product": moved.product, "plan": moved.plan.name}
        )
    return redirect("portal:application", subscription.application_id)


@login_required
@require_POST
def cancel(request: HttpRequest, subscription_id: int) -> HttpResponse:
    subscription = subscription_for(request.user, subscription_id)
    services.cancel_subscription(actor=person(request), subscription=subscription)
    messages.success(request, _("The subscription to %(product)s has ended.") % {"product": subscription.product})
    return redirect("portal:application", subscription.application_id)
