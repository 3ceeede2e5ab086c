"""What the numbers in a rollup are called. A thing that is gone keeps its count and loses its name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from django.utils.translation import gettext as _

from apimgr.catalog.models import Operation, Version
from apimgr.contracts.outcomes import BY_NUMBER
from apimgr.contracts.usage import METHODS
from apimgr.core.ids import encode_id
from apimgr.products.models import Plan
from portal.models import Application

Names = Mapping[int, str]


def labels(dimension: str, values: Iterable[int]) -> Names:
    """A name for each of ``values``."""
    wanted = set(values)
    found = _READERS[dimension](wanted)
    nothing = {0: _nothing(dimension)}
    return {**{value: encode_id(value) for value in wanted}, **(nothing if 0 in wanted else {}), **found}


def _nothing(dimension: str) -> str:
    match dimension:
        case "operation_id":
            return _("No operation matched")
        case "application_id":
            return _("No application (key missing or unknown)")
        case "plan_id":
            return _("No plan")
        case "status_class":
            return _("No answer")
        case _:
            return _("Unknown")


def _versions(ids: set[int]) -> Names:
    return {v.pk: f"{v.api.name} {v.name}" for v in Version.objects.filter(pk__in=ids).select_related("api")}


def _operations(ids: set[int]) -> Names:
    return {
        pk: f"{method} {path}"
        for pk, method, path in Operation.objects.filter(pk__in=ids).values_list("pk", "method", "path")
    }


def _applications(ids: set[int]) -> Names:
    return dict(Application.objects.filter(pk__in=ids).values_list("pk", "name"))


def _plans(ids: set[int]) -> Names:
    return dict(Plan.objects.filter(pk__in=ids).values_list("pk", "name"))


def _outcomes(numbers: set[int]) -> Names:
    return {number: BY_NUMBER[number].title for number in numbers if number in BY_NUMBER}


def _methods(numbers: set[int]) -> Names:
    return {number: METHODS[number] or _("Other") for number in numbers if number < len(METHODS)}


def _classes(numbers: set[int]) -> Names:
    return {number: f"{number}xx" for number in numbers if number}


_READERS: Final[dict[str, Callable[[set[int]], Names]]] = {
    "version_id": _versions,
    "operation_id": _operations,
    "application_id": _applications,
    "plan_id": _plans,
    "outcome": _outcomes,
    "method": _methods,
    "status_class": _classes,
}
