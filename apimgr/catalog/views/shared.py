from __future__ import annotations

from typing import Any, cast

from django.http import HttpRequest

from apimgr.accounts.access import ROLES, Permission, organisations_for, require, role_of
from apimgr.accounts.models import Organisation, User
from apimgr.catalog.models import API, Version, VersionState
from apimgr.catalog.selectors import versions_for
from apimgr.core.errors import NotAllowed


def person(request: HttpRequest) -> User:
    """The signed-in person; ``login_required`` stands before."""
    return cast("User", request.user)


def may(user: User, permission: Permission, organisation: Organisation) -> bool:
    return organisations_for(user, permission).filter(pk=organisation.pk).exists()


def require_console(user: User) -> None:
    """The console is for members of a publishing organisation; the others are told so."""
    if not organisations_for(user, Permission.API_VIEW).exists():
        raise NotAllowed("The console belongs to organisations that publish APIs; you are in none.")


def require_edit(user: User, api: API) -> None:
    require(user, Permission.API_EDIT, api.organisation)


def versions(user: User, api: API) -> list[Version]:
    return list(versions_for(user).filter(api=api))


def chosen(found: list[Version], name: str) -> Version | None:
    """The version asked for, else the newest live one, else the newest."""
    named = [version for version in found if version.name == name]
    live = [version for version in found if version.is_live]
    return next(iter([*named, *live, *found]), None)


def permissions(user: User, api: API) -> dict[str, Any]:
    held = ROLES.get(role_of(user, api.organisation) or "", frozenset()) if api.organisation.is_publisher else ()
    return {"may_edit": Permission.API_EDIT in held, "may_publish": Permission.API_PUBLISH in held}


def is_editable(version: Version) -> bool:
    return version.state != VersionState.RETIRED
