from __future__ import annotations

from dataclasses import dataclass

from apimgr.core.events import Event


@dataclass(frozen=True, slots=True)
class VersionAdded(Event):
    version_id: int


@dataclass(frozen=True, slots=True)
class VersionPublished(Event):
    """A revision was deployed: the first one, or another one in its place."""

    version_id: int


@dataclass(frozen=True, slots=True)
class VersionDeprecated(Event):
    """Also when only the sunset date has changed."""

    version_id: int


@dataclass(frozen=True, slots=True)
class VersionRestored(Event):
    version_id: int


@dataclass(frozen=True, slots=True)
class VersionRetired(Event):
    version_id: int


@dataclass(frozen=True, slots=True)
class SelectionChanged(Event):
    """Versions of the API are told apart in another way: by path, by another field, at another address."""

    api_id: int
