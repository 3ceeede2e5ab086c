"""Back to an earlier revision: nothing is rewritten, a new one equal to it goes live."""

from __future__ import annotations

from django.db import transaction
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, require
from apimgr.accounts.models import User
from apimgr.audit import services as audit
from apimgr.catalog.differences import Difference, differences
from apimgr.catalog.events import VersionPublished
from apimgr.catalog.lifecycle import Move, next_state
from apimgr.catalog.models import Revision, Version
from apimgr.catalog.openapi import parse
from apimgr.catalog.selectors import revision_of
from apimgr.catalog.services.checks import Problem, kept, problems_of, refuse_unfit
from apimgr.catalog.services.drafts import lock_version
from apimgr.catalog.services.gateway import gateway_settings_of
from apimgr.catalog.services.publication import freeze, is_ahead, whole_of
from apimgr.catalog.services.specifications import sync_operations
from apimgr.core import events
from apimgr.core.errors import Conflict
from apimgr.core.validation import store


def changes_from_live(revision: Revision) -> list[Difference]:
    """What rolling back to it would change in what the gateway serves."""
    served = revision.version.deployed_revision
    return differences(whole_of(served), whole_of(revision)) if served else []


def restore_problems(revision: Revision) -> list[Problem]:
    """What keeps an earlier revision from going live again, as far as that can be known before it is tried."""
    return problems_of(kept(revision))


@transaction.atomic
def restore_revision(*, actor: User | None, version: Version, number: int, instead_of: int | None = None) -> Version:
    """Roll a live version back: what its revision ``number`` keeps goes live at once, as a new revision.

    ``instead_of`` is the number of the one that was live when somebody looked at what would change; if another is by
    now, nothing is done (``revision_overtaken``). ``None``: whichever is live.

    Everything that is asked of a draft when it is published is asked of the revision; what is in the way is raised as
    ``DomainError`` (``revision_unfit``). The draft goes back, too, unless it has changes that were never published:
    these stay for whoever made them, and publishing them takes the place of what was restored.
    """
    require(actor, Permission.API_PUBLISH, version.api.organisation)
    version = lock_version(version)
    next_state(version.state, Move.PUBLISH)
    revision = revision_of(version, number)
    if not changes_from_live(revision):
        raise Conflict(
            _("The gateway serves what revision %(number)s keeps already.") % {"number": number},
            code="revision_served",
        )
    _refuse_overtaken(version, instead_of)
    keeps_draft = is_ahead(version)
    fix = _("It cannot go live as it was. Put what is left of it into the draft and publish that.")
    refuse_unfit(kept(revision), "revision_unfit", fix)
    version.deployed_revision = freeze(actor, version, revision)
    if not keeps_draft:
        _redraft(version, revision)
    version.save(update_fields=["deployed_revision", "specification"])
    audit.record(
        actor=actor,
        action="catalog.version.rolled_back",
        target=version,
        organisation_id=version.api.organisation_id,
        restored=number,
        revision=version.deployed_revision.number,
        keeps_draft=keeps_draft,
    )
    events.emit(VersionPublished(version.pk))
    return version


def _refuse_overtaken(version: Version, instead_of: int | None) -> None:
    live = version.deployed_revision
    if instead_of is not None and live is not None and live.number != instead_of:
        raise Conflict(
            _("Revision %(number)s went live meanwhile, so other things would change than those you saw.")
            % {"number": live.number},
            code="revision_overtaken",
            fix=_("Look at what would change now, and then decide."),
        )


def _redraft(version: Version, revision: Revision) -> None:
    """Make the draft what the revision keeps: the next change begins from what is served."""
    whole = whole_of(revision)
    rows = {"route": version.route, "upstream": version.upstream, "gateway": gateway_settings_of(version)}
    for section, row in rows.items():
        for name, value in whole[section].items():
            setattr(row, name, value)
        store(row)
    version.specification = revision.specification
    sync_operations(version, parse.describe(revision.specification.document))
