"""Forms of plans. A plan has at most one limit of a kind per period, so its limits are a fixed grid of numbers."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from apimgr.catalog.models import Visibility
from apimgr.products.models import Plan
from apimgr.products.services import LimitTerms

LIMITS: Final = (
    ("rate", "second", _("Calls per second")),
    ("rate", "minute", _("Calls per minute")),
    ("rate", "hour", _("Calls per hour")),
    ("rate", "day", _("Calls per day, smoothed")),
    ("quota", "day", _("Quota per day")),
    ("quota", "month", _("Quota per month")),
)


class LimitsForm(forms.Form):
    """Empty means: no such limit."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for kind, period, label in LIMITS:
            widget = forms.NumberInput(attrs={"inputmode": "numeric"})
            self.fields[f"{kind}_{period}"] = forms.IntegerField(
                label=label, min_value=1, required=False, widget=widget
            )

    @property
    def limit_fields(self) -> list[forms.BoundField]:
        return [self[f"{kind}_{period}"] for kind, period, _label in LIMITS]

    @property
    def terms(self) -> list[LimitTerms]:
        given = ((kind, self.cleaned_data.get(f"{kind}_{period}"), period) for kind, period, _label in LIMITS)
        return [LimitTerms(kind, amount, period) for kind, amount, period in given if amount]


class PlanForm(LimitsForm):
    name = forms.CharField(label=_("Name"), max_length=60)
    description = forms.CharField(
        label=_("Description"), max_length=200, required=False, help_text=_("One line, shown beside the limits.")
    )
    requires_approval = forms.BooleanField(
        label=_("Ask before granting access"), required=False, help_text=_("Requests wait in your approval queue.")
    )
    is_internal = forms.BooleanField(
        label=_("Internal"), required=False, help_text=_("Never offered in the portal; you grant it.")
    )

    @property
    def own_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in ("name", "description", "requires_approval", "is_internal")]

    @property
    def own_data(self) -> dict[str, Any]:
        return {field.name: self.cleaned_data[field.name] for field in self.own_fields}


class AccessForm(LimitsForm):
    """The wizard's step: who finds the API, and the limits of its one plan."""

    visibility = forms.ChoiceField(label=_("Who finds it"), choices=Visibility.choices, widget=forms.RadioSelect)


def limits_of(plan: Plan) -> dict[str, Any]:
    return {f"{limit.kind}_{limit.period}": limit.amount for limit in plan.limits.all()}
