"""The request log: the one reader of calls themselves. Newest first, page by page along the keys, never by offset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q
from django.utils.translation import gettext as _

from analytics.models import UsageEvent
from analytics.selectors import scope
from analytics.selectors.labels import labels
from apimgr.accounts.models import User
from apimgr.audit.models import AuditEntry
from apimgr.catalog.models import API
from apimgr.contracts.outcomes import BY_CODE
from apimgr.contracts.usage import FLAG_OLD_SECRET
from apimgr.core.errors import DomainError, NotFound
from apimgr.core.ids import encode_id
from apimgr.products.models import Product
from portal.models import Application

PAGE: Final = 50
MAX_PAGE: Final = 200
# A request id holds its own time, to the millisecond, by the same clock as ``started_at``.
_SLACK: Final = timedelta(seconds=5)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for; empty fields let everything through. ``before`` is the cursor of the last row read."""

    application_id: int | None = None
    version_id: int | None = None
    operation_id: int | None = None
    credential_id: int | None = None
    outcome: str = ""
    status: str = ""  # "404", or "4" and "4xx" for the class
    since: datetime | None = None
    before: str = ""
    limit: int = PAGE

    def condition(self) -> Q:
        ids = ("application_id", "version_id", "operation_id", "credential_id")
        found = Q(**{name: getattr(self, name) for name in ids if getattr(self, name) is not None})
        if self.outcome:
            found &= _outcome(self.outcome)
        if self.status:
            found &= _status(self.status)
        if self.since:
            found &= Q(started_at__gte=self.since)
        return found & _older(self.before) if self.before else found


@dataclass(frozen=True, slots=True)
class Page:
    events: list[UsageEvent]
    next: str = ""
    names: dict[str, dict[int, str]] = field(default_factory=dict)


def of_apis(viewer: User, search: Search, api: API | None = None) -> Page:
    """Calls of the APIs ``viewer`` looks after, or of one of them, those without a known key included."""
    seen = scope.apis(viewer) if api is None else scope.apis(viewer).filter(pk=api.pk)
    return _page("api_id", list(seen.values_list("pk", flat=True)), search)


def of_application(viewer: User, application: Application, search: Search) -> Page:
    """Calls that came with a key of one of ``viewer``'s own applications, refused ones included."""
    return _page("application_id", [scope.application(viewer, application.pk).pk], search)


def of_applications(viewer: User, search: Search) -> Page:
    """Calls that came with a key of any of ``viewer``'s own applications."""
    return _page("application_id", list(scope.applications(viewer).values_list("pk", flat=True)), search)


def of_credential(viewer: User, credential_id: int, limit: int = 1) -> list[UsageEvent]:
    """The last calls with one key of ``viewer``'s."""
    credential = scope.credential(viewer, credential_id)
    mine = UsageEvent.objects.filter(application_id=credential.application_id, credential_id=credential.pk)
    # A key is not older than itself: the bound keeps older partitions shut.
    return list(mine.filter(started_at__gte=credential.created_at - _SLACK).order_by("-started_at")[:limit])


def one(viewer: User, request_id: UUID) -> UsageEvent:
    """One call, for the owners of its API and of its application and for nobody else.

    Where the upstream is, is for those alone who look after the API.
    """
    at = moment(request_id)
    near = UsageEvent.objects.filter(started_at__range=(at - _SLACK, at + _SLACK), request_id=request_id)
    seen = Q(api_id__in=scope.apis(viewer).values("pk")) | Q(application_id__in=scope.applications(viewer).values("pk"))
    event = near.filter(seen).first()
    if event is None:
        raise NotFound(
            _("No call with this request id, or none of yours."),
            fix=_("Calls are kept for a limited time; check the id for a missing character."),
        )
    if not scope.apis(viewer).filter(pk=event.api_id).exists():
        event.trail = _without_hosts(event.trail)
    event.trail = _with_ids(event.trail)
    return event


def _with_ids(trail: Any) -> Any:
    """A trail with the operation's id as it is elsewhere outside."""
    match trail:
        case [*_]:
            return [_with_id(step) for step in trail]
        case _:
            return trail


def _with_id(step: Any) -> Any:
    match step:
        case {"step": "operation", "id": str(number)} if number.isdecimal():
            return {**step, "id": encode_id(int(number))}
        case _:
            return step


def _without_hosts(trail: Any) -> Any:
    """A trail without where upstreams are. One that is no list of steps (of earlier gateways, cut) is left out."""
    if not isinstance(trail, list):
        return None
    return [
        {name: value for name, value in step.items() if name != "host"} if isinstance(step, dict) else step
        for step in trail
    ]


def reason(trail: Any) -> str:
    """What the last step said: why the call was refused, or how it ended."""
    match trail:
        case [*_, {"step": "refused" | "ended", "detail": str(detail)}]:
            return detail
        case _:
            return ""


def product_of(event: UsageEvent) -> str:
    """The product whose plan the call was made on; both who sells and who bought it know it."""
    return Product.objects.filter(plans=event.plan_id).values_list("name", flat=True).first() or ""


def key_end(viewer: User, event: UsageEvent) -> str:
    """How the secret of the call ends; empty if ``viewer`` may not know, or if it was rolled away since."""
    credential = scope.recognisable(viewer, event.credential_id)
    since = AuditEntry.objects.filter(target_id=event.credential_id, created_at__gt=event.started_at)
    if credential is None or since.filter(action="portal.credential.rolled").exists():
        return ""
    return credential.former_last4 if event.flags & FLAG_OLD_SECRET else credential.last4


def names_of(events: Sequence[UsageEvent]) -> dict[str, dict[int, str]]:
    """Names for what the events point to, one query per kind however many they are."""
    kinds = ("version_id", "operation_id", "application_id")
    return {kind: dict(labels(kind, {getattr(event, kind) for event in events})) for kind in kinds if events}


def moment(request_id: UUID) -> datetime:
    """The time a UUIDv7 was made at; the epoch for any other."""
    milliseconds = request_id.int >> 80 if request_id.version == 7 else 0
    try:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return datetime(1970, 1, 1, tzinfo=UTC)


def cursor_of(event: UsageEvent) -> str:
    return f"{round(event.started_at.timestamp() * 1_000_000)}-{event.request_id}"


def _page(column: str, ids: Sequence[int], search: Search) -> Page:
    """The newest rows of each id, merged: one walk along (id, time) each, so reading does not grow with the log."""
    limit = max(1, min(search.limit, MAX_PAGE))
    condition, order = search.condition(), ("-started_at", "-request_id")
    walks = [UsageEvent.objects.filter(condition, **{column: pk}).order_by(*order)[: limit + 1] for pk in ids]
    if not walks:
        return Page([])
    found = list(walks[0].union(*walks[1:], all=True).order_by(*order)[: limit + 1] if walks[1:] else walks[0])
    events = found[:limit]
    return Page(events, cursor_of(events[-1]) if len(found) > limit else "", names_of(events))


def _older(cursor: str) -> Q:
    micros, _dash, request_id = cursor.partition("-")
    try:
        at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(micros))
        last = UUID(request_id)
    except (ValueError, OverflowError):
        raise _bad("cursor", _("The cursor is not one this list gave out.")) from None
    # The first condition alone lets the index find its place.
    return Q(started_at__lte=at) & (Q(started_at__lt=at) | Q(request_id__lt=last))


def _outcome(code: str) -> Q:
    if code == "refused":
        return Q(outcome__in=[outcome.number for outcome in BY_CODE.values() if outcome.refusal], upstream_us=0)
    if code not in BY_CODE:
        raise _bad("outcome", _("There is no outcome %(code)s.") % {"code": code})
    return Q(outcome=BY_CODE[code].number)


def _status(text: str) -> Q:
    digits = text.removesuffix("xx")
    if digits.isascii() and digits.isdigit() and len(digits) == 1:
        return Q(status__gte=int(digits) * 100, status__lt=int(digits) * 100 + 100)
    if digits == text and text.isascii() and text.isdigit() and len(text) == 3:
        return Q(status=int(text))
    raise _bad("status", _("A status is three digits, such as 404, or a class, such as 4xx."))


def _bad(name: str, sentence: str) -> DomainError:
    return DomainError(sentence, fields={name: sentence})


def as_row(event: UsageEvent, names: dict[str, dict[int, str]]) -> dict[str, Any]:
    """An event with its names, for tables."""
    operation = names["operation_id"].get(event.operation_id, "") if event.operation_id else ""
    return {
        "event": event,
        "version": names["version_id"].get(event.version_id, "") if event.version_id else "",
        "operation": operation,
        "operation_path": operation.partition(" ")[2],
        "application": names["application_id"].get(event.application_id, "") if event.application_id else "",
        "cursor": cursor_of(event),
    }
