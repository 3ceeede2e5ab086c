"""The console's forms. What they check is only their own shape: services know the rules and their errors come back."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import (
    API,
    Authentication,
    GatewaySettings,
    SelectBy,
    SpecificationSource,
    UnknownOperation,
    Version,
    VersionState,
    Visibility,
    WhenUnrecordable,
)
from apimgr.contracts.bounds import BOUNDS
from apimgr.core.errors import DomainError
from apimgr.core.forms import SizeField

# Which field of a source form a source is read from; its errors belong there, too.
FIELD_OF: Final = {"upload": "document", "paste": "text", "url": "url"}
# Where a service's name for an input is not the form's.
_ALSO: Final = {"upgrades": "other_upgrades"}
WEBSOCKET: Final = "websocket"


def _within(name: str) -> dict[str, Any]:
    least, most = BOUNDS[name]
    return {"min_value": least, "max_value": most}


def show(form: forms.BaseForm, error: DomainError, field: str | None = None) -> None:
    """Put a service's refusal where the person looks: beside the fields it names, else at ``field``, else on top."""
    fields = {_ALSO.get(name, name): message for name, message in error.fields.items()}
    named = {name: message for name, message in fields.items() if name in form.fields}
    for name, message in named.items():
        form.add_error(name, message)
    if not named:
        form.add_error(field, " ".join(part for part in (error.message, error.fix) if part))


class SourceForm(forms.Form):
    """An OpenAPI document: a file, pasted text or an address."""

    source = forms.ChoiceField(choices=SpecificationSource.choices, initial="upload", widget=forms.RadioSelect)
    document = forms.FileField(
        label=_("OpenAPI document"),
        required=False,
        help_text=_("OpenAPI 3.1, 3.0 or Swagger 2.0; JSON or YAML; up to 20 MB."),
        widget=forms.FileInput(attrs={"accept": ".json,.yaml,.yml,application/json,application/yaml"}),
    )
    text = forms.CharField(
        label=_("Pasted document"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 14, "class": "code-input", "spellcheck": "false"}),
    )
    url = forms.CharField(
        label=_("Address of the document"),
        required=False,
        help_text=_("Fetched once, now, by this server. Private addresses are refused."),
        widget=forms.URLInput(attrs={"placeholder": "https://example.com/openapi.yaml"}),
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        field = FIELD_OF.get(data.get("source", ""), "document")
        missing = {
            "document": _("Choose a file."),
            "text": _("Paste the document here."),
            "url": _("Give the document's address."),
        }
        if field not in self.errors and not data.get(field):
            self.add_error(field, missing[field])
        return data

    @property
    def field(self) -> str:
        return FIELD_OF[self.cleaned_data["source"]]


class NewApiForm(SourceForm):
    name = forms.CharField(
        label=_("Name"),
        max_length=120,
        required=False,
        help_text=_("Empty takes the document's own title; for a URL, its host."),
    )
    version = forms.CharField(label=_("Version"), max_length=40, initial="v1")
    organisation = forms.ModelChoiceField(
        label=_("Organisation"), queryset=Organisation.objects.none(), to_field_name="slug"
    )

    def __init__(self, *args: Any, organisations: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["organisation"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = organisations
        field.empty_label = None
        if len(organisations) == 1:
            field.widget = forms.HiddenInput()
        field.initial = organisations[0].slug if organisations else None


class NewVersionForm(SourceForm):
    name = forms.CharField(
        label=_("Version"),
        max_length=40,
        help_text=_("Lives beside the others at an address of its own: v2, 2026-04-01."),
    )


class AddressForm(forms.Form):
    """Where callers find a version, and where its calls go."""

    base_path = forms.CharField(
        label=_("Public path"), max_length=200, help_text=_("Everything below it is this version's.")
    )
    host = forms.CharField(
        label=_("Host"),
        max_length=253,
        required=False,
        help_text=_("Only for a host name of its own; empty serves every host."),
    )
    url = forms.CharField(
        label=_("Upstream"),
        max_length=500,
        help_text=_("Your server. A call to the public path is forwarded below this address."),
    )
    connect_timeout_ms = forms.IntegerField(
        label=_("Connect timeout, ms"), initial=5_000, **_within("connect_timeout_ms")
    )
    read_timeout_ms = forms.IntegerField(label=_("Read timeout, ms"), initial=30_000, **_within("read_timeout_ms"))
    max_connections = forms.IntegerField(
        label=_("Connections at once"),
        required=False,
        initial=256,
        help_text=_("From each worker of a gateway; further calls wait for one to be free. Empty is 256."),
        **_within("max_connections"),
    )
    preserve_host = forms.BooleanField(label=_("Send the caller's Host header to the upstream"), required=False)


class GatewayForm(AddressForm):
    """Everything the gateway does with a version's calls: address, upstream and how they are treated."""

    authentication = forms.ChoiceField(
        label=_("Who may call"),
        choices=Authentication.choices,
        initial=Authentication.KEY,
        widget=forms.RadioSelect,
    )
    unknown_operation = forms.ChoiceField(
        label=_("Calls that the document does not describe"),
        choices=UnknownOperation.choices,
        initial=UnknownOperation.REFUSE,
        widget=forms.RadioSelect,
        help_text=_("Forwarded ones are metered and limited like others, as one operation without a name."),
    )
    max_body_bytes = SizeField(
        label=_("Largest request body"),
        help_text=_("Larger ones are answered 413: 10 MiB, 512 KiB, or 0 for none."),
        **_within("max_body_bytes"),
    )
    websocket = forms.BooleanField(label=_("Calls may switch to WebSocket"), required=False)
    other_upgrades = forms.CharField(
        label=_("Other protocols"),
        required=False,
        max_length=400,
        help_text=_("As Upgrade names them, separated by spaces. They pass through as they are, unread."),
    )
    websocket_origins = forms.CharField(
        label=_("Origins that may open a WebSocket"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "placeholder": "https://app.example.com"}),
        help_text=_("One a line, for browsers. Empty lets pages of any site connect."),
    )
    tunnel_idle_ms = forms.IntegerField(
        label=_("Idle time, ms"),
        help_text=_("A connection on which nothing passes for so long is closed."),
        **_within("tunnel_idle_ms"),
    )
    max_message_bytes = SizeField(
        label=_("Largest message"),
        help_text=_("Of a WebSocket, either way; larger ones close it."),
        **_within("max_message_bytes"),
    )
    when_unrecordable = forms.ChoiceField(
        label=_("Calls that cannot be recorded"),
        choices=WhenUnrecordable.choices,
        initial=WhenUnrecordable.REFUSE,
        widget=forms.RadioSelect,
        help_text=_(
            "A gateway that has long been cut off from the platform runs out of room for usage. Calls forwarded then "
            "are in no count and on no bill, so refuse them where somebody pays."
        ),
    )

    @staticmethod
    def initial_of(settings: GatewaySettings) -> dict[str, Any]:
        return {
            **settings.as_configuration(),
            "websocket": WEBSOCKET in settings.upgrades,
            "other_upgrades": " ".join(name for name in settings.upgrades if name != WEBSOCKET),
            "websocket_origins": "\n".join(settings.websocket_origins),
        }

    def settings(self) -> dict[str, Any]:
        """What ``set_gateway_settings`` takes."""
        data = self.cleaned_data
        others = data["other_upgrades"].replace(",", " ").split()
        return {
            "authentication": data["authentication"],
            "unknown_operation": data["unknown_operation"],
            "max_body_bytes": data["max_body_bytes"],
            "upgrades": ([WEBSOCKET] if data["websocket"] else []) + others,
            "websocket_origins": data["websocket_origins"].splitlines(),
            "tunnel_idle_ms": data["tunnel_idle_ms"],
            "max_message_bytes": data["max_message_bytes"],
            "when_unrecordable": data["when_unrecordable"],
        }


class ApiForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=120)
    summary = forms.CharField(
        label=_("Summary"), max_length=200, required=False, help_text=_("One line, shown in the catalogue.")
    )
    description = forms.CharField(
        label=_("Description"), required=False, widget=forms.Textarea(attrs={"rows": 8}), help_text=_("Markdown.")
    )
    visibility = forms.ChoiceField(label=_("Visibility"), choices=Visibility.choices, widget=forms.RadioSelect)


class SelectionForm(forms.Form):
    """How callers tell the versions of an API apart. Has a field ``value-{name}`` for each version."""

    select_by = forms.ChoiceField(
        label=_("Callers choose a version by"),
        choices=[("", _("Path: each version has its own address")), *SelectBy.choices],
        required=False,
        widget=forms.RadioSelect,
    )
    name = forms.CharField(
        label=_("Name of the field or parameter"),
        max_length=60,
        required=False,
        help_text=_("Such as X-Api-Version or api-version. It reaches your upstream as it was sent."),
    )
    base_path = forms.CharField(
        label=_("Public path"), max_length=200, required=False, help_text=_("Of all versions together.")
    )
    host = forms.CharField(
        label=_("Host"),
        max_length=253,
        required=False,
        help_text=_("Only for a host name of its own; empty serves every host."),
    )
    default_version = forms.ChoiceField(
        label=_("Calls that name no version"),
        required=False,
        help_text=_("A default that moves changes what callers get who never asked for it."),
    )

    def __init__(self, *args: Any, api: API, versions: list[Version], **kwargs: Any) -> None:
        # It stands beside the API's own form, which has a name, too.
        super().__init__(*args, **{"auto_id": "selection_%s", **kwargs})
        self.versions = versions
        usual = [("", _("Refuse them, naming the versions there are"))]
        default = self.fields["default_version"]
        assert isinstance(default, forms.ChoiceField)
        default.choices = usual + [
            (version.name, version.name) for version in versions if version.state != VersionState.RETIRED
        ]
        for version in versions:
            self.fields[f"value-{version.name}"] = forms.CharField(
                label=version.name, max_length=40, required=False, initial=version.value
            )
        self.initial = self._usual(api) | dict(self.initial)

    @staticmethod
    def _usual(api: API) -> dict[str, Any]:
        if (selection := api.selection) is None:
            return {"base_path": f"/{api.slug}", "name": "X-Api-Version"}
        default = selection.default_version
        fields = ("select_by", "name", "base_path", "host")
        return {field: getattr(selection, field) for field in fields} | {
            "default_version": default.name if default else ""
        }

    def value_fields(self) -> list[forms.BoundField]:
        return [self[f"value-{version.name}"] for version in self.versions]

    def selection(self) -> dict[str, Any]:
        """What ``set_selection`` takes."""
        data = self.cleaned_data
        return {
            **{field: data[field] for field in ("select_by", "name", "base_path", "host", "default_version")},
            "values": {version.name: data[f"value-{version.name}"] for version in self.versions},
        }


class DeprecateForm(forms.Form):
    sunset_at = forms.DateField(
        label=_("Sunset date"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("When calls will end; callers are told."),
    )
