"""Products and plans over REST."""

from __future__ import annotations

from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from apimgr.accounts.access import Permission, require
from apimgr.catalog.models import API
from apimgr.catalog.selectors import api_for
from apimgr.core.rest_views import RestView
from apimgr.products import selectors, services
from apimgr.products.api import serializers
from apimgr.products.models import Plan, Product
from apimgr.products.services import LimitTerms


class _ProductsView(RestView):
    def given(self, serializer: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """What the caller sent, checked field by field; limits as terms."""
        given = super().given(serializer)
        if "limits" in given:
            given["limits"] = [_terms(**limit) for limit in given["limits"]]
        return given


def _terms(kind: str, amount: int, period: str, operation_id: int | None, api: API | None = None) -> LimitTerms:
    return LimitTerms(kind, amount, period, api.pk if api else None, operation_id)


class ProductList(_ProductsView, generics.ListAPIView[Product]):
    serializer_class = serializers.ProductSerializer

    def get_queryset(self) -> QuerySet[Product]:
        return selectors.products_for(self.actor)

    @extend_schema(operation_id="products_list", summary="List your products with their plans")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class ProductDetail(_ProductsView):
    serializer_class = serializers.ProductSerializer

    @extend_schema(operation_id="products_read", summary="Read a product")
    def get(self, request: Request, slug: str) -> Response:
        return Response(self.get_serializer(selectors.product_for(self.actor, slug)).data)


class ProductPlans(_ProductsView):
    serializer_class = serializers.PlanSerializer
    pagination_class = None  # a short list, and whole

    @extend_schema(
        operation_id="plans_list",
        summary="List the plans of a product",
        responses=serializers.PlanSerializer(many=True),
    )
    def get(self, request: Request, slug: str) -> Response:
        product = selectors.product_for(self.actor, slug)
        return Response(serializers.PlanSerializer(product.plans.all(), many=True).data)

    @extend_schema(
        operation_id="plans_create",
        summary="Add a plan",
        request=serializers.NewPlanSerializer,
        responses={201: serializers.PlanSerializer},
    )
    def post(self, request: Request, slug: str) -> Response:
        product = selectors.product_for(self.actor, slug)
        plan = services.create_plan(actor=self.actor, product=product, **self.given(serializers.NewPlanSerializer))
        return Response(self.get_serializer(plan).data, status.HTTP_201_CREATED)


class PlanDetail(_ProductsView):
    serializer_class = serializers.PlanSerializer

    def plan(self) -> Plan:
        return selectors.plan_for(self.actor, self.kwargs["plan_id"])

    @extend_schema(operation_id="plans_read", summary="Read a plan")
    def get(self, request: Request, plan_id: int) -> Response:
        return Response(self.get_serializer(self.plan()).data)

    @extend_schema(
        operation_id="plans_update",
        summary="Change a plan",
        description="New limits are enforced on every connected gateway within a second.",
        request=serializers.PlanChangesSerializer,
    )
    @transaction.atomic
    def patch(self, request: Request, plan_id: int) -> Response:
        plan = self.plan()
        given = self.given(serializers.PlanChangesSerializer)
        limits = given.pop("limits", None)
        services.update_plan(actor=self.actor, plan=plan, **given)
        if limits is not None:
            services.change_limits(actor=self.actor, plan=plan, limits=limits)
        return Response(self.get_serializer(self.plan()).data)


class ApiLimits(_ProductsView):
    serializer_class = serializers.ApiLimitsSerializer

    @extend_schema(
        operation_id="api_limits_read",
        summary="Read the limits for all callers of an API together",
        tags=["limits"],
    )
    def get(self, request: Request, slug: str) -> Response:
        return self._told(api_for(self.actor, slug))

    @extend_schema(
        operation_id="api_limits_replace",
        summary="Replace the limits for all callers of an API together",
        description="They hold whatever a caller's plan, also for calls without a key. Enforced on every connected"
        " gateway within a second. One that stays keeps what was used.",
        tags=["limits"],
    )
    def put(self, request: Request, slug: str) -> Response:
        api = api_for(self.actor, slug)
        require(self.actor, Permission.PLAN_EDIT, api.organisation)
        given = self.given(serializers.ApiLimitsSerializer)
        return self._told(services.change_api_limits(actor=self.actor, api=api, **given))

    def _told(self, api: API) -> Response:
        return Response(self.get_serializer({"limits": api.limits.all()}).data)
