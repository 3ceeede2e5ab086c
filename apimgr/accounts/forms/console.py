from __future__ import annotations

from datetime import datetime, timedelta

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from apimgr.accounts.models import Organisation, Role


def roles_of(organisation: Organisation) -> list[tuple[str, str]]:
    """The roles worth giving there: an organisation that owns no APIs has nothing to publish."""
    if organisation.is_publisher:
        return list(Role.choices)
    useful = {Role.ADMINISTRATOR, Role.DEVELOPER, Role.VIEWER}
    return [(value, label) for value, label in Role.choices if value in useful]


class InvitationForm(forms.Form):
    email = forms.EmailField(label=_("E-mail"), max_length=254)
    role = forms.ChoiceField(label=_("Role"))

    def __init__(self, *args: object, organisation: Organisation, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["role"].choices = roles_of(organisation)  # type: ignore[attr-defined]
        self.fields["role"].initial = Role.VIEWER if organisation.is_publisher else Role.DEVELOPER


class TokenForm(forms.Form):
    name = forms.CharField(
        label=_("Name"), max_length=80, help_text=_("What will use it, so that you know it again: “Deploy script”.")
    )
    days = forms.TypedChoiceField(
        label=_("Expires"),
        coerce=int,
        choices=[(30, _("In 30 days")), (90, _("In 90 days")), (365, _("In a year")), (0, _("Never"))],
        initial=90,
    )

    def expires_at(self) -> datetime | None:
        days = self.cleaned_data["days"]
        return timezone.now() + timedelta(days=days) if days else None


class ProfileForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=120, required=False, help_text=_("How colleagues see you."))
