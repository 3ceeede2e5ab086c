"""The base of every REST view. Apart from ``core.rest``, which DRF imports before its own views exist."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from rest_framework.generics import GenericAPIView
from rest_framework.serializers import BaseSerializer

if TYPE_CHECKING:
    from apimgr.accounts.models import User


class RestView(GenericAPIView[Any]):
    @property
    def actor(self) -> User:
        """The token's owner, confined to the token's organisation."""
        return cast("User", self.request.user)

    def given(self, serializer: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """What the caller sent, checked field by field."""
        checked = serializer(data=self.request.data)
        checked.is_valid(raise_exception=True)
        return cast("dict[str, Any]", checked.validated_data)
