"""How versions of an API are told apart: by path, or at one address by a header field or a query parameter.

Unlike the rest of a version's gateway configuration this is the API's, and live at once: in one transaction every
version moves to the shared address, or back to its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.events import SelectionChanged
from apimgr.catalog.models import API, SelectBy, Selection, Version, VersionState
from apimgr.catalog.services.routing import address_conflict, lock_routes, normalise_route, route_taken
from apimgr.contracts import selection as rules
from apimgr.core import events
from apimgr.core.errors import Conflict, DomainError
from apimgr.core.validation import store


@transaction.atomic
def set_selection(
    *,
    actor: User | None,
    api: API,
    select_by: str,
    name: str,
    base_path: str,
    host: str = "",
    default_version: str = "",
    values: Mapping[str, str] | None = None,
) -> Selection:
    """Have callers choose versions by the header field or query parameter ``name``, all at one address.

    ``values`` maps a version's name to what chooses it; a version that is not there keeps its value, an empty value is
    the version's name. ``default_version`` is the name of the version for calls that name none; empty refuses them.
    """
    require(actor, Permission.API_PUBLISH, api.organisation)
    api = lock_api(api)
    select_by, name = _checked_name(select_by, name.strip())
    host, base_path = normalise_route(host, base_path)
    # Locked before the addresses, in the order in which a publication takes the two.
    versions = {version.name: version for version in api.versions.select_for_update().order_by("pk")}
    default = _default(versions, default_version)
    lock_routes()
    if other := address_conflict(api, host, base_path):
        raise route_taken(actor, other, host + base_path)
    _set_values(versions, values or {})
    selection = _at(api, host, base_path)
    selection.select_by, selection.name, selection.default_version = select_by, name, default
    api.selection = store(selection)
    api.save(update_fields=["selection"])
    audit.record(
        actor=actor,
        action="catalog.api.selection_set",
        target=api,
        organisation_id=api.organisation_id,
        by=selection.get_select_by_display().lower(),
        name=name,
        address=str(selection),
        default=default.name if default else "",
    )
    events.emit(SelectionChanged(api.pk))
    return selection


@transaction.atomic
def remove_selection(*, actor: User | None, api: API) -> None:
    """Every version is at its own address again; the shared one is answered 404."""
    require(actor, Permission.API_PUBLISH, api.organisation)
    api = lock_api(api)
    selection = api.selection
    if selection is None:
        return
    api.selection = None
    api.save(update_fields=["selection"])
    audit.record(
        actor=actor,
        action="catalog.api.selection_removed",
        target=api,
        organisation_id=api.organisation_id,
        address=str(selection),
    )
    events.emit(SelectionChanged(api.pk))


def lock_api(api: API) -> API:
    """The API as it is now, locked to the end of the transaction: names and values of its versions stay apart."""
    apis = API.objects.select_for_update(of=("self",), no_key=True).select_related("organisation", "selection")
    return apis.get(pk=api.pk)


def value_taken(api: API, name: str) -> bool:
    """Whether another version of the API is chosen by ``name`` already."""
    return api.versions.filter(selector=name).exists()


def _at(api: API, host: str, base_path: str) -> Selection:
    """The API's selection at this address, which may be one of former days."""
    known = api.selections.filter(host=host, base_path=base_path).first()
    return known or Selection(api=api, host=host, base_path=base_path)


def _checked_name(select_by: str, name: str) -> tuple[str, str]:
    if select_by not in SelectBy.values:
        message = _("Versions are chosen by a header field or a query parameter.")
        raise DomainError(message, code="selection_invalid", fields={"select_by": message})
    if not rules.is_name(select_by, name):
        message = _("Use letters, digits and dashes, starting with a letter, up to 60 characters.")
        if select_by == SelectBy.QUERY:
            message = _("Use letters, digits and . _ ~ -, starting with a letter, up to 60 characters.")
        raise DomainError(message, code="selection_invalid", fields={"name": message})
    if rules.is_reserved(select_by, name):
        message = _(
            "%(name)s has another meaning: it may carry a secret, or be changed on its way. Choose another name."
        )
        message %= {"name": name}
        raise DomainError(message, code="selection_reserved", fields={"name": message})
    return select_by, name


def _default(versions: Mapping[str, Version], name: str) -> Version | None:
    if not name:
        return None
    version = versions.get(name)
    if version is None or version.state == VersionState.RETIRED:
        message = _("There is no version %(name)s that could be called.") % {"name": name}
        raise DomainError(message, code="selection_invalid", fields={"default_version": message})
    return version


def _set_values(versions: Mapping[str, Version], values: Mapping[str, str]) -> None:
    """Give versions the values that choose them, each another one."""
    for name, given in values.items():
        version, value = versions.get(name), given.strip()
        if version is None:
            raise _bad_value(name, _("There is no version %(name)s.") % {"name": name})
        if value and rules.VALUE.fullmatch(value) is None:
            raise _bad_value(name, _("Use letters, digits, dots, dashes, underscores; up to 40 characters."))
        version.selector = "" if value == name else value
    seen: dict[str, str] = {}
    for name, version in versions.items():
        if (other := seen.setdefault(version.value, name)) != name:
            message = _("%(value)s chooses version %(other)s.") % {"value": version.value, "other": other}
            raise _bad_value(name, message, Conflict)
    if len(versions) > rules.MAX_CHOICES:
        raise DomainError(_("At one address there can be %(count)s versions.") % {"count": rules.MAX_CHOICES})
    Version.objects.bulk_update(versions.values(), ["selector"])


def _bad_value(name: str, message: str, kind: type[DomainError] = DomainError) -> DomainError:
    return kind(message, code="selection_value", fields={"values": f"{name}: {message}", f"value-{name}": message})
