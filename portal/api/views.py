"""The developer's side over REST. A view finds the thing for its caller, calls one service, and shows the result."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from django.db.models import QuerySet
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from apimgr.accounts.models import ApiToken
from apimgr.accounts.rest import TokenThrottle
from apimgr.catalog.models import API
from apimgr.catalog.selectors import public_api, public_apis
from apimgr.core.errors import NotFound
from apimgr.core.rest_views import NothingSerializer, RestView
from apimgr.products.models import Plan
from apimgr.products.selectors import public_plans
from portal import selectors, services
from portal.api import serializers
from portal.models import Application, Credential, Subscription


class _PortalView(RestView):
    def application(self) -> Application:
        return selectors.application_for(self.actor, self.kwargs["application_id"])


# --- The catalogue ----------------------------------------------------------------------------------------------------


class CatalogueList(_PortalView, generics.ListAPIView[API]):
    serializer_class = serializers.OfferedApiSerializer
    query = serializers.CatalogueQuerySerializer

    def get_queryset(self) -> QuerySet[API]:
        return public_apis(self.asked.get("q", ""))

    @extend_schema(
        operation_id="catalogue_list",
        summary="List the APIs you can subscribe to",
        tags=["catalogue"],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class CataloguePlans(_PortalView):
    serializer_class = serializers.PortalPlanSerializer
    pagination_class = None

    @extend_schema(
        operation_id="catalogue_plans",
        summary="List the plans of an API",
        responses=serializers.PortalPlanSerializer(many=True),
        tags=["catalogue"],
    )
    def get(self, request: Request, slug: str) -> Response:
        return Response(self.get_serializer(public_plans(public_api(slug)), many=True).data)


# --- Applications -----------------------------------------------------------------------------------------------------


class ApplicationList(_PortalView, generics.ListAPIView[Application]):
    serializer_class = serializers.ApplicationSerializer

    def get_queryset(self) -> QuerySet[Application]:
        return selectors.applications_for(self.actor)

    @extend_schema(operation_id="applications_list", summary="List your applications", tags=["applications"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="applications_create",
        summary="Create an application in the token's organisation",
        request=serializers.NewApplicationSerializer,
        responses={201: serializers.ApplicationSerializer},
        tags=["applications"],
    )
    def post(self, request: Request) -> Response:
        organisation = cast("ApiToken", request.auth).organisation
        given = self.given(serializers.NewApplicationSerializer)
        application = services.create_application(actor=self.actor, organisation=organisation, **given)
        return Response(self.get_serializer(application).data, status=status.HTTP_201_CREATED)


class ApplicationDetail(_PortalView):
    serializer_class = serializers.ApplicationSerializer

    @extend_schema(operation_id="applications_read", summary="Read an application", tags=["applications"])
    def get(self, request: Request, application_id: int) -> Response:
        return Response(self.get_serializer(self.application()).data)

    @extend_schema(
        operation_id="applications_update",
        summary="Rename or describe an application",
        request=serializers.ApplicationChangesSerializer,
        responses=serializers.ApplicationSerializer,
        tags=["applications"],
    )
    def patch(self, request: Request, application_id: int) -> Response:
        application, given = self.application(), self.given(serializers.ApplicationChangesSerializer)
        changed = services.update_application(actor=self.actor, application=application, **given)
        return Response(self.get_serializer(changed).data)


# --- Keys -------------------------------------------------------------------------------------------------------------


class ApplicationCredentials(_PortalView, generics.ListAPIView[Credential]):
    serializer_class = serializers.CredentialSerializer

    def get_queryset(self) -> QuerySet[Credential]:
        return selectors.credentials_for(self.actor).filter(application=self.application())

    @extend_schema(operation_id="credentials_list", summary="List an application's keys", tags=["credentials"])
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="credentials_create",
        summary="Make a key",
        description="The answer holds the key. No later answer does.",
        request=serializers.NewCredentialSerializer,
        responses={201: serializers.IssuedCredentialSerializer},
        tags=["credentials"],
    )
    def post(self, request: Request, application_id: int) -> Response:
        application, given = self.application(), self.given(serializers.NewCredentialSerializer)
        credential, key = services.issue_credential(actor=self.actor, application=application, **given)
        body = {**self.get_serializer(credential).data, "key": key.secret}
        return Response(body, status=status.HTTP_201_CREATED, headers={"Cache-Control": "no-store"})


class CredentialDetail(_PortalView):
    serializer_class = serializers.CredentialSerializer

    @extend_schema(operation_id="credentials_read", summary="Read a key's facts", tags=["credentials"])
    def get(self, request: Request, credential_id: int) -> Response:
        return Response(self.get_serializer(selectors.credential_for(self.actor, credential_id)).data)


class CredentialRoll(_PortalView):
    serializer_class = serializers.IssuedCredentialSerializer

    @extend_schema(
        operation_id="credentials_roll",
        summary="Give a key a new secret",
        description="The answer holds the new key. The present one works on for the overlap.",
        request=serializers.RollSerializer,
        tags=["credentials"],
    )
    def post(self, request: Request, credential_id: int) -> Response:
        given = self.given(serializers.RollSerializer)
        credential, key = services.roll_credential(
            actor=self.actor,
            credential=selectors.credential_for(self.actor, credential_id),
            overlap=timedelta(seconds=given["overlap_seconds"]),
        )
        body = {**serializers.CredentialSerializer(credential).data, "key": key.secret}
        return Response(body, headers={"Cache-Control": "no-store"})


class CredentialEndFormer(_PortalView):
    serializer_class = serializers.CredentialSerializer

    @extend_schema(
        operation_id="credentials_end_former",
        summary="End the secret that was rolled away, before its time",
        request=None,
        tags=["credentials"],
    )
    def post(self, request: Request, credential_id: int) -> Response:
        credential = selectors.credential_for(self.actor, credential_id)
        self.given(NothingSerializer)
        return Response(self.get_serializer(services.end_former_secret(actor=self.actor, credential=credential)).data)


class CredentialExpiry(_PortalView):
    serializer_class = serializers.CredentialSerializer

    @extend_schema(
        operation_id="credentials_set_expiry",
        summary="Say when a key ends",
        request=serializers.ExpirySerializer,
        tags=["credentials"],
    )
    def put(self, request: Request, credential_id: int) -> Response:
        given = self.given(serializers.ExpirySerializer)
        credential = selectors.credential_for(self.actor, credential_id)
        return Response(self.get_serializer(services.set_expiry(actor=self.actor, credential=credential, **given)).data)


class CredentialRevoke(_PortalView):
    serializer_class = serializers.CredentialSerializer

    @extend_schema(operation_id="credentials_revoke", summary="Revoke a key", request=None, tags=["credentials"])
    def post(self, request: Request, credential_id: int) -> Response:
        credential = selectors.credential_for(self.actor, credential_id)
        self.given(NothingSerializer)
        return Response(self.get_serializer(services.revoke_credential(actor=self.actor, credential=credential)).data)


class LeakThrottle(TokenThrottle):
    """Reports are few; guesses would be many."""

    scope = "leaks"

    def get_cache_key(self, request: Request, view: APIView) -> str | None:
        return f"{super().get_cache_key(request, view)}:leaks"


class KeyLookUp(_PortalView):
    serializer_class = serializers.FoundKeySerializer
    pagination_class = None

    @extend_schema(
        operation_id="keys_look_up",
        summary="Ask whose a key is",
        description="Keys of applications that use your APIs, the newest first; operators find every key. It changes "
        "nothing: a key is sent as a body because an address ends up in logs.",
        request=serializers.LookUpSerializer,
        responses=serializers.FoundKeySerializer(many=True),
        tags=["credentials"],
    )
    def post(self, request: Request) -> Response:
        selectors.require_look_up(self.actor)
        found = selectors.keys_like(self.actor, self.given(serializers.LookUpSerializer)["key"])
        return Response(serializers.FoundKeySerializer(found[: selectors.KEYS_SHOWN], many=True).data)


class LeakReport(_PortalView):
    serializer_class = serializers.StoppedSerializer
    throttle_classes = [TokenThrottle, LeakThrottle]

    @extend_schema(
        operation_id="leaks_report",
        summary="Report keys that were found in public",
        description="Those that work are revoked at once, whosever they are; what is no key of ours is passed over.",
        request=serializers.LeakSerializer,
        tags=["credentials"],
    )
    def post(self, request: Request) -> Response:
        given = self.given(serializers.LeakSerializer)
        stopped = services.report_leak(actor=self.actor, **given)
        return Response(self.get_serializer({"stopped": stopped}).data)


# --- Subscriptions ----------------------------------------------------------------------------------------------------


class ApplicationSubscriptions(_PortalView, generics.ListAPIView[Subscription]):
    serializer_class = serializers.SubscriptionSerializer

    def get_queryset(self) -> QuerySet[Subscription]:
        found = selectors.subscriptions_for(self.actor).filter(application=self.application())
        return found.prefetch_related("plan__limits")

    @extend_schema(
        operation_id="application_subscriptions_list",
        summary="List what an application is subscribed to",
        tags=["subscriptions"],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="subscriptions_create",
        summary="Subscribe an application to a plan",
        description="Active at once, or requested where the plan asks for approval.",
        request=serializers.NewSubscriptionSerializer,
        responses={201: serializers.SubscriptionSerializer},
        tags=["subscriptions"],
    )
    def post(self, request: Request, application_id: int) -> Response:
        application = self.application()
        plan = _plan(self.given(serializers.NewSubscriptionSerializer)["plan"])
        subscription = services.subscribe(actor=self.actor, application=application, plan=plan)
        return Response(self.get_serializer(subscription).data, status=status.HTTP_201_CREATED)


class SubscriptionList(_PortalView, generics.ListAPIView[Subscription]):
    serializer_class = serializers.SubscriptionSerializer
    query = serializers.SubscriptionsQuerySerializer

    def get_queryset(self) -> QuerySet[Subscription]:
        found = selectors.visible_subscriptions(self.actor).prefetch_related("plan__limits")
        state = self.asked.get("state")
        return found.filter(state=state) if state else found

    @extend_schema(
        operation_id="subscriptions_list",
        summary="List subscriptions of your applications, and to your products",
        tags=["subscriptions"],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class SubscriptionDetail(_PortalView):
    serializer_class = serializers.SubscriptionSerializer

    def subscription(self) -> Subscription:
        return selectors.one(selectors.visible_subscriptions(self.actor).filter(pk=self.kwargs["subscription_id"]))

    @extend_schema(operation_id="subscriptions_read", summary="Read a subscription", tags=["subscriptions"])
    def get(self, request: Request, subscription_id: int) -> Response:
        return Response(self.get_serializer(self.subscription()).data)

    @extend_schema(
        operation_id="subscriptions_change_plan",
        summary="Move a subscription to another plan of its product",
        request=serializers.NewSubscriptionSerializer,
        responses=serializers.SubscriptionSerializer,
        tags=["subscriptions"],
    )
    def patch(self, request: Request, subscription_id: int) -> Response:
        subscription = self.subscription()
        plan = _plan(self.given(serializers.NewSubscriptionSerializer)["plan"])
        moved = services.change_plan(actor=self.actor, subscription=subscription, plan=plan)
        return Response(self.get_serializer(moved).data)


class _SubscriptionMove(SubscriptionDetail):
    http_method_names = ["post", "options"]
    verb: Any = None

    def move(self) -> Response:
        subscription = self.subscription()
        self.given(NothingSerializer)
        moved = type(self).verb(actor=self.actor, subscription=subscription)
        return Response(self.get_serializer(moved).data)


class SubscriptionApprove(_SubscriptionMove):
    verb = staticmethod(services.approve_subscription)

    @extend_schema(operation_id="subscriptions_approve", summary="Approve", request=None, tags=["subscriptions"])
    def post(self, request: Request, subscription_id: int) -> Response:
        return self.move()


class SubscriptionReject(_SubscriptionMove):
    verb = staticmethod(services.reject_subscription)

    @extend_schema(operation_id="subscriptions_reject", summary="Reject", request=None, tags=["subscriptions"])
    def post(self, request: Request, subscription_id: int) -> Response:
        return self.move()


class SubscriptionSuspend(_SubscriptionMove):
    verb = staticmethod(services.suspend_subscription)

    @extend_schema(operation_id="subscriptions_suspend", summary="Suspend", request=None, tags=["subscriptions"])
    def post(self, request: Request, subscription_id: int) -> Response:
        return self.move()


class SubscriptionResume(_SubscriptionMove):
    verb = staticmethod(services.resume_subscription)

    @extend_schema(operation_id="subscriptions_resume", summary="Resume", request=None, tags=["subscriptions"])
    def post(self, request: Request, subscription_id: int) -> Response:
        return self.move()


class SubscriptionCancel(_SubscriptionMove):
    verb = staticmethod(services.cancel_subscription)

    @extend_schema(operation_id="subscriptions_cancel", summary="End for good", request=None, tags=["subscriptions"])
    def post(self, request: Request, subscription_id: int) -> Response:
        return self.move()


def _plan(pk: int) -> Plan:
    """Whether it is offered to the caller is the service's question."""
    plan = Plan.objects.select_related("product__organisation").prefetch_related("limits").filter(pk=pk).first()
    if plan is None:
        raise NotFound(_("There is no such plan."), code="plan_not_found")
    return plan
