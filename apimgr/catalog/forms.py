"""What publishers fill in. A form checks its fields; the service it is for has the last word."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext_lazy as _

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.models import Organisation, User
from apimgr.catalog import services
from apimgr.catalog.models import API, Specification, SpecificationSource, Visibility
from apimgr.catalog.openapi.syntax import MAX_BYTES


class ApiForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=120)
    summary = forms.CharField(
        label=_("Summary"), max_length=200, required=False, help_text=_("One line in the portal.")
    )
    description = forms.CharField(
        label=_("Description"), required=False, widget=forms.Textarea, help_text=_("Markdown.")
    )
    visibility = forms.ChoiceField(label=_("Visibility"), choices=Visibility.choices, initial=Visibility.PUBLIC)


class NewApiForm(ApiForm):
    """With the owner to choose when the viewer publishes for several organisations; ``cleaned_data["organisation"]``
    is always there."""

    organisation = forms.ModelChoiceField(label=_("Organisation"), queryset=Organisation.objects.none())

    def __init__(self, *args: Any, viewer: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["organisation"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = organisations_for(viewer, Permission.API_EDIT).order_by("name")
        owners = list(field.queryset[:2])
        if len(owners) == 1:
            field.initial, field.widget = owners[0], forms.HiddenInput()


class VersionForm(forms.Form):
    name = forms.CharField(label=_("Version"), max_length=40, initial="v1", help_text=_("Such as v1 or 2024-10-01."))


class SpecificationForm(forms.Form):
    """A document by file, by address or pasted: exactly one of the three. ``load`` hands it to the right service."""

    file = forms.FileField(label=_("File"), required=False, help_text=_("OpenAPI 2.0, 3.0 or 3.1, up to 20 MiB."))
    url = forms.CharField(label=_("URL"), max_length=500, required=False)
    text = forms.CharField(label=_("Document"), required=False, strip=False, widget=forms.Textarea)

    def clean_file(self) -> UploadedFile[bytes] | None:
        file: UploadedFile[bytes] | None = self.cleaned_data["file"]
        if file is not None and (file.size or 0) > MAX_BYTES:
            raise forms.ValidationError(_("The file is larger than 20 MiB."), code="document_too_large")
        return file

    def clean(self) -> dict[str, Any]:
        given = [name for name in ("file", "url", "text") if self.cleaned_data.get(name)]
        if not given and not self.errors:
            raise forms.ValidationError(_("Choose a file, give a URL or paste the document."))
        if len(given) > 1:
            raise forms.ValidationError(_("Give the document in one way only."))
        return self.cleaned_data

    def load(self, *, actor: User, api: API) -> Specification:
        """Import what was given. Raises ``DomainError`` with a sentence to show."""
        file, url = self.cleaned_data["file"], self.cleaned_data["url"]
        if url:
            return services.fetch_specification(actor=actor, api=api, url=url.strip())
        content = file.read() if file else self.cleaned_data["text"].encode()
        source = SpecificationSource.UPLOAD if file else SpecificationSource.PASTE
        name = (file.name or "") if file else ""
        return services.import_specification(actor=actor, api=api, content=content, source=source, filename=name)


class RouteForm(forms.Form):
    base_path = forms.CharField(
        label=_("Path"), max_length=200, help_text=_("Where callers find it, such as /orders/v1.")
    )
    host = forms.CharField(label=_("Host"), max_length=253, required=False, help_text=_("Empty for every host."))


class UpstreamForm(forms.Form):
    url = forms.CharField(
        label=_("Address"), max_length=500, help_text=_("Where calls go, such as https://api.example.")
    )
    connect_timeout_ms = forms.IntegerField(label=_("Connect within, ms"), min_value=1, max_value=60_000, initial=5_000)
    read_timeout_ms = forms.IntegerField(label=_("Answer within, ms"), min_value=1, max_value=600_000, initial=30_000)
    preserve_host = forms.BooleanField(
        label=_("Send the caller's Host"), required=False, help_text=_("Otherwise the upstream's own name is sent.")
    )


class DeprecationForm(forms.Form):
    sunset_on = forms.DateField(
        label=_("Sunset"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("The day it is meant to be retired. Callers are told."),
    )

    @property
    def sunset_at(self) -> datetime | None:
        """The beginning of the day, UTC."""
        day = self.cleaned_data["sunset_on"]
        return datetime.combine(day, time(), UTC) if day else None
