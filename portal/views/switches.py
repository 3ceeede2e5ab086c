"""What the operator's pages have in common: a list to be searched, and a switch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _

from apimgr.core.errors import DomainError
from apimgr.core.paging import page_before
from portal.selectors import Viewer

R = TypeVar("R")


def listing(
    request: HttpRequest, find: Callable[[Viewer, str, str], QuerySet[Any]], states: Iterable[tuple[str, Any]]
) -> dict[str, Any]:
    """A page of what ``find`` finds, in the one of ``states`` that is asked for, as a template wants it."""
    choices = list(states)
    search, state = request.GET.get("q", "").strip()[:100], request.GET.get("state", "")
    state = state if state in dict(choices) else ""
    rows, older = page_before(find(request.user, search, state), request.GET.get("before", ""))
    return {
        "rows": rows,
        "older": older,
        "search": search,
        "state": state,
        "states": choices,
        "is_filtered": bool(search or state),
    }


def asked_move(request: HttpRequest, moves: Mapping[str, Callable[..., R]]) -> Callable[..., R]:
    """Which of ``moves`` is asked for. Raises ``DomainError``."""
    try:
        return moves[request.POST.get("move", "")]
    except KeyError:
        raise DomainError(_("There is no such move.")) from None
