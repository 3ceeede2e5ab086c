from __future__ import annotations

from django import forms

from apimgr.core.errors import DomainError


def show_error(form: forms.Form, error: DomainError) -> None:
    """Put a service's refusal where it belongs: beside the fields it names, else above the form, with the way out."""
    beside = {name: text for name, text in error.fields.items() if name in form.fields}
    for name, text in beside.items():
        form.add_error(name, text)
    if not beside:
        form.add_error(None, f"{error.message} {error.fix}".strip())
