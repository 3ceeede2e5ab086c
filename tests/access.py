"""The access matrix's vocabulary: a row per URL, and a world to try them in.

Every app lists its URLs in ``tests/<app path>/access.py`` as ``ACCESS: dict[url_name, Row | tuple[Row, ...]]``; a URL
that takes several methods has a row for each that differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from secrets import token_bytes
from typing import Any

from django.conf import settings
from django.utils import timezone

from apimgr.accounts.models import ApiToken, Invitation, Membership, Organisation, Role, User
from apimgr.accounts.services import own_organisation
from apimgr.accounts.services.invitations import invitation_token
from apimgr.catalog.models import API, Revision, Version
from apimgr.catalog.services.publication import configuration_of
from apimgr.contracts.credentials import digest_key, generate_key
from apimgr.products.models import Plan, Product
from portal.models import Application, Credential, Subscription
from tests.factories import make_api, make_member, make_organisation, make_plan, make_product, make_user, make_version

# Who is who: tests/conftest.py. Rita administers another publisher: everything Ada may do at Acme, she may not.
PEOPLE = ("charlie", "dev", "alice", "oscar", "victor", "ada", "olga", "rita")
EVERYONE = frozenset(PEOPLE)
ACME = frozenset({"alice", "oscar", "victor", "ada"})


@dataclass(frozen=True)
class Row:
    """Who may use one URL with one method. Everyone else must be turned away.

    ``kwargs`` gives the URL's arguments from the world; ``anonymous`` opens it to everybody, signed in or not;
    ``data`` is sent as a form to pages and as JSON to the REST API.
    """

    kwargs: Callable[[World], dict[str, Any]] = lambda world: {}
    allow: frozenset[str] | set[str] = frozenset()
    anonymous: bool = False
    method: str = "get"
    data: Callable[[World], dict[str, Any]] | dict[str, Any] | None = None
    query: str = ""

    @property
    def allowed(self) -> frozenset[str]:
        return EVERYONE if self.anonymous else frozenset(self.allow)

    def payload(self, world: World) -> dict[str, Any]:
        return self.data(world) if callable(self.data) else dict(self.data or {})


@dataclass
class World:
    """Acme publishes an API; Builders call it; Strangers and Rival have nothing to do with either."""

    acme: Organisation
    builders: Organisation
    strangers: Organisation
    rival: Organisation
    people: dict[str, User]
    api: API
    version: Version
    draft: Version
    product: Product
    plan: Plan
    application: Application
    subscription: Subscription
    request: Subscription  # waits for a decision
    credential: Credential
    membership: Membership  # Victor's at Acme
    invitation: Invitation
    token: ApiToken  # Alice's at Acme
    secrets: dict[str, str] = field(default_factory=dict)  # a REST token of each person

    @property
    def invitation_token(self) -> str:
        return invitation_token(self.invitation)


def make_world() -> World:
    acme, rival = make_organisation("Acme"), make_organisation("Rival")
    builders = make_organisation("Builders", is_publisher=False)
    strangers = make_organisation("Strangers", is_publisher=False)
    people = {name: make_user(name, is_operator=name == "olga") for name in PEOPLE}
    membership = make_member(people["victor"], acme, Role.VIEWER)
    make_member(people["alice"], acme, Role.PUBLISHER)
    make_member(people["oscar"], acme, Role.PRODUCT_OWNER)
    make_member(people["ada"], acme, Role.ADMINISTRATOR)
    make_member(people["dev"], builders, Role.ADMINISTRATOR)
    make_member(people["charlie"], strangers, Role.ADMINISTRATOR)
    make_member(people["rita"], rival, Role.ADMINISTRATOR)
    api = make_api(acme, "Orders")
    version = make_version(api, "v1")
    _deploy(version)
    product = make_product(version)
    plan = make_plan(product)
    asked = make_plan(product, "Gold", requires_approval=True)
    application = Application.objects.create(organisation=builders, name="Shop")
    other = Application.objects.create(organisation=builders, name="Till")
    tokens = {name: _token(user) for name, user in people.items()}
    return World(
        acme=acme,
        builders=builders,
        strangers=strangers,
        rival=rival,
        people=people,
        api=api,
        version=version,
        draft=make_version(api, "v2", state="draft"),
        product=product,
        plan=plan,
        application=application,
        subscription=Subscription.objects.create(application=application, plan=plan, product=product, state="active"),
        request=Subscription.objects.create(application=other, plan=asked, product=product, state="requested"),
        credential=Credential.objects.create(
            application=application, digest=token_bytes(32), prefix="ak_live_AbCdEf", last4="wxyz"
        ),
        membership=membership,
        invitation=Invitation.objects.create(
            organisation=acme,
            email="charlie@example.com",
            role=Role.VIEWER,
            expires_at=timezone.now() + timedelta(days=1),
        ),
        token=tokens["alice"][0],
        secrets={name: secret for name, (_, secret) in tokens.items()},
    )


def _deploy(version: Version) -> None:
    """What publishing leaves behind: a frozen revision that the gateway serves."""
    version.deployed_revision = Revision.objects.create(
        version=version, number=1, specification=version.specification, configuration=configuration_of(version)
    )
    version.save()


def _token(user: User) -> tuple[ApiToken, str]:
    """A token in the person's first organisation, whatever their role: the matrix tests the role, not the issuing."""
    membership = user.memberships.select_related("organisation").first()
    organisation = membership.organisation if membership else own_organisation(user)
    key = generate_key("apimgr")
    digest = digest_key(key.secret.encode(), settings.KEY_PEPPER)
    token = ApiToken.objects.create(
        organisation=organisation, user=user, name="Matrix", digest=digest, prefix=key.prefix, last4=key.last4
    )
    return token, key.secret
