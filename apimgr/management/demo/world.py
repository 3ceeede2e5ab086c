"""The demo's people, APIs, applications and keys, made by the services a person's clicks would call."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from apimgr.accounts import services as accounts
from apimgr.accounts.models import Organisation, Role, User
from apimgr.catalog import services as catalog
from apimgr.catalog.models import API, Version, VersionState
from apimgr.contracts.credentials import digest_key
from apimgr.products import services as products
from apimgr.products.models import Plan
from portal import services as portal
from portal.models import Application, Credential

HERE = Path(__file__).parent
PUBLISHER = "Fjord Logistics"
DOMAIN = "fjord.example"
#: role in demo.json: name, role in the publishing organisation
STAFF = {
    "admin": ("Ada Lindqvist", Role.ADMINISTRATOR),
    "publisher": ("Alice Moreau", Role.PUBLISHER),
    "owner": ("Oscar Bergström", Role.PRODUCT_OWNER),
}
VIEWERS = (("Victor Hale", "victor"),)
#: name, address, and their applications
DEVELOPERS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Dev Anand", "developer@builders.example", {"Getting started": "The first calls", "Load test": "Our own load"}),
    ("Mina Okafor", "mina@parcelbird.example", {"Parcelbird app": "On the phone", "Parcelbird staging": ""}),
    ("Jonas Weber", "jonas@shopfront.example", {"Checkout": "Delivery prices in the basket"}),
    ("Sofia Ricci", "sofia@nightowl.example", {"Night sync": "Copies every parcel at two"}),
    ("Tomás Silva", "tomas@mapworks.example", {"Depot finder": "Depots on a map"}),
    ("Priya Nair", "priya@quanta.example", {"Uptime probe": "Is it there?", "Quanta lab": ""}),
)


@dataclass
class World:
    """What the demo's usage and ``demo.json`` are made of."""

    organisation: Organisation
    users: dict[str, User]
    versions: dict[str, Version]
    plans: dict[str, Plan]
    applications: dict[str, Application] = field(default_factory=dict)
    credentials: dict[str, Credential] = field(default_factory=dict)


def password() -> str:
    return secrets.token_urlsafe(12)


def exists() -> bool:
    return Organisation.objects.filter(name=PUBLISHER, is_publisher=True).exists()


def build(upstream_url: str) -> tuple[World, dict[str, Any]]:
    """Everything from nothing, and the secrets that can be read only now."""
    organisation = accounts.create_organisation(actor=None, name=PUBLISHER, is_publisher=True)
    users, told = _staff(organisation)
    httpbin, parcels = _apis(users["publisher"], organisation, upstream_url)
    world = World(organisation, users, {**httpbin, **parcels}, {})
    _plans(world)
    told["accounts"]["developer"] = _developers(world)
    keys = _subscribe(world)
    _, told["api_token"] = accounts.issue_api_token(
        actor=users["publisher"], organisation=organisation, name="Demo token"
    )
    return world, told | keys


def _staff(organisation: Organisation) -> tuple[dict[str, User], dict[str, Any]]:
    users, told = {}, {}
    for key, (name, role) in STAFF.items():
        secret = password()
        users[key] = accounts.create_user(
            actor=None, email=f"{key}@{DOMAIN}", password=secret, name=name, is_operator=key == "admin"
        )
        accounts.add_member(actor=None, organisation=organisation, user=users[key], role=role)
        told[key] = {"email": users[key].email, "password": secret}
    for name, local in VIEWERS:
        viewer = accounts.create_user(actor=None, email=f"{local}@{DOMAIN}", password=password(), name=name)
        accounts.add_member(actor=users["admin"], organisation=organisation, user=viewer, role=Role.VIEWER)
    return users, {"accounts": told}


def _apis(actor: User, organisation: Organisation, upstream_url: str) -> tuple[dict[str, Version], dict[str, Version]]:
    httpbin = catalog.create_api(
        actor=actor,
        organisation=organisation,
        name="httpbin",
        summary="Answers with what you sent: try your client against it.",
        description="Every method, status, encoding and delay you may want to see your client handle.",
    )
    parcels = catalog.create_api(
        actor=actor,
        organisation=organisation,
        name="Parcel tracking",
        summary="Announce parcels, follow them and find depots.",
        description="The interface our own apps use. v2 adds prices, labels and redirection on the way.",
        slug="parcels",
    )
    one = {"httpbin v1": add_version(actor, httpbin, "v1", "httpbin.yaml", upstream_url, "/httpbin/v1")}
    _roll_back(actor, one["httpbin v1"])
    mirror = f"{upstream_url}/anything"
    two = {
        f"parcels {name}": add_version(actor, parcels, name, f"parcels-{name}.yaml", mirror, f"/parcels/{name}")
        for name in ("v1", "v2")
    }
    catalog.set_selection(
        actor=actor, api=parcels, select_by="header", name="X-Api-Version", base_path="/parcels", default_version="v2"
    )
    sunset = timezone.now() + timedelta(days=75)
    two["parcels v1"] = catalog.deprecate_version(actor=actor, version=two["parcels v1"], sunset_at=sunset)
    return one, two


def add_version(actor: User, api: API, name: str, document: str, upstream_url: str, base_path: str) -> Version:
    """A published version: document, upstream, route."""
    version = catalog.add_version(actor=actor, api=api, name=name)
    specification = catalog.import_specification(
        actor=actor, api=api, content=(HERE / document).read_bytes(), source="upload", filename=document
    )
    version = catalog.use_specification(actor=actor, version=version, specification=specification)
    catalog.set_upstream(actor=actor, version=version, url=upstream_url)
    catalog.set_route(actor=actor, version=version, base_path=base_path)
    return catalog.publish_version(actor=actor, version=version)


def _roll_back(actor: User, version: Version) -> None:
    """A change that did no good and was taken back: three revisions to look at."""
    catalog.set_gateway_settings(actor=actor, version=version, max_body_bytes=64 * 2**10, unknown_operation="pass")
    catalog.publish_version(actor=actor, version=version)
    catalog.restore_revision(actor=actor, version=version, number=1)


def _plans(world: World) -> None:
    actor = world.users["publisher"]
    for name in ("httpbin v1", "parcels v2"):
        product = products.ensure_product(actor=actor, version=world.versions[name])
        slug = product.slug
        world.plans[f"{slug} free"] = product.plans.get(slug="free")
        world.plans[f"{slug} team"] = products.create_plan(
            actor=actor,
            product=product,
            name="Team",
            description="For what runs every day.",
            limits=_team_limits(world.versions[name]),
            requires_approval=slug == "parcels",
        )
        world.plans[f"{slug} internal"] = products.create_plan(
            actor=actor,
            product=product,
            name="Internal",
            description="Our own, without limits.",
            limits=[],
            is_internal=True,
        )
    # What the servers behind it can take, whoever calls.
    parcels = world.versions["parcels v2"].api
    products.change_api_limits(
        actor=actor, api=parcels, limits=[("rate", 2_000, "second"), ("concurrency", 500, "none")]
    )


def _team_limits(version: Version) -> list[products.LimitTerms]:
    """For all calls; and for what is dear to do, announcing parcels, fewer."""
    terms = products.LimitTerms
    limits = [terms("rate", 1_200, "minute"), terms("quota", 1_000_000, "billing"), terms("concurrency", 20)]
    dear = version.operations.filter(method="POST", path="/parcels").first()
    return [*limits, terms("rate", 120, "minute", operation_id=dear.pk)] if dear else limits


def _developers(world: World) -> dict[str, str]:
    """Everybody's account and applications; the first one's address and password."""
    told: dict[str, str] = {}
    for name, email, applications in DEVELOPERS:
        secret = password()
        user = accounts.create_user(actor=None, email=email, password=secret, name=name)
        organisation = accounts.own_organisation(user)
        for title, description in applications.items():
            world.applications[title] = portal.create_application(
                actor=user, organisation=organisation, name=title, description=description
            )
        world.users[email] = user
        told = told or {"email": email, "password": secret}
    return told


#: application, plan. Nobody but the publisher puts an application on an internal plan.
SUBSCRIPTIONS = (
    ("Getting started", "httpbin free"),
    ("Getting started", "parcels free"),
    ("Load test", "httpbin internal"),
    ("Load test", "parcels internal"),
    ("Parcelbird app", "parcels team"),
    ("Parcelbird staging", "parcels free"),
    ("Checkout", "parcels team"),
    ("Night sync", "parcels team"),
    ("Depot finder", "parcels free"),
    ("Depot finder", "httpbin free"),
    ("Uptime probe", "httpbin free"),
    ("Quanta lab", "httpbin team"),
)


def _subscribe(world: World) -> dict[str, str]:
    for title, slug in SUBSCRIPTIONS:
        application, plan = world.applications[title], world.plans[slug]
        actor = None if plan.is_internal else application.created_by
        subscription = portal.subscribe(actor=actor, application=application, plan=plan)
        if subscription.state == "requested":
            portal.approve_subscription(actor=world.users["publisher"], subscription=subscription)
    keys = {title: _issue(world, application) for title, application in world.applications.items()}
    # One request waits, so that the approvals page has something to decide.
    lab = world.applications["Quanta lab"]
    portal.subscribe(actor=lab.created_by, application=lab, plan=world.plans["parcels team"])
    return {"api_key": keys["Getting started"], "api_key_unlimited": keys["Load test"]}


def _issue(world: World, application: Application) -> str:
    credential, key = portal.issue_credential(actor=application.created_by, application=application, name="Production")
    world.credentials[application.name] = credential
    return key.secret


# --- The second start -----------------------------------------------------------------------------------------------
def still_good(told: dict[str, Any]) -> bool:
    """Whether what ``demo.json`` tells opens this database's doors."""
    keys = [told.get(name, "") for name in ("api_key", "api_key_unlimited")]
    digests = [digest_key(key.encode(), settings.KEY_PEPPER) for key in keys]
    people = [(each["email"], each["password"]) for each in told.get("accounts", {}).values()]
    return (
        Credential.objects.filter(digest__in=digests, state="active").count() == len(keys)
        and len(people) == len(STAFF) + 1
        and all((user := User.objects.filter(email=email).first()) and user.check_password(p) for email, p in people)
    )


def renew() -> dict[str, Any]:
    """New passwords, keys and token for a world whose ``demo.json`` was lost: the old ones cannot be read again."""
    organisation = Organisation.objects.get(name=PUBLISHER, is_publisher=True)
    told: dict[str, Any] = {"accounts": {}}
    addresses = {key: f"{key}@{DOMAIN}" for key in STAFF} | {"developer": DEVELOPERS[0][1]}
    for key, email in addresses.items():
        user, secret = User.objects.get(email=email), password()
        user.set_password(secret)
        user.save(update_fields=["password"])
        told["accounts"][key] = {"email": email, "password": secret}
    for name, title in (("api_key", "Getting started"), ("api_key_unlimited", "Load test")):
        application = Application.objects.get(name=title, organisation__memberships__user__email=DEVELOPERS[0][1])
        _, key_ = portal.issue_credential(actor=None, application=application, name="Production")
        told[name] = key_.secret
    publisher = User.objects.get(email=addresses["publisher"])
    _, told["api_token"] = accounts.issue_api_token(actor=publisher, organisation=organisation, name="Demo token")
    return told


def move_upstream(upstream_url: str) -> None:
    """Point the live versions at where the demo upstream is this time."""
    for version in Version.objects.filter(
        api__organisation__name=PUBLISHER, state__in=[VersionState.PUBLISHED, VersionState.DEPRECATED]
    ).select_related("upstream", "api__organisation"):
        url = version.upstream.url
        wanted = upstream_url + ("/anything" if url.endswith("/anything") else "")
        if url != wanted and url.startswith("http://127.0.0.1:"):
            catalog.set_upstream(actor=None, version=version, url=wanted)
            catalog.publish_version(actor=None, version=version)
