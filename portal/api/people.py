"""People over REST, for operators; to everybody else none of it exists."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response

from apimgr.accounts.models import User
from apimgr.accounts.services import disable_user, enable_user
from apimgr.core.rest_views import NothingSerializer, RestView
from portal import selectors
from portal.api import serializers


class PersonList(RestView, generics.ListAPIView[User]):
    serializer_class = serializers.AccountSerializer
    query = serializers.PeopleQuerySerializer

    def get_queryset(self) -> QuerySet[User]:
        return selectors.all_people(self.actor, self.asked.get("q", ""), self.asked.get("state", ""))

    @extend_schema(
        operation_id="operations_people_list",
        summary="List all people",
        description="With how many organisations each belongs to. For operators.",
        tags=["operations"],
    )
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class _Person(RestView):
    serializer_class = serializers.AccountSerializer

    def told(self, user_id: int) -> Response:
        return Response(self.get_serializer(selectors.any_person(self.actor, user_id)).data)


class PersonDetail(_Person):
    @extend_schema(operation_id="operations_people_read", summary="Read a person", tags=["operations"])
    def get(self, request: Request, user_id: int) -> Response:
        return self.told(user_id)


class PersonDisable(_Person):
    @extend_schema(
        operation_id="operations_people_disable",
        summary="Disable a person",
        description=(
            "They can no longer sign in; their sessions and API tokens end for good. Every call of applications whose"
            " organisation has no other active owner is refused within a second. For operators."
        ),
        request=None,
        tags=["operations"],
    )
    def post(self, request: Request, user_id: int) -> Response:
        person = selectors.any_person(self.actor, user_id)
        self.given(NothingSerializer)
        disable_user(actor=self.actor, user=person)
        return self.told(user_id)


class PersonEnable(_Person):
    @extend_schema(
        operation_id="operations_people_enable",
        summary="Let a disabled person sign in again",
        description="Keys that were refused since nobody owned them work again. For operators.",
        request=None,
        tags=["operations"],
    )
    def post(self, request: Request, user_id: int) -> Response:
        person = selectors.any_person(self.actor, user_id)
        self.given(NothingSerializer)
        enable_user(actor=self.actor, user=person)
        return self.told(user_id)
