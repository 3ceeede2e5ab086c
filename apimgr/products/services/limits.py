"""What a limit may be, and how a plan's or an API's limits are replaced. Knows no plan and no API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from django.db.models import QuerySet
from django.utils.translation import gettext as _

from apimgr.catalog.models import Operation, Version
from apimgr.contracts.bounds import MAX_LIMITS, most
from apimgr.core.errors import DomainError
from apimgr.products.models import BaseLimit, LimitKind, LimitPeriod

Periods = Mapping[LimitKind, tuple[LimitPeriod, ...]]
_RATES: Final = (LimitPeriod.SECOND, LimitPeriod.MINUTE, LimitPeriod.HOUR, LimitPeriod.DAY)
PLAN_PERIODS: Final[Periods] = {
    LimitKind.RATE: _RATES,
    LimitKind.QUOTA: (LimitPeriod.DAY, LimitPeriod.MONTH, LimitPeriod.BILLING),
    LimitKind.CONCURRENCY: (LimitPeriod.NONE,),
}
#: A billing month begins with a subscription, and an API has none of its own.
API_PERIODS: Final[Periods] = {**PLAN_PERIODS, LimitKind.QUOTA: (LimitPeriod.DAY, LimitPeriod.MONTH)}


class LimitTerms(NamedTuple):
    """One limit as given: ``LimitTerms("rate", 60, "minute")``. A plain tuple will do."""

    kind: str
    amount: int
    period: str = LimitPeriod.NONE.value
    api_id: int | None = None
    operation_id: int | None = None

    @property
    def place(self) -> tuple[str, str, int | None, int | None]:
        """There is one limit at most in each place."""
        return self.kind, self.period, self.api_id, self.operation_id


Fact = list[str | int]
Given = Sequence[LimitTerms | tuple[str, int, str]]


class _Rows(Protocol):
    """The limits of one plan or API: what Django's related manager can do."""

    def all(self) -> QuerySet[Any]: ...

    def create(self, **fields: Any) -> BaseLimit: ...


def check_limits(limits: Given, periods: Periods = PLAN_PERIODS) -> list[LimitTerms]:
    """The limits as terms, or a ``DomainError`` that says which one is wrong and why."""
    terms = [LimitTerms(*limit) for limit in limits]
    if len(terms) > MAX_LIMITS:
        counts = {"count": len(terms), "most": MAX_LIMITS}
        raise refused(_("These are %(count)d limits; there can be %(most)d.") % counts, fix=_("Leave some out."))
    seen = set()
    for term in terms:
        _check(term, periods)
        if term.place in seen:
            raise refused(_("There are two limits of “%(words)s” for the same calls.") % {"words": _window(term)})
        seen.add(term.place)
    return terms


def _check(term: LimitTerms, periods: Periods) -> None:
    if term.kind not in LimitKind.values:
        raise refused(_("A limit is a rate, a quota or a concurrency, not “%(kind)s”.") % {"kind": term.kind})
    allowed = periods[LimitKind(term.kind)]
    if term.period not in allowed:
        if term.kind == LimitKind.CONCURRENCY:
            raise refused(_("A concurrency has no period: it is how many calls may be under way at once."))
        words = {"kind": term.kind, "periods": _(" or ").join(allowed), "period": term.period}
        raise refused(_("A %(kind)s counts per %(periods)s, not per %(period)s.") % words)
    highest = most(term.kind, term.period)
    if not 1 <= term.amount <= highest:
        raise refused(
            _("A limit of “%(words)s” allows at least 1 call and at most %(most)s.")
            % {"words": _window(term), "most": f"{highest:,}"}
        )
    if term.api_id is not None and term.operation_id is not None:
        raise refused(_("A limit is narrowed to an API or to an operation, not to both."))


def check_places(terms: Iterable[LimitTerms], kept: Iterable[BaseLimit], versions: QuerySet[Version]) -> None:
    """Refuse a limit of an API or operation that ``versions`` do not have. What is there already may stay: an
    operation that a document has lost keeps its limit, for when it comes back."""
    held = {terms_of(row).place for row in kept}
    new = [term for term in terms if term.place not in held]
    apis = {term.api_id for term in new if term.api_id is not None}
    operations = {term.operation_id for term in new if term.operation_id is not None}
    if apis - set(versions.filter(api__in=apis).values_list("api", flat=True)):
        raise refused(_("The product has no version of this API."), fix=_("Choose an API of the product."))
    found = Operation.objects.filter(pk__in=operations, version__in=versions, is_current=True)
    if len(operations) != found.count():
        raise refused(
            _("There is no such operation in the present definition of any version here."),
            fix=_("Choose one of the operations that the definition has."),
        )


def replace_limits(rows: _Rows, terms: Iterable[LimitTerms]) -> tuple[list[Fact], list[Fact]]:
    """Make ``rows`` say what ``terms`` say; what was there before and after, for the audit trail.

    A limit that stays in its place keeps its id, and with it what callers have used.
    """
    known = {terms_of(row).place: row for row in rows.all()}
    before = [_fact(row) for row in known.values()]
    for term in terms:
        row = known.pop(term.place, None)
        if row is None:
            rows.create(**{name: value for name, value in term._asdict().items() if value is not None})
        elif row.amount != term.amount:
            row.amount = term.amount
            row.save(update_fields=["amount"])
    rows.all().filter(pk__in=[row.pk for row in known.values()]).delete()
    return before, [_fact(row) for row in rows.all()]


def terms_of(row: BaseLimit) -> LimitTerms:
    return LimitTerms(row.kind, row.amount, row.period, row.narrowed_api_id, row.operation_id)


def refused(message: str, fix: str = "") -> DomainError:
    return DomainError(message, code="limit_invalid", fix=fix, fields={"limits": message})


def _fact(row: BaseLimit) -> Fact:
    return [row.kind, row.amount, row.period, *([row.where] if row.where else [])]


def _window(term: LimitTerms) -> str:
    """A kind and a period as audit trails and REST write them: ``rate per minute``."""
    return term.kind if term.kind == LimitKind.CONCURRENCY else f"{term.kind} per {term.period}"
