"""Errors a person can act on: what, why, and what to do. Services raise them; pages and REST show them.

The REST layer answers them as RFC 9457 problem documents; pages show ``message`` beside the field or above the form.
"""

from __future__ import annotations

from collections.abc import Mapping


class DomainError(Exception):
    """A request that cannot be carried out as it stands. Nothing has been changed.

    ``code`` is stable and for machines; ``message`` one plain sentence; ``fix`` what to do about it; ``fields`` maps an
    input's name to the sentence that belongs beside it.
    """

    status = 422
    code = "invalid"

    def __init__(self, message: str, *, code: str = "", fix: str = "", fields: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.fix = fix
        self.fields = dict(fields or {})

    @property
    def in_full(self) -> str:
        """What is wrong and what to do, where there is one place for both."""
        return f"{self.message} {self.fix}".strip()


class UnknownField(DomainError):
    """A request has a field that means nothing: most likely a misspelt one, whose value would be lost."""

    status = 400
    code = "unknown_field"


class UnknownParameter(DomainError):
    """An address asks for something that means nothing: most likely a misspelt filter, which would filter nothing."""

    status = 400
    code = "unknown_parameter"


class RepeatedParameter(DomainError):
    """An address gives a name twice; which of the two is meant cannot be guessed."""

    status = 400
    code = "repeated_parameter"


class NotFound(DomainError):
    """The thing does not exist, or not for this person: the two are never told apart."""

    status = 404
    code = "not_found"


class NotAllowed(DomainError):
    """The person sees the thing but may not do this; ``fix`` says who can grant it."""

    status = 403
    code = "not_allowed"


class Conflict(DomainError):
    """The thing is in a state, or another thing in a place, that this change cannot go with."""

    status = 409
    code = "conflict"
