from __future__ import annotations

from dataclasses import dataclass

from apimgr.core.events import Event


@dataclass(frozen=True, slots=True)
class UserStateChanged(Event):
    """A person was disabled or enabled."""

    user_id: int


@dataclass(frozen=True, slots=True)
class OrganisationCreated(Event):
    organisation_id: int


@dataclass(frozen=True, slots=True)
class OrganisationStateChanged(Event):
    """An organisation was suspended or resumed."""

    organisation_id: int


@dataclass(frozen=True, slots=True)
class MemberAdded(Event):
    organisation_id: int
    user_id: int


@dataclass(frozen=True, slots=True)
class RoleChanged(Event):
    organisation_id: int
    user_id: int


@dataclass(frozen=True, slots=True)
class MemberRemoved(Event):
    organisation_id: int
    user_id: int


@dataclass(frozen=True, slots=True)
class ApiTokenIssued(Event):
    token_id: int


@dataclass(frozen=True, slots=True)
class ApiTokenRevoked(Event):
    token_id: int
