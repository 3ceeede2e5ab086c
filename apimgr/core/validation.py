"""Rows checked by their own models, with errors a form and the REST API can show beside the field."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import IntegrityError, models, transaction
from django.utils.translation import gettext as _

from apimgr.core.errors import Conflict, DomainError

M = TypeVar("M", bound=models.Model)


def store(instance: M, fields: Iterable[str] | None = None) -> M:
    """Save ``instance`` if its model's validators and constraints agree; else a ``DomainError`` names the fields.

    With ``fields`` only those are written: what others have changed since it was read stays.
    """
    try:
        instance.full_clean()
    except ValidationError as error:
        fields = {name: " ".join(messages) for name, messages in error.message_dict.items()}
        general = fields.pop(NON_FIELD_ERRORS, "")
        raise DomainError(general or " ".join(fields.values()), fields=fields) from error
    try:
        with transaction.atomic():
            instance.save(update_fields=fields)
    except IntegrityError as error:
        # Two requests at once: both passed the check above, the database let one through.
        raise Conflict(_("Someone else has just taken this name."), code="taken") from error
    return instance
