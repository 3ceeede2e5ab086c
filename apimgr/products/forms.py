"""Forms of plans and limits.

There is at most one limit of a kind and period for the same calls. For all calls that makes a fixed grid of numbers;
limits of one operation or API have a number each, and a line to add one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from django import forms
from django.db.models import QuerySet
from django.utils.functional import cached_property
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from apimgr.catalog.models import Operation, Version, VersionState, Visibility
from apimgr.contracts.bounds import most
from apimgr.products.models import BaseLimit, Plan, WithoutGrantor
from apimgr.products.services import LimitTerms, terms_of

Window = tuple[str, str, Any]
PLAN_LIMITS: Final[tuple[Window, ...]] = (
    ("rate", "second", gettext_lazy("Calls per second")),
    ("rate", "minute", gettext_lazy("Calls per minute")),
    ("rate", "hour", gettext_lazy("Calls per hour")),
    ("rate", "day", gettext_lazy("Calls per day, smoothed")),
    ("quota", "day", gettext_lazy("Quota per day")),
    ("quota", "month", gettext_lazy("Quota per month")),
    ("quota", "billing", gettext_lazy("Quota per billing month")),
    ("concurrency", "none", gettext_lazy("Calls at once")),
)
#: A billing month begins with a subscription: limits for all callers together have none.
API_LIMITS: Final = tuple(window for window in PLAN_LIMITS if window[1] != "billing")
SUGGESTED: Final = 1_000  # operations a field proposes; it takes the others as well
_PLACE: Final = re.compile(r"(?:(?P<api>[^\s/]+)/(?P<version>\S+)\s+)?(?P<method>[A-Za-z]+)\s+(?P<path>/.*)")


class LimitsForm(forms.Form):
    """Empty means: no such limit. ``rows`` are the limits there are; ``versions`` is what one may be narrowed to.

    A narrowed limit that was not asked for, since it came after the page, stays.
    """

    windows: tuple[Window, ...] = PLAN_LIMITS
    takes_apis = True
    added: LimitTerms | None = None

    def __init__(
        self,
        data: Any = None,
        *,
        rows: Iterable[BaseLimit] = (),
        versions: QuerySet[Version] | None = None,
        initial: dict[str, Any] | None = None,
    ) -> None:
        rows = list(rows)
        super().__init__(data, initial={**limits_of(rows), **(initial or {})})
        self.versions = versions
        self.narrowed = {f"limit_{row.public_id}": row for row in rows if row.where}
        for kind, period, label in self.windows:
            self.fields[f"{kind}_{period}"] = _amount(label, kind, period)
        for name, row in self.narrowed.items():
            self.fields[name] = self._narrowed_field(row)
        if versions is not None:
            self._add_line()

    def _narrowed_field(self, row: BaseLimit) -> forms.IntegerField:
        words = next(label for kind, period, label in self.windows if (kind, period) == (row.kind, row.period))
        field = _amount(f"{row.where}: {str(words).lower()}", row.kind, row.period)
        field.initial = row.amount
        if not row.is_served:
            field.help_text = _(
                "The gateway serves no such operation now, so this holds nobody back. It holds again when the"
                " operation is back, and never for another."
            )
        return field

    def _add_line(self) -> None:
        assert self.versions is not None
        slugs = self.versions.values_list("api__slug", flat=True).order_by("api__slug").distinct()
        # Of one API alone, its limits are those for all calls.
        self.apis = list(slugs) if self.takes_apis and len(slugs) > 1 else []
        place = _("Operation or API") if self.apis else _("Operation")
        asks = {
            "list": "limit-places",
            "autocomplete": "off",
            "spellcheck": "false",
            "placeholder": _("Type or choose"),
        }
        self.fields["new_place"] = forms.CharField(
            label=place,
            required=False,
            max_length=600,
            widget=forms.TextInput(attrs={**asks, "class": "mono"}),
            help_text=_("Version, method and path, as in %(example)s.") % {"example": self._example()},
        )
        choices = [(f"{kind}_{period}", label) for kind, period, label in self.windows]
        self.fields["new_window"] = forms.ChoiceField(
            label=_("What is counted"), required=False, choices=choices, initial="rate_minute"
        )
        self.fields["new_amount"] = _amount(_("At most"), "quota", "month")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if self.versions is not None:
            self.added = self._added(data)
        return data

    def _added(self, data: dict[str, Any]) -> LimitTerms | None:
        """The line at the end as terms; ``None`` if it was left empty, or is wrong, which is then said beside it."""
        text, amount = data.get("new_place", ""), data.get("new_amount")
        if "new_amount" in self.errors or not (text or amount):
            return None
        if not amount:
            self.add_error("new_amount", _("Say how many calls."))
            return None
        kind, period = (data.get("new_window") or "rate_minute").split("_")
        if amount > most(kind, period):
            self.add_error("new_amount", _("At most %(most)s.") % {"most": f"{most(kind, period):,}"})
            return None
        place = self._place(text)
        if place is None:
            self.add_error("new_place", self._no_such_place(text))
            return None
        term = LimitTerms(kind, amount, period, *place)
        if term.place in {terms_of(row).place for row in self.narrowed.values()}:
            self.add_error("new_place", _("There is one for this already: change its number above."))
            return None
        return term

    def _place(self, text: str) -> tuple[int | None, int | None] | None:
        """The API's id or the operation's for what was written: ``orders/v1 POST /orders``, ``POST /orders`` if one
        version alone has it, or ``orders`` for the whole API."""
        assert self.versions is not None
        given = _PLACE.fullmatch(text.strip())
        if given is None:
            apis = self.versions.filter(api__slug=text.strip()).values_list("api", flat=True)
            found = apis.first() if self.takes_apis else None
            return None if found is None else (found, None)
        operations = _operations(self.versions).filter(method=given["method"].upper(), path=given["path"])
        if given["api"]:
            operations = operations.filter(version__api__slug=given["api"], version__name=given["version"])
        ids = list(operations.values_list("pk", flat=True)[:2])
        return (None, ids[0]) if len(ids) == 1 else None

    def _no_such_place(self, text: str) -> str:
        if not text:
            return _("Say for which operation. A limit for all calls goes into the fields above.")
        if _PLACE.fullmatch(text.strip()):
            return _("No such operation, or several versions have it. Write version, method and path as the list does.")
        return _("Not one of the list. Write version, method and path, such as orders/v1 POST /orders.")

    def _example(self) -> str:
        return next((place for place in self.places if " " in place), "orders/v1 POST /orders")

    @cached_property
    def places(self) -> list[str]:
        """What the line at the end proposes."""
        if self.versions is None:
            return []
        found = _operations(self.versions).order_by("version__api__slug", "-version", "path", "method")
        names = found.values_list("version__api__slug", "version__name", "method", "path")[:SUGGESTED]
        operations = [f"{api}/{version} {method} {path}" for api, version, method, path in names]
        return [*self.apis, *operations]

    @property
    def limit_fields(self) -> list[forms.BoundField]:
        return [self[f"{kind}_{period}"] for kind, period, _label in self.windows]

    @property
    def narrowed_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.narrowed]

    @property
    def new_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("new_place", "new_window", "new_amount")] if self.versions is not None else []

    @property
    def terms(self) -> list[LimitTerms]:
        given = ((kind, self.cleaned_data.get(f"{kind}_{period}"), period) for kind, period, _label in self.windows)
        terms = [LimitTerms(kind, amount, period) for kind, amount, period in given if amount]
        for name, row in self.narrowed.items():
            amount = self.cleaned_data.get(name) if name in self.data else row.amount
            if amount:
                terms.append(terms_of(row)._replace(amount=amount))
        return [*terms, self.added] if self.added else terms


class ApiLimitsForm(LimitsForm):
    windows = API_LIMITS
    takes_apis = False


class PlanForm(LimitsForm):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=60)
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=200,
        required=False,
        help_text=gettext_lazy("One line, shown beside the limits."),
    )
    requires_approval = forms.BooleanField(
        label=gettext_lazy("Ask before granting access"),
        required=False,
        help_text=gettext_lazy("Requests wait in your approval queue."),
    )
    is_internal = forms.BooleanField(
        label=gettext_lazy("Internal"),
        required=False,
        help_text=gettext_lazy("Never offered in the portal; you grant it."),
    )
    counts_failures = forms.BooleanField(
        label=gettext_lazy("Count failed calls against quotas"),
        required=False,
        initial=True,
        help_text=gettext_lazy(
            "Calls that the upstream failed: no answer, or 5xx. They always count against rates. What the gateway"
            " refuses never counts."
        ),
    )
    without_grantor = forms.ChoiceField(
        label=gettext_lazy("When gateways cannot check what they share"),
        choices=WithoutGrantor.choices,
        initial=WithoutGrantor.OPEN,
        required=False,
        widget=forms.RadioSelect,
        help_text=gettext_lazy(
            "Several gateway hosts count together. While they cannot, each goes on by what it knows, or refuses calls"
            " that a limit holds for."
        ),
    )

    OWN: Final = ("name", "description", "requires_approval", "is_internal")
    RULES: Final = ("counts_failures", "without_grantor")

    @property
    def own_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.OWN]

    @property
    def rule_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in self.RULES]

    @property
    def own_data(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in (*self.OWN, *self.RULES)}

    def clean_without_grantor(self) -> str:
        """Nothing sent changes nothing: a plan that refuses must not open by an oversight."""
        return str(self.cleaned_data["without_grantor"] or self["without_grantor"].initial)


class AccessForm(LimitsForm):
    """The wizard's step: who finds the API, and the limits of its one plan."""

    visibility = forms.ChoiceField(
        label=gettext_lazy("Who finds it"), choices=Visibility.choices, widget=forms.RadioSelect
    )


def limits_of(rows: Plan | Iterable[BaseLimit]) -> dict[str, Any]:
    """The limits for all calls, as the grid's fields have them."""
    found: Iterable[BaseLimit] = rows.limits.all() if isinstance(rows, Plan) else rows
    return {f"{row.kind}_{row.period}": row.amount for row in found if not row.where}


def _amount(label: Any, kind: str, period: str) -> forms.IntegerField:
    widget = forms.NumberInput(attrs={"inputmode": "numeric"})
    return forms.IntegerField(label=label, min_value=1, max_value=most(kind, period), required=False, widget=widget)


def _operations(versions: QuerySet[Version]) -> QuerySet[Operation]:
    live = versions.exclude(state=VersionState.RETIRED)
    return Operation.objects.filter(version__in=live, is_current=True)
