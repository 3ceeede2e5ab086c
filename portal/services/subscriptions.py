"""An application takes a plan, and what the two sides may do with that. ``lifecycle`` holds the moves."""

from __future__ import annotations

from typing import Final

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require, role_of
from apimgr.accounts.models import User
from apimgr.audit.services import record
from apimgr.catalog.models import VersionState, Visibility
from apimgr.core.errors import Conflict, DomainError, NotFound
from apimgr.core.events import emit
from apimgr.products.models import Plan
from portal.events import SubscriptionChanged
from portal.lifecycle import Move, Side, next_step
from portal.models import Application, Subscription, SubscriptionState
from portal.services.applications import lock_application

MAX_SUBSCRIPTIONS: Final = 1_000  # per application: all are one document, on every gateway
COUNTS = (SubscriptionState.REQUESTED, SubscriptionState.ACTIVE, SubscriptionState.SUSPENDED)
_PAST = {
    Move.APPROVE: "approved",
    Move.REJECT: "rejected",
    Move.SUSPEND: "suspended",
    Move.RESUME: "resumed",
    Move.CANCEL: "cancelled",
}


@transaction.atomic
def subscribe(*, actor: User | None, application: Application, plan: Plan) -> Subscription:
    """Put the application on the plan: at once, or as a request where the plan asks for approval.

    Who was subscribed to the product before goes on where that ended: with what was spent and with its billing months.
    """
    require(actor, Permission.APPLICATION_MANAGE, application.organisation)
    application = lock_application(application)
    _check_offered(actor, plan)
    _check_free(application, plan)
    waits = plan.requires_approval and actor is not None
    now = None if waits else timezone.now()
    former = application.subscriptions.filter(product=plan.product).select_related("counts_as").order_by("pk").last()
    subscription = Subscription.objects.create(
        application=application,
        plan=plan,
        product=plan.product,
        state=SubscriptionState.REQUESTED if waits else SubscriptionState.ACTIVE,
        decided_at=now,
        billing_from=(former and former.billing_from) or now,
        counts_as=former and (former.counts_as or former),
    )
    _tell(actor, subscription, "requested" if waits else "started", Side.DEVELOPER)
    return subscription


@transaction.atomic
def change_plan(*, actor: User | None, subscription: Subscription, plan: Plan) -> Subscription:
    """Move a subscription to another plan of its product, without a moment in which calls are refused.

    What was spent stays spent: limits of one kind and period for the same calls count together, whichever plan's.

    A developer may take any plan that is offered without approval; whoever decides for the publisher, any plan.
    """
    side = _side(actor, subscription)
    subscription = _lock(subscription)
    if plan.product_id != subscription.product_id:
        raise DomainError(_("This plan belongs to another product."), fields={"plan": _("Choose one of this product.")})
    if subscription.state not in {SubscriptionState.ACTIVE, SubscriptionState.REQUESTED}:
        raise Conflict(_("Only an active or requested subscription can change its plan."))
    if side == Side.DEVELOPER:
        _check_offered(actor, plan)
        if plan.requires_approval and subscription.state == SubscriptionState.ACTIVE:
            raise Conflict(
                _("The plan %(plan)s needs the publisher's approval.") % {"plan": plan.name},
                code="needs_approval",
                fix=_("Subscribe another application to it, or ask the publisher to move this one."),
            )
        if not plan.requires_approval:
            subscription.state = SubscriptionState.ACTIVE
            subscription.billing_from = subscription.billing_from or timezone.now()
    if plan.pk != subscription.plan_id:
        before, subscription.plan = subscription.plan, plan
        subscription.save(update_fields=["plan", "state", "billing_from"])
        _tell(actor, subscription, "moved", side, before=before.name, after=plan.name)
    return subscription


def approve_subscription(*, actor: User | None, subscription: Subscription) -> Subscription:
    return _move(actor, subscription, Move.APPROVE)


def reject_subscription(*, actor: User | None, subscription: Subscription) -> Subscription:
    return _move(actor, subscription, Move.REJECT)


def suspend_subscription(*, actor: User | None, subscription: Subscription) -> Subscription:
    """The publisher stops an application's calls to its product; others' products go on."""
    return _move(actor, subscription, Move.SUSPEND)


def resume_subscription(*, actor: User | None, subscription: Subscription) -> Subscription:
    return _move(actor, subscription, Move.RESUME)


def cancel_subscription(*, actor: User | None, subscription: Subscription) -> Subscription:
    """End it for good, by either side. Who subscribes again gets no new count of quotas."""
    return _move(actor, subscription, Move.CANCEL)


@transaction.atomic
def _move(actor: User | None, subscription: Subscription, move: Move) -> Subscription:
    side = _side(actor, subscription)
    if side == Side.DEVELOPER and move != Move.CANCEL:
        # Never the developer's: says who may, or that there is nothing here.
        require(actor, Permission.SUBSCRIPTION_DECIDE, subscription.product.organisation)
    subscription = _lock(subscription)
    step = next_step(subscription.state, move)
    if actor is not None and side not in step.sides:
        raise Conflict(
            _("Only the publisher can end a suspended subscription."),
            code="suspended",
            fix=_("Ask %(publisher)s.") % {"publisher": subscription.product.organisation},
        )
    subscription.state, subscription.decided_at = step.state, timezone.now()
    if step.state == SubscriptionState.ACTIVE:
        subscription.billing_from = subscription.billing_from or subscription.decided_at
    subscription.save(update_fields=["state", "decided_at", "billing_from"])
    _tell(actor, subscription, _PAST[move], side)
    return subscription


def _side(actor: User | None, subscription: Subscription) -> Side:
    """For which side ``actor`` acts, the publisher's if for both; raises for somebody of neither."""
    publisher = subscription.product.organisation
    if actor is None or role_of(actor, publisher) is not None:
        try:
            require(actor, Permission.SUBSCRIPTION_DECIDE, publisher)
        except DomainError:
            if actor is None or role_of(actor, subscription.application.organisation) is None:
                raise
        else:
            return Side.PUBLISHER
    require(actor, Permission.APPLICATION_MANAGE, subscription.application.organisation)
    return Side.DEVELOPER


def _check_offered(actor: User | None, plan: Plan) -> None:
    """Nobody but the platform subscribes to what the portal does not offer; a hidden plan is not even there."""
    if actor is None:
        return
    live = plan.product.versions.filter(
        api__visibility=Visibility.PUBLIC, state__in=[VersionState.PUBLISHED, VersionState.DEPRECATED]
    )
    if plan.is_internal or not live.exists():
        raise NotFound(_("There is no such plan."), code="plan_not_found")


def _check_free(application: Application, plan: Plan) -> None:
    others = Subscription.objects.filter(product=plan.product, application__organisation=application.organisation)
    if others.filter(state=SubscriptionState.SUSPENDED).exists():
        # Organisation-wide: another application would be the way round a suspension.
        raise Conflict(
            _("%(publisher)s has suspended your access to %(product)s.")
            % {"publisher": plan.product.organisation, "product": plan.product},
            code="suspended",
            fix=_("Ask the publisher."),
        )
    if others.filter(application=application, state__in=COUNTS).exists():
        raise Conflict(
            _("%(application)s is already subscribed to %(product)s.")
            % {"application": application, "product": plan.product},
            code="subscribed_already",
            fix=_("Change the plan of that subscription."),
        )
    if application.subscriptions.filter(state__in=COUNTS).count() >= MAX_SUBSCRIPTIONS:
        raise Conflict(
            _("An application has at most %(most)d subscriptions.") % {"most": MAX_SUBSCRIPTIONS},
            code="too_many_subscriptions",
            fix=_("Cancel one, or subscribe another application."),
        )


def _lock(subscription: Subscription) -> Subscription:
    return (
        Subscription.objects.select_for_update(of=("self",))
        .select_related("application__organisation", "plan", "product__organisation")
        .get(pk=subscription.pk)
    )


def _tell(actor: User | None, subscription: Subscription, verb: str, side: Side, **data: str) -> None:
    """Kept in the trail of the side that acted; a reader of either finds the subscription by its id."""
    organisation_id = (
        subscription.product.organisation_id if side == Side.PUBLISHER else subscription.application.organisation_id
    )
    record(
        actor=actor,
        action=f"portal.subscription.{verb}",
        target=subscription,
        organisation_id=organisation_id,
        **data,
    )
    emit(SubscriptionChanged(subscription_id=subscription.pk, application_id=subscription.application_id))
