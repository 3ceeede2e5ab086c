"""Which of several versions at one address a call means (docs/reference/routing.md).

A call names a version once, plainly, or not at all. What two servers could read in two ways is refused: the upstream
behind the gateway is sent the same field or parameter and must not understand another version.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from apimgr.contracts.snapshot import RouteDocument
from proxy.dataplane.http.fields import Field, strikes, with_dashes
from proxy.dataplane.http.request import FieldBlock, RequestHead
from proxy.dataplane.http.vary import vary_on
from proxy.dataplane.policies.refusal import Refusal

_SHOWN: Final = 20  # values in the text of a refusal
_PERCENT: Final = re.compile(rb"%([0-9A-Fa-f]{2})")
_SEPARATOR: Final = re.compile(rb"[&;]")
_VARIABLE_ENDS: Final = re.compile(rb"[\[\0]")
_IN_VARIABLES: Final = re.compile(rb"[. +]")  # what some servers write "_" for


class Fork:
    """An address with several versions, ready to choose from. It lasts no longer than what it knows of them."""

    __slots__ = (
        "_advice", "_is_retired", "api_id", "base_path", "by_header", "by_value", "default", "name", "where",
        "wire_name",
    )  # fmt: skip

    def __init__(self, route: RouteDocument, api_id: int, is_retired: Callable[[int], bool]) -> None:
        self.api_id = api_id
        self.base_path = route.base_path
        self.by_header = route.select_by == "header"
        self.name = route.select_name
        # As it is compared: field names in lower case and with dashes, parameters to the letter.
        self.wire_name = (self.name.lower() if self.by_header else self.name).encode()
        self.by_value = {choice.value.encode(): choice.version_id for choice in route.choices}
        self.default = route.version_id
        self.where = f"the {'header field' if self.by_header else 'query parameter'} {self.name}"
        self._is_retired = is_retired
        self._advice = ""  # found at the first refusal: until then nobody need know every version

    def version_id(self, head: RequestHead) -> int:
        """The version that the call names, or the one for calls that name none. Raises ``version_unknown``."""
        values = self._in_fields(head) if self.by_header else self._in_query(head.query)
        if not values:
            if self.default:
                return self.default
            raise self.refusal("The call names no version")
        if len(values) > 1:
            raise self.refusal("The call names a version more than once")
        found = self.by_value.get(values[0])
        if found is None:
            raise self.refusal("The call names a version that is not here")
        return found

    def refusal(self, what: str) -> Refusal:
        self._advice = self._advice or self._advise()
        return Refusal("version_unknown", f"{what}. {self._advice}")

    def _advise(self) -> str:
        values = [value.decode() for value, version_id in self.by_value.items() if not self._is_retired(version_id)]
        if not values:
            return "All that were here are retired."
        more = f" and {len(values) - _SHOWN} more" if len(values) > _SHOWN else ""
        return f"Send one of {', '.join(values[:_SHOWN])}{more} in {self.where}."

    def _in_fields(self, head: RequestHead) -> list[bytes]:
        wanted = self.wire_name
        if strikes(head.block.struck, wanted):
            raise self.refusal("The Connection field keeps the version's name to this hop")
        return [value for name, value in head.fields + head.block.withheld if _is_field(name, wanted)]

    def _in_query(self, query: bytes) -> list[bytes]:
        if not query:
            return []
        wanted, text = self.wire_name, query[1:]
        names = {_decoded(pair.partition(b"=")[0]) for pair in _SEPARATOR.split(text)} - {wanted}
        if _variable(wanted) in map(_variable, names):
            raise self.refusal("Servers differ on whether a parameter's name is that of the version")
        values = _parameter(text.split(b"&"), wanted)
        if b";" in text and _parameter(_SEPARATOR.split(text), wanted) != values:
            raise self.refusal("Servers differ on what the query means with its semicolons")
        return values

    def passed_on(self, block: FieldBlock) -> bytes:
        """The lines of the choosing field where it is of a kind that is not passed on else (``X-Api-*``)."""
        if not self.by_header or not block.withheld:
            return b""
        return b"".join(b"%b: %b\r\n" % field for field in block.withheld if _is_named(field, self.wire_name))

    def varied(self, lines: bytes) -> bytes:
        """A response's field lines, saying that the version depends on the field."""
        return vary_on(lines, self.name.encode()) if self.by_header else lines


def _is_field(name: bytes, wanted: bytes) -> bool:
    return len(name) == len(wanted) and with_dashes(name.lower()) == wanted


def _is_named(field: Field, wanted: bytes) -> bool:
    return field[0].lower() == wanted


def _parameter(pairs: list[bytes], wanted: bytes) -> list[bytes]:
    """The values of the parameter ``wanted``, name and value percent-decoded once."""
    found = []
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        if name == wanted or (b"%" in name and _decoded(name) == wanted):
            found.append(_decoded(value))
    return found


def _variable(name: bytes) -> bytes:
    """A parameter's name to servers that ignore case or make variables of names."""
    return _IN_VARIABLES.sub(b"_", _VARIABLE_ENDS.split(name.lstrip(b" +"), 1)[0].lower())


def _decoded(text: bytes) -> bytes:
    """Octets for their percent-encoding; ``+`` is a plus, and what is no encoding stays as it is."""
    return _PERCENT.sub(lambda match: bytes((int(match[1], 16),)), text) if b"%" in text else text
