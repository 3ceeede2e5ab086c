"""What was published of a version, how it differs from what is live, and the way back to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_GET, require_POST

from apimgr.catalog import services
from apimgr.catalog.differences import Difference, differences
from apimgr.catalog.forms import GatewayForm
from apimgr.catalog.models import Revision, Version
from apimgr.catalog.selectors import revision_of, revisions_of, version_for
from apimgr.catalog.services.publication import whole_of
from apimgr.catalog.views.shared import permissions, person
from apimgr.core.errors import DomainError, NotAllowed, NotFound

PER_PAGE: Final = 10
SHOWN: Final = 200  # differences; another document may change thousands of operations
# What no field of the form is called.
_LABELS: Final = {
    "document": gettext_lazy("Document"),
    "operations": gettext_lazy("Operation"),
    "gateway.upgrades": gettext_lazy("Protocols to switch to"),
}

Told = tuple[str, str, str]


@login_required
@require_GET
def revision_list(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    version = version_for(person(request), slug, name)
    page = Paginator(revisions_of(version), PER_PAGE).get_page(request.GET.get("page"))
    context = {
        **_frame(request, version),
        "page": page,
        "rows": _with_changes(version, list(page.object_list)),
        "pending": told(services.pending_changes(version)),
        "is_restored": "restored" in request.GET,
        "shown": SHOWN,
    }
    return render(request, "catalog/revisions.html", context)


@login_required
@require_GET
def revision(request: HttpRequest, slug: str, name: str, number: int) -> HttpResponse:
    """A revision beside what is live: what rolling back to it would change, and what is in its way."""
    version = version_for(person(request), slug, name)
    return _revision_page(request, version, number)


@login_required
@require_POST
def restore(request: HttpRequest, slug: str, name: str, number: int) -> HttpResponse:
    """Roll back, or say on the revision's page why it cannot be."""
    user = person(request)
    version = version_for(user, slug, name)
    try:
        services.restore_revision(actor=user, version=version, number=number, instead_of=_seen(request))
    except (NotAllowed, NotFound):
        raise
    except DomainError as error:
        return _revision_page(request, version, number, error)
    return redirect(f"{reverse('catalog:version-revisions', args=[slug, name])}?restored")


def _seen(request: HttpRequest) -> int:
    """The number of the revision that was live when the page was made; 0, which none has, if it does not say."""
    given = request.POST.get("instead_of", "")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else 0


def _revision_page(
    request: HttpRequest, version: Version, number: int, refusal: DomainError | None = None
) -> HttpResponse:
    found = revision_of(version, number)
    changes = services.changes_from_live(found)
    context = {
        **_frame(request, version),
        "revision": found,
        "changes": told(changes),
        "shown": SHOWN,
        "problems": services.restore_problems(found) if changes else [],
        "keeps_draft": bool(changes and services.pending_changes(version)),
        "refusal": refusal,
    }
    return render(request, "catalog/revision.html", context, status=refusal.status if refusal else 200)


def _frame(request: HttpRequest, version: Version) -> dict[str, Any]:
    may = permissions(person(request), version.api)
    return {"api": version.api, "version": version, "live": version.deployed_revision, **may}


def _with_changes(version: Version, rows: list[Revision]) -> list[tuple[Revision, list[Told] | None]]:
    """Each with how it differs from the one before it; ``None`` for the first."""
    if not rows:
        return []
    earlier = revisions_of(version).filter(number__lt=rows[-1].number).first()
    return [
        (row, told(differences(whole_of(before), whole_of(row))) if before else None)
        for row, before in zip(rows, [*rows[1:], earlier], strict=True)
    ]


def told(changes: Iterable[Difference]) -> list[Told]:
    """In the words of the form on which it is set: what it is, what it was, what it is after."""
    return [
        (_label(change.part), _text(change.part, change.before), _text(change.part, change.after)) for change in changes
    ]


def _label(part: str) -> str:
    field = GatewayForm.base_fields.get(part.rpartition(".")[2])
    return str(_LABELS.get(part) or (field.label if field else part))


def _text(part: str, value: Any) -> str:
    field: Any = GatewayForm.base_fields.get(part.rpartition(".")[2])
    match value:
        case None | "" | []:
            return "–"
        case bool():
            return _("Yes") if value else _("No")
        case list():
            return ", ".join(map(str, value))
    choices = dict(getattr(field, "choices", ()))
    return str(choices.get(value, field.prepare_value(value) if field else value))
