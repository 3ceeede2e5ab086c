"""What product owners fill in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apimgr.products.models import Limit, LimitKind, LimitPeriod, Plan
from apimgr.products.services import LimitTerms


class PlanForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=60)
    description = forms.CharField(label=_("Description"), max_length=200, required=False)
    requires_approval = forms.BooleanField(
        label=_("Ask before access"), required=False, help_text=_("A publisher decides on each subscription.")
    )
    is_internal = forms.BooleanField(
        label=_("Internal"), required=False, help_text=_("Not offered in the portal; a publisher grants it.")
    )


class LimitForm(forms.Form):
    """One row; left empty it is no limit."""

    kind = forms.ChoiceField(label=_("Kind"), choices=LimitKind.choices)
    amount = forms.IntegerField(label=_("Calls"), min_value=1, required=False)
    period = forms.ChoiceField(label=_("per"), choices=LimitPeriod.choices, initial=LimitPeriod.MINUTE)


class BaseLimitFormSet(forms.BaseFormSet):  # type: ignore[type-arg]
    def terms(self) -> list[LimitTerms]:
        """The rows that say something, for ``create_plan`` and ``change_limits``."""
        rows: list[dict[str, Any]] = [form.cleaned_data for form in self.forms if form not in self.deleted_forms]
        return [LimitTerms(row["kind"], row["amount"], row["period"]) for row in rows if row.get("amount")]


LimitFormSet = forms.formset_factory(LimitForm, formset=BaseLimitFormSet, extra=1, max_num=8, can_delete=True)


def limits_as_initial(plan: Plan) -> list[dict[str, Any]]:
    """A plan's limits as ``initial`` of a ``LimitFormSet``."""
    limits: list[Limit] = list(plan.limits.all())
    return [{"kind": limit.kind, "amount": limit.amount, "period": limit.period} for limit in limits]
