"""What goes in and out of the REST API: JSON that can be read in one way only, and the formats that a view has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from math import isinf
from typing import IO, Any, Final, cast

from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from apimgr.core.errors import DomainError

MAX_BODY_BYTES: Final = 2**20  # a view with larger ones sets its own ``max_body_bytes``
MAX_DEPTH: Final = 32  # arrays and objects within each other; ours have four
MAX_DIGITS: Final = 40  # of a number; a bigint has 19
FORMAT_PARAMETER: Final = "format"
_SHOWN_CHARS: Final = 60  # of a name in an answer


class Unreadable(DomainError):
    """A body that is not JSON, or that two readers could take for two things."""

    status = 400
    code = "parse_error"


class TooLarge(DomainError):
    status = 413
    code = "body_too_large"


class UnknownFormat(DomainError):
    """``?format=`` names what this view cannot answer with."""

    status = 400
    code = "unknown_format"


class NotAcceptable(DomainError):
    status = 406
    code = "not_acceptable"


# --- In ---------------------------------------------------------------------------------------------------------------


class JsonParser(BaseParser):
    """An object in JSON: of UTF-8, whatever ``charset`` says (RFC 8259, 8.1), and of bounded size, depth and numbers.

    Refused, too, is what PostgreSQL cannot store, NUL and halves of surrogate pairs, and a name that is given twice: of
    two values one would be lost.
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        view = (parser_context or {}).get("view")
        return read_object(_bounded(stream, getattr(view, "max_body_bytes", MAX_BODY_BYTES)))


def _bounded(stream: IO[bytes], most: int) -> bytes:
    body = stream.read(most + 1)
    if len(body) > most:
        raise TooLarge(_("The body is larger than the %(most)s bytes that are read here.") % {"most": f"{most:,}"})
    return body


def read_object(body: bytes) -> dict[str, Any]:
    """The object that ``body`` is. Raises ``Unreadable`` with what is wrong and where."""
    value = _read(body)
    if not isinstance(value, dict):
        raise Unreadable(_("The body is JSON, but not an object: send one, such as {} if there is nothing to say."))
    fields = dict(_unstorable(value))
    if fields:
        at, sentence = next(iter(fields.items()))
        raise Unreadable(f"{at}: {sentence}", fields=fields)
    return value


def _read(body: bytes) -> Any:
    try:
        text = body.decode("utf-8-sig")
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_float
        )
    except UnicodeDecodeError as error:
        raise Unreadable(_("The body is not UTF-8: byte %(at)s cannot be read.") % {"at": error.start + 1}) from error
    except json.JSONDecodeError as error:
        told = {"line": error.lineno, "column": error.colno, "what": error.msg}
        raise Unreadable(_("The body is not JSON: line %(line)s, column %(column)s: %(what)s.") % told) from error
    except RecursionError as error:
        raise _too_deep() from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            sentence = _("It is given twice in one object.")
            raise Unreadable(f"{shown(name)}: {sentence}", fields={shown(name): sentence})
        found[name] = value
    return found


def _constant(name: str) -> Any:
    raise Unreadable(_("The body is not JSON: %(name)s is no number there.") % {"name": name})


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise Unreadable(_("The body has a number of %(count)s digits.") % {"count": len(digits)})
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if isinf(value):
        raise Unreadable(_("The body has a number that is too large: %(number)s.") % {"number": shown(digits)})
    return value


def _unstorable(value: Any, at: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Where in ``value`` there are characters that the database cannot store, and which."""
    if isinstance(value, dict | list) and depth >= MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        for name, child in value.items():
            place = f"{at}.{shown(name)}" if at else shown(name)
            if wrong := _wrong_character(name):
                yield place, wrong
            yield from _unstorable(child, place, depth + 1)
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _unstorable(child, f"{at}.{index}", depth + 1)
    elif isinstance(value, str) and (wrong := _wrong_character(value)):
        yield at, wrong


def _wrong_character(text: str) -> str:
    if "\0" in text:
        return _("NUL (U+0000) cannot be stored.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return _("Half of a surrogate pair (U+%(point)04X) is no character.") % {"point": ord(text[error.start])}
    return ""


def _too_deep() -> Unreadable:
    return Unreadable(_("The body is nested more than %(most)s levels deep.") % {"most": MAX_DEPTH})


def shown(name: object) -> str:
    """A name that a caller sent, as an answer may show it: short, and text whatever it is."""
    return str(name)[:_SHOWN_CHARS].encode(errors="backslashreplace").decode().replace("\0", "\\0")


# --- Out --------------------------------------------------------------------------------------------------------------


class Negotiation(DefaultContentNegotiation):
    """As ``?format=`` says, else as ``Accept`` does; a refusal names what there is."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, str]:
        there = list(renderers)
        if asked := format_suffix or request.query_params.get(FORMAT_PARAMETER):
            # Who names a format in the address means it, whatever their HTTP library puts into Accept.
            chosen = _of_format(there, asked)
            return chosen, chosen.media_type
        try:
            return cast("tuple[BaseRenderer, str]", super().select_renderer(request, there))
        except exceptions.NotAcceptable as error:
            names = ", ".join(renderer.media_type for renderer in there)
            sentence = _("Nothing that Accept allows can be answered here.")
            raise NotAcceptable(sentence, fix=_("Accept one of: %(names)s.") % {"names": names}) from error


def _of_format(renderers: list[BaseRenderer], name: str) -> BaseRenderer:
    for renderer in renderers:
        if renderer.format == name:
            return renderer
    told = {"name": shown(name), "names": ", ".join(renderer.format for renderer in renderers)}
    sentence = _("There is no format %(name)s here: choose from %(names)s.") % told
    raise UnknownFormat(sentence, fix=_("Correct it or leave it out."), fields={FORMAT_PARAMETER: sentence})
