from __future__ import annotations

import re
from typing import Any, Final

from django import forms
from django.utils.translation import gettext as _

from apimgr.core.errors import DomainError


def show_error(form: forms.Form, error: DomainError) -> None:
    """Put a service's refusal where it belongs: beside the fields it names, else above the form, with the way out."""
    beside = {name: text for name, text in error.fields.items() if name in form.fields}
    for name, text in beside.items():
        form.add_error(name, text)
    if not beside:
        form.add_error(None, error.in_full)


_UNITS: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_SIZE: Final = re.compile(r"\s*+([0-9]{1,15}+)\s*+([a-z]*+)\s*+", re.IGNORECASE)


class SizeField(forms.IntegerField):
    """Bytes, written as people do: ``10 MiB``, ``512 kB``, ``0``. Shown in the largest unit that divides them."""

    widget = forms.TextInput

    def to_python(self, value: Any) -> int | None:
        if value in self.empty_values:
            return super().to_python(value)
        match = _SIZE.fullmatch(str(value))
        unit = _UNITS.get(match[2].lower()) if match else None
        if match is None or unit is None:
            raise forms.ValidationError(_("Write a whole number and a unit, such as 10 MiB."), code="invalid")
        return int(match[1]) * unit

    def prepare_value(self, value: Any) -> Any:
        if not isinstance(value, int):
            return value
        unit = next(name for name in ("GiB", "MiB", "KiB", "B") if value % _UNITS[name.lower()] == 0)
        return f"{value // _UNITS[unit.lower()]} {unit}" if value else "0 B"
