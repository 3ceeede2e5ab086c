from __future__ import annotations

from dataclasses import dataclass

from apimgr.core.events import Event


@dataclass(frozen=True, slots=True)
class ApplicationChanged(Event):
    """An application is new, or its name or state is another."""

    application_id: int


@dataclass(frozen=True, slots=True)
class SubscriptionChanged(Event):
    """A subscription is new, or its state or plan is another."""

    subscription_id: int
    application_id: int


@dataclass(frozen=True, slots=True)
class CredentialIssued(Event):
    credential_id: int


@dataclass(frozen=True, slots=True)
class CredentialRevoked(Event):
    credential_id: int


@dataclass(frozen=True, slots=True)
class CredentialChanged(Event):
    """A key has another secret or another end. ``ended_digest`` is that of a secret that works no more, in hex."""

    credential_id: int
    ended_digest: str = ""
