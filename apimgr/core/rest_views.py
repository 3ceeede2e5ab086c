"""The base of every REST view. Apart from ``core.rest``, which DRF imports before its own views exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from django.utils.translation import gettext
from rest_framework.fields import Field
from rest_framework.generics import GenericAPIView
from rest_framework.serializers import BaseSerializer, Serializer

from apimgr.core.errors import UnknownField

if TYPE_CHECKING:
    from apimgr.accounts.models import User

_SHOWN: Final = 10  # unknown fields in an answer
_SHOWN_CHARS: Final = 60  # of the name of one


class RestView(GenericAPIView[Any]):
    @property
    def actor(self) -> User:
        """The token's owner, confined to the token's organisation."""
        return cast("User", self.request.user)

    def given(self, serializer: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """What the caller sent, checked field by field.

        A PUT is refused for a field that is not known: misspelt, it would silently set the one that was meant back to
        its default.
        """
        checked = serializer(data=self.request.data)
        if self.request.method == "PUT":
            _refuse_unknown(checked, self.request.data)
        checked.is_valid(raise_exception=True)
        return cast("dict[str, Any]", checked.validated_data)


def _refuse_unknown(serializer: BaseSerializer[Any], data: object) -> None:
    fields = {}
    for place, known in _unknown(serializer, data):
        fields[place] = gettext("There is no such field. Known are: %s.") % ", ".join(known)
        if len(fields) == _SHOWN:
            break
    if fields:
        names = ", ".join(fields)
        raise UnknownField(
            gettext("Nothing was changed, for this has no meaning here: %s.") % names,
            fix=gettext("Correct the name or leave it out."),
            fields=fields,
        )


def _unknown(
    field: Field[Any, Any, Any, Any] | BaseSerializer[Any], data: object, at: str = ""
) -> Iterator[tuple[str, list[str]]]:
    """Where ``data`` has names that ``field`` has not, and the names that may be set there.

    Names that are only read are passed over: who reads a thing may send it back as it was.
    """
    if isinstance(field, Serializer) and isinstance(data, Mapping):
        known = [name for name, child in field.fields.items() if not child.read_only]
        for name, value in data.items():
            child = field.fields.get(name)
            if child is None:
                yield at + str(name)[:_SHOWN_CHARS], known
            elif not child.read_only:
                yield from _unknown(child, value, f"{at}{name}.")
    elif isinstance(data, list) and (child := getattr(field, "child", None)) is not None:
        for index, value in enumerate(data):
            yield from _unknown(child, value, f"{at}{index}.")
