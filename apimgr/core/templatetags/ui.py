"""Template tags every page may use without loading them."""

from __future__ import annotations

from typing import Final

from django import forms, template
from django.forms.boundfield import BoundField
from django.urls import NoReverseMatch, reverse
from django.utils.functional import Promise
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from apimgr.core.ids import encode_id

register = template.Library()

STATES: Final[dict[str, str | Promise]] = {
    "draft": _("Draft"),
    "published": _("Published"),
    "deprecated": _("Deprecated"),
    "retired": _("Retired"),
    "requested": _("Requested"),
    "active": _("Active"),
    "suspended": _("Suspended"),
    "disabled": _("Disabled"),
    "cancelled": _("Cancelled"),
    "rejected": _("Rejected"),
    "rotating": _("Rotating"),
    "revoked": _("Revoked"),
    "expired": _("Expired"),
    "ok": _("OK"),
    "warn": _("Warning"),
    "error": _("Error"),
}
# Django's message levels speak the notice component's language.
_NOTICES: Final = {"success": "ok", "warning": "warn", "error": "danger", "debug": "info"}
_NOTICE_ICONS: Final = {"ok": "circle-check", "warn": "alert-triangle", "danger": "alert-circle"}
_CLASSES: Final = {"text": "form-control", "select": "form-select", "check": "form-check-input"}


@register.filter
def public_id(value: int) -> str:
    """The 13 characters an id has outside."""
    return encode_id(value)


@register.filter
def state_label(value: str) -> str:
    return str(STATES.get(value, value.replace("_", " ").capitalize() if value else ""))


@register.filter
def notice_kind(value: str) -> str:
    kind = value.split()[-1] if value else "info"
    return _NOTICES.get(kind, kind)


@register.filter
def notice_icon(value: str) -> str:
    return _NOTICE_ICONS.get(notice_kind(value), "info-circle")


@register.filter
def slice_initial(value: object) -> str:
    return str(value)[:1]


@register.filter
def widget_kind(field: BoundField) -> str:
    """``check``, ``choices``, ``select`` or ``text``: which shape a form field takes."""
    match field.field.widget:
        case forms.CheckboxInput():
            return "check"
        case forms.RadioSelect() | forms.CheckboxSelectMultiple():
            return "choices"
        case forms.Select():
            return "select"
        case _:
            return "text"


@register.filter
def control(field: BoundField, mono: bool = False) -> SafeString:
    """A form field's input, dressed; Django itself ties help and errors to it for screen readers."""
    given = str(field.field.widget.attrs.get("class", ""))
    classes = f"{_CLASSES.get(widget_kind(field), '')} {'mono' if mono else ''} {given}"
    return field.as_widget(attrs={"class": " ".join(classes.split())})


@register.simple_tag
def url_if(url_name: str, *args: object, **kwargs: object) -> str:
    """The address of a page another app may have, or nothing: pages know addresses, never modules."""
    try:
        return reverse(url_name, args=args or None, kwargs=kwargs or None)
    except NoReverseMatch:
        return ""
