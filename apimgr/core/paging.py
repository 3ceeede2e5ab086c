from __future__ import annotations

from contextlib import suppress
from typing import TypeVar

from django.db.models import QuerySet

from apimgr.core.ids import Entity, decode_id

E = TypeVar("E", bound=Entity)


def page_before(rows: QuerySet[E], before: str, size: int = 50) -> tuple[list[E], str]:
    """``size`` rows, newest first, older than the id ``before``; and the id to ask with for the next ones, or ``""``.

    By id, not by number: nothing moves from page to page while new rows come in. A ``before`` that is no id is none.
    """
    with suppress(ValueError):
        rows = rows.filter(pk__lt=decode_id(before))
    found = list(rows.order_by("-id")[: size + 1])
    return found[:size], found[size - 1].public_id if len(found) > size else ""
