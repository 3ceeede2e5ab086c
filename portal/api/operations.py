"""Suspension over REST, for operators; to everybody else none of it exists."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from apimgr.accounts.models import Organisation
from apimgr.accounts.services import resume_organisation, suspend_organisation
from apimgr.core.rest_views import NothingSerializer, RestView
from portal import selectors, services
from portal.api import serializers


class OrganisationList(RestView, generics.ListAPIView[Organisation]):
    serializer_class = serializers.OwnerSerializer
    query = serializers.OwnersQuerySerializer

    def get_queryset(self) -> QuerySet[Organisation]:
        return selectors.all_organisations(self.actor, self.asked.get("q", ""), self.asked.get("state", ""))

    @extend_schema(
        operation_id="operations_organisations_list",
        summary="List all organisations",
        description="With how many members and applications each has. For operators.",
        tags=["operations"],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class _OrganisationMove(RestView):
    serializer_class = serializers.OwnerSerializer
    verb: Any = None

    def move(self, slug: str) -> Response:
        found = selectors.any_organisation(self.actor, slug)
        self.given(NothingSerializer)
        type(self).verb(actor=self.actor, organisation=found)
        return Response(self.get_serializer(selectors.any_organisation(self.actor, slug)).data)


class OrganisationSuspend(_OrganisationMove):
    verb = staticmethod(suspend_organisation)

    @extend_schema(
        operation_id="operations_organisations_suspend",
        summary="Suspend an organisation",
        description="Every call of its applications is refused within a second. For operators.",
        request=None,
        tags=["operations"],
    )
    def post(self, request: Request, slug: str) -> Response:
        return self.move(slug)


class OrganisationResume(_OrganisationMove):
    verb = staticmethod(resume_organisation)

    @extend_schema(
        operation_id="operations_organisations_resume",
        summary="Let a suspended organisation call again",
        request=None,
        tags=["operations"],
    )
    def post(self, request: Request, slug: str) -> Response:
        return self.move(slug)


class _ApplicationMove(RestView):
    serializer_class = serializers.ApplicationSerializer
    verb: Any = None

    def move(self, application_id: int) -> Response:
        found = selectors.any_application(self.actor, application_id)
        self.given(NothingSerializer)
        return Response(self.get_serializer(type(self).verb(actor=self.actor, application=found)).data)


class ApplicationSuspend(_ApplicationMove):
    verb = staticmethod(services.suspend_application)

    @extend_schema(
        operation_id="operations_applications_suspend",
        summary="Suspend an application",
        description="Its calls are refused within a second, to every API. For operators.",
        request=None,
        tags=["operations"],
    )
    def post(self, request: Request, application_id: int) -> Response:
        return self.move(application_id)


class ApplicationResume(_ApplicationMove):
    verb = staticmethod(services.resume_application)

    @extend_schema(
        operation_id="operations_applications_resume",
        summary="Let a suspended application call again",
        request=None,
        tags=["operations"],
    )
    def post(self, request: Request, application_id: int) -> Response:
        return self.move(application_id)
