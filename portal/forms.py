from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from apimgr.core.errors import DomainError
from apimgr.products.models import Plan
from portal.models import Application


class ApplicationForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("What your users or colleagues know it by."))
    description = forms.CharField(label=_("Description"), max_length=300, required=False)


class KeyForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("Where it is used: production, laptop, CI."))


class RollForm(forms.Form):
    """For how long the present key works on beside the new one."""

    OVERLAPS = (("0", _("now")), ("3600", _("in 1 hour")), ("86400", _("in 24 hours")), ("604800", _("in 7 days")))
    overlap = forms.ChoiceField(label=_("The old key stops"), choices=OVERLAPS, initial="86400")

    def clean_overlap(self) -> timedelta:
        return timedelta(seconds=int(self.cleaned_data["overlap"]))


class ExpiryForm(forms.Form):
    expires_at = forms.DateTimeField(
        label=_("Ends"),
        required=False,
        input_formats=["%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d"],
        help_text=_("A date and time in UTC; empty for no end."),
    )


class AccessForm(forms.Form):
    """Which plan, and for which application where there is more than one."""

    plan = forms.ModelChoiceField(Plan.objects.none(), label=_("Plan"))
    application = forms.ModelChoiceField(
        Application.objects.none(), label=_("Application"), required=False, empty_label=_("A new one: My first app")
    )

    def __init__(self, *args: Any, plans: Any, applications: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.plans, self.applications = list(plans), list(applications)
        plan, application = self.fields["plan"], self.fields["application"]
        assert isinstance(plan, forms.ModelChoiceField)
        assert isinstance(application, forms.ModelChoiceField)
        plan.queryset, application.queryset = plans, applications
        if self.applications:
            application.required, application.empty_label = True, None


def add_error(form: forms.Form, error: DomainError) -> None:
    """A service's refusal, beside the field it belongs to or above the form."""
    fields = {name: text for name, text in error.fields.items() if name in form.fields}
    for name, text in fields.items():
        form.add_error(name, text)
    if not fields:
        form.add_error(None, " ".join(part for part in (error.message, error.fix) if part))
