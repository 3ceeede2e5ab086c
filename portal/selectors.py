"""Reads of the developer's side. The viewer comes first: what somebody may not see is not there."""

from __future__ import annotations

import re
from typing import Any, TypeVar
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import (
    BooleanField,
    Count,
    Exists,
    ExpressionWrapper,
    F,
    Model,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
)
from django.db.models.functions import Coalesce
from django.utils.translation import gettext as _

from apimgr.accounts.access import Permission, is_operator, is_ownerless, organisations_for, owners, require_operator
from apimgr.accounts.models import Membership, Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog.models import API, Operation, SelectBy, Version
from apimgr.catalog.selectors import LIVE, operations_of, served_specification
from apimgr.contracts.credentials import KEY_START
from apimgr.core.errors import NotAllowed, NotFound
from portal.models import Application, Credential, CredentialState, Subscription, SubscriptionState
from portal.reference import VersionChoice

_KEY_START = re.compile(KEY_START)
KEYS_SHOWN = 20  # of those that begin alike
M = TypeVar("M", bound=Model)
Viewer = User | AnonymousUser

OPEN = (SubscriptionState.REQUESTED, SubscriptionState.ACTIVE, SubscriptionState.SUSPENDED)
_LIVE_VERSIONS = Prefetch(
    "product__versions",
    Version.objects.filter(state__in=LIVE)
    .select_related("api__selection", "route", "deployed_revision")
    .order_by("-published_at", "-id"),
    to_attr="live_versions",
)


# --- What is live -----------------------------------------------------------------------------------------------------


def base_url(version: Version) -> str:
    """Where callers find a live version, at the gateway's public address: its deployed route, or the shared one."""
    place: Any = version.api.selection or version.route
    host, base_path = place.host, place.base_path
    if version.api.selection is None and (route := _deployed(version).get("route")):
        host, base_path = route["host"], route["base_path"]
    gateway = urlsplit(settings.GATEWAY_URL)
    netloc = f"{host}:{gateway.port}" if host and gateway.port else host or gateway.netloc
    return f"{gateway.scheme}://{netloc}{base_path}"


def needs_key(version: Version) -> bool:
    """Whether a live version's callers need a key; a draft that says otherwise is not in force."""
    return bool(_deployed(version).get("gateway", {}).get("authentication", "key") == "key")


def choice_of(version: Version) -> VersionChoice | None:
    """What a call carries to get the version; none where its address is its own."""
    selection = version.api.selection
    if selection is None:
        return None
    by_header = selection.select_by == SelectBy.HEADER
    return VersionChoice(by_header, selection.name, version.value, not version.is_default)


def document_of(version: Version) -> dict[str, Any]:
    """The OpenAPI document of what is live."""
    specification = served_specification(version) or version.specification
    document = specification.document if specification else {}
    return document if isinstance(document, dict) else {}


def deployed_operations(version: Version) -> QuerySet[Operation]:
    """The operations the gateway serves, by path; a draft's newer ones are not among them."""
    ids = [row[0] for row in _deployed(version).get("operations", [])]
    return version.operations.filter(pk__in=ids).order_by("path", "method") if ids else operations_of(version)


def _deployed(version: Version) -> dict[str, Any]:
    revision = version.deployed_revision
    return revision.configuration if revision else {}


# --- The developer's ------------------------------------------------------------------------------------------------


def applications_for(viewer: Viewer) -> QuerySet[Application]:
    """Applications of the viewer's organisations, newest first."""
    organisations = organisations_for(viewer, Permission.APPLICATION_VIEW)
    return Application.objects.filter(organisation__in=organisations).select_related("organisation").order_by("-id")


def application_list(viewer: Viewer) -> QuerySet[Application]:
    """As ``applications_for``, each with its open subscriptions and ``active_keys``."""
    return _with_counts(applications_for(viewer))


def _with_counts(applications: QuerySet[Application]) -> QuerySet[Application]:
    subscriptions = Subscription.objects.filter(state__in=OPEN).select_related("product", "plan").order_by("id")
    return applications.annotate(
        active_keys=Count("credentials", filter=Q(credentials__state=CredentialState.ACTIVE))
    ).prefetch_related(Prefetch("subscriptions", subscriptions, to_attr="open_subscriptions"))


def application_for(viewer: Viewer, pk: int) -> Application:
    """Raises ``NotFound``, also for somebody else's."""
    return one(applications_for(viewer).filter(pk=pk))


def subscriptions_of(application: Application) -> QuerySet[Subscription]:
    """Open ones first, then what has ended, each with its product's live versions."""
    found = application.subscriptions.select_related("plan", "product__organisation")
    return found.prefetch_related("plan__limits", _LIVE_VERSIONS).order_by("-id")


def subscription_for(viewer: Viewer, pk: int) -> Subscription:
    """A subscription of the viewer's own applications."""
    found = Subscription.objects.filter(pk=pk, application__in=applications_for(viewer).order_by())
    return one(found.select_related("application__organisation", "plan", "product__organisation"))


def subscriptions_for(viewer: Viewer) -> QuerySet[Subscription]:
    found = Subscription.objects.filter(application__in=applications_for(viewer).order_by())
    return found.select_related("application__organisation", "plan", "product__organisation")


def credentials_of(application: Application) -> QuerySet[Credential]:
    return application.credentials.select_related("created_by").order_by("state", "-id")


def credential_for(viewer: Viewer, pk: int) -> Credential:
    """A key of the viewer's own applications: never its secret, which nobody has."""
    return one(credentials_for(viewer).filter(pk=pk))


def credentials_for(viewer: Viewer) -> QuerySet[Credential]:
    found = Credential.objects.filter(application__in=applications_for(viewer).order_by())
    return found.select_related("application__organisation").order_by("-id")


def visible_subscriptions(viewer: Viewer) -> QuerySet[Subscription]:
    """Those of the viewer's own applications and those to the products they look after."""
    mine = Q(application__organisation__in=organisations_for(viewer, Permission.APPLICATION_VIEW))
    theirs = Q(product__organisation__in=organisations_for(viewer, Permission.API_VIEW))
    found = Subscription.objects.filter(mine | theirs)
    return found.select_related("application__organisation", "plan", "product__organisation").order_by("-id")


def may_manage(viewer: Viewer, application: Application) -> bool:
    return organisations_for(viewer, Permission.APPLICATION_MANAGE).filter(pk=application.organisation_id).exists()


# --- The publisher's ------------------------------------------------------------------------------------------------


def consumers_for(viewer: Viewer) -> QuerySet[Subscription]:
    """Subscriptions to the products the viewer looks after."""
    organisations = organisations_for(viewer, Permission.API_VIEW)
    found = Subscription.objects.filter(product__organisation__in=organisations)
    return found.select_related("application__organisation", "application__created_by", "plan", "product__organisation")


def consumer_for(viewer: Viewer, pk: int) -> Subscription:
    return one(consumers_for(viewer).filter(pk=pk))


def approvals_for(viewer: Viewer) -> QuerySet[Subscription]:
    """What waits for the viewer's decision, oldest first."""
    organisations = organisations_for(viewer, Permission.SUBSCRIPTION_DECIDE)
    waiting = consumers_for(viewer).filter(state=SubscriptionState.REQUESTED, product__organisation__in=organisations)
    return waiting.prefetch_related("plan__limits").order_by("id")


def decided_for(viewer: Viewer) -> QuerySet[Subscription]:
    """The last decisions, newest first."""
    return consumers_for(viewer).filter(plan__requires_approval=True, decided_at__isnull=False).order_by("-decided_at")


def consumers_of(viewer: Viewer, api: API) -> QuerySet[Subscription]:
    """Who uses ``api``: open subscriptions to products that hold one of its versions."""
    return consumers_for(viewer).filter(product__versions__api=api, state__in=OPEN).distinct().order_by("-id")


def decides(viewer: Viewer, organisation_id: int) -> bool:
    return organisations_for(viewer, Permission.SUBSCRIPTION_DECIDE).filter(pk=organisation_id).exists()


def require_anywhere(viewer: Viewer, permission: Permission) -> None:
    """Raises ``NotAllowed`` for who holds ``permission`` in no organisation."""
    if not organisations_for(viewer, permission).exists():
        raise NotAllowed(
            _("This is for people who look after an organisation's APIs."),
            fix=_("Ask an administrator of the organisation for another role."),
        )


def require_look_up(viewer: Viewer) -> None:
    """Whose a key is may be asked by who looks after APIs, and by operators."""
    if not is_operator(viewer):
        require_anywhere(viewer, Permission.API_VIEW)


def keys_like(viewer: Viewer, text: str) -> QuerySet[Credential]:
    """Keys that begin with ``text``, a whole key or the start of one, of applications that the viewer's APIs serve.

    One that is being rolled is found by its former secret, too. An operator finds every key. Raises ``NotAllowed`` for
    who may not ask.
    """
    require_look_up(viewer)
    start = _KEY_START.match(text.strip())
    if start is None:
        return Credential.objects.none()
    found = Credential.objects.filter(Q(prefix__startswith=start[0]) | Q(former_prefix__startswith=start[0]))
    if not is_operator(viewer):
        consumers = consumers_for(viewer).filter(state__in=OPEN).order_by().values("application")
        found = found.filter(application__in=consumers)
    return found.select_related("application__organisation").order_by("-id")


# --- The operator's -------------------------------------------------------------------------------------------------


def all_organisations(viewer: Viewer, search: str = "", state: str = "") -> QuerySet[Organisation]:
    """Every organisation with how many ``members`` and ``applications`` it has; by name, or by a member's address.

    ``is_ownerless`` says whether its owners are all disabled, so that its calls are refused whatever its state.
    """
    require_operator(viewer)
    found = Organisation.objects.annotate(
        members=_how_many(Membership, "organisation"),
        applications_owned=_how_many(Application, "organisation"),
        is_ownerless=ExpressionWrapper(is_ownerless(), BooleanField()),
    )
    if search:
        people = Membership.objects.filter(organisation=OuterRef("pk"), user__email__icontains=search)
        found = found.filter(Q(name__icontains=search) | Q(slug=search.lower()) | Exists(people))
    return found.filter(state=state) if state else found


def any_organisation(viewer: Viewer, slug: str) -> Organisation:
    return one(all_organisations(viewer).filter(slug=slug))


def any_application(viewer: Viewer, pk: int) -> Application:
    require_operator(viewer)
    return one(Application.objects.filter(pk=pk).select_related("organisation"))


def applications_of(viewer: Viewer, organisation: Organisation) -> QuerySet[Application]:
    """What an organisation calls with, as ``application_list`` has it."""
    require_operator(viewer)
    return _with_counts(Application.objects.filter(organisation=organisation).order_by("name", "id"))


def last_switch(target: Organisation | User) -> AuditEntry | None:
    """Who stopped it, or let it go on, last, and when."""
    actions = [f"accounts.organisation.{verb}" for verb in ("suspended", "resumed")]
    actions += [f"accounts.user.{verb}" for verb in ("disabled", "enabled")]
    entries = AuditEntry.objects.filter(target_id=target.pk, action__in=actions)
    return entries.select_related("actor").order_by("-id").first()


def all_people(viewer: Viewer, search: str = "", state: str = "") -> QuerySet[User]:
    """Every person with how many ``organisations`` they belong to; by name or address, ``active`` or ``disabled``."""
    require_operator(viewer)
    found = User.objects.annotate(organisations=_how_many(Membership, "user"))
    if search:
        found = found.filter(Q(name__icontains=search) | Q(email__icontains=search))
    return found.filter(is_active=state == "active") if state else found


def any_person(viewer: Viewer, pk: int) -> User:
    return one(all_people(viewer).filter(pk=pk))


def organisations_of(viewer: Viewer, user: User) -> QuerySet[Organisation]:
    """Those ``user`` belongs to, as ``all_organisations`` has them, with their ``role`` there.

    ``hangs_on_them`` says whether nobody else is an active owner: its calls are refused while ``user`` is disabled.
    """
    its_owners = owners().filter(organisation=OuterRef("pk"))
    found = all_organisations(viewer).filter(memberships__user=user)
    return found.annotate(
        role=F("memberships__role"),
        hangs_on_them=ExpressionWrapper(
            Q(Exists(its_owners.filter(user=user)))
            & ~Q(Exists(its_owners.filter(user__is_active=True).exclude(user=user))),
            BooleanField(),
        ),
    ).order_by("name", "id")


def _how_many(of: type[Membership | Application], by: str) -> Coalesce:
    rows = of.objects.filter(**{by: OuterRef("pk")}).order_by().values(by)
    return Coalesce(Subquery(rows.annotate(n=Count("pk")).values("n")), 0)


def one(found: QuerySet[M]) -> M:
    """The row, or ``NotFound``."""
    row = found.first()
    if row is None:
        raise NotFound(_("There is nothing here, or nothing for you."))
    return row
