"""The base of every REST view. Apart from ``core.rest``, which DRF imports before its own views exist."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from django.utils.translation import gettext
from rest_framework.fields import Field
from rest_framework.generics import GenericAPIView
from rest_framework.mixins import ListModelMixin
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer, Serializer

from apimgr.core.errors import DomainError, RepeatedParameter, UnknownField, UnknownParameter
from apimgr.core.rest import KeysetPagination
from apimgr.core.rest_formats import FORMAT_PARAMETER, MAX_BODY_BYTES, shown

if TYPE_CHECKING:
    from apimgr.accounts.models import User

_SHOWN: Final = 10  # unknown names in an answer


class NothingSerializer(Serializer[Any]):
    """The body of a request that needs none: empty, or an empty object."""


class RestView(GenericAPIView[Any]):
    #: what a GET may be asked for after ``?``, besides the pages of a list; the OpenAPI document has it from here too
    query: ClassVar[type[Serializer[Any]] | None] = None
    max_body_bytes: ClassVar[int] = MAX_BODY_BYTES

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in self.allowed_methods:  # else that is what is wrong
            self._refuse_unknown_parameters()

    @property
    def actor(self) -> User:
        """The token's owner, confined to the token's organisation."""
        return cast("User", self.request.user)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """What the address asks for, checked by ``query`` name by name."""
        assert self.query is not None, "a view that asks says what may be asked"
        checked = self.query(data=self.request.query_params)
        checked.is_valid(raise_exception=True)
        return cast("dict[str, Any]", checked.validated_data)

    def given(self, serializer: type[BaseSerializer[Any]]) -> dict[str, Any]:
        """What the caller sent, checked field by field.

        A field that is not known is refused: misspelt, the one that was meant would silently keep its value or get its
        default.
        """
        checked = serializer(data=self.request.data)
        _refuse_unknown(checked, self.request.data, self._readable())
        checked.is_valid(raise_exception=True)
        return cast("dict[str, Any]", checked.validated_data)

    def _readable(self) -> frozenset[str]:
        """Names that a PUT or PATCH may send back: who reads a thing changes a field of it and sends the whole."""
        if self.request.method not in {"PUT", "PATCH"} or not hasattr(self, "get"):
            return frozenset()
        answer = self.get_serializer_class()()
        return frozenset(answer.fields) if isinstance(answer, Serializer) else frozenset()

    def _refuse_unknown_parameters(self) -> None:
        """A misspelt filter would answer with everything, and of two values for one name one would be lost."""
        known = self._parameters()
        asked = self.request.query_params
        unknown = (name for name in asked if name not in {*known, FORMAT_PARAMETER})
        _refuse(
            UnknownParameter,
            gettext("The address asks for what is not known here: %s."),
            ((shown(name), _no_such(name, known)) for name in unknown),
        )
        for name in asked:
            if len(asked.getlist(name)) > 1:
                sentence = gettext("Give it once.")
                raise RepeatedParameter(
                    gettext("The address gives %s more than once.") % name, fix=sentence, fields={name: sentence}
                )

    def _parameters(self) -> list[str]:
        names: list[str] = []
        if self.request.method in {"GET", "HEAD"}:
            names += self.query().fields if self.query else ()
            names += KeysetPagination.parameters if isinstance(self, ListModelMixin) else ()
        return [*names, FORMAT_PARAMETER] if len(self.get_renderers()) > 1 else names


def _refuse_unknown(serializer: BaseSerializer[Any], data: object, readable: frozenset[str]) -> None:
    _refuse(
        UnknownField,
        gettext("Nothing was changed, for this has no meaning here: %s."),
        ((place, told) for place, told in _unknown(serializer, data) if place not in readable),
    )


def _refuse(error: type[DomainError], sentence: str, unknown: Iterable[tuple[str, str]]) -> None:
    """Raise ``error`` if a name is ``unknown``. Of many, the rest is not even looked at."""
    fields: dict[str, str] = {}
    for place, told in unknown:
        fields[place] = told
        if len(fields) == _SHOWN:
            break
    if fields:
        raise error(sentence % ", ".join(fields), fix=gettext("Correct the name or leave it out."), fields=fields)


def _unknown(
    field: Field[Any, Any, Any, Any] | BaseSerializer[Any], data: object, at: str = ""
) -> Iterator[tuple[str, str]]:
    """Where ``data`` has names that ``field`` has not, and a sentence with those that may be set there.

    Names that are only read are passed over: who reads a thing may send it back as it was.
    """
    if isinstance(field, Serializer) and isinstance(data, Mapping):
        known = [name for name, child in field.fields.items() if not child.read_only]
        for name, value in data.items():
            child = field.fields.get(name)
            if child is None:
                yield at + shown(name), _no_such(name, known)
            elif not child.read_only:
                yield from _unknown(child, value, f"{at}{name}.")
    elif isinstance(data, list) and (child := getattr(field, "child", None)) is not None:
        for index, value in enumerate(data):
            yield from _unknown(child, value, f"{at}{index}.")


def _no_such(name: object, known: Sequence[str]) -> str:
    if not known:
        return gettext("It is not known, and nothing is to be given here.")
    told = {"known": ", ".join(known)}
    # A long name is no slip of the keyboard, and comparing it costs.
    if near := get_close_matches(str(name)[:80].lower(), known, n=1):
        return gettext("It is not known. Did you mean %(near)s? Known are: %(known)s.") % {**told, "near": near[0]}
    return gettext("It is not known. Known are: %(known)s.") % told
