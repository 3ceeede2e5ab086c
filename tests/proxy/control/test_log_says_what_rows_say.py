"""Whatever is done by which services in which order: the log says what compiling all rows anew would say.

A change that gateways never hear of is a document that the log lacks; one that they hear of wrongly is another
document, or one that lives on for rows that are gone. Neither is found by asking for one known event at a time.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from io import StringIO
from random import Random
from typing import Any, Final

import pytest
from django.core.management import call_command
from django.db import transaction
from django.db.models import Model
from django.utils import timezone
from hypothesis import Phase, find, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from apimgr.accounts import services as accounts
from apimgr.accounts.models import Invitation, Membership, Organisation, Role, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog import services as catalog
from apimgr.catalog.models import API, Operation, Specification, Version
from apimgr.contracts import snapshot
from apimgr.contracts.credentials import IssuedKey
from apimgr.contracts.snapshot import KIND_OF, CredentialDocument, Document, OrganisationDocument
from apimgr.core import events
from apimgr.core.errors import DomainError
from apimgr.products import services as products
from apimgr.products.models import Plan, Product
from apimgr.products.services import LimitTerms
from portal import services as portal
from portal.models import Application, Credential, Subscription
from proxy import compiler, receivers
from proxy.models import GatewayChange
from proxy.services import compact_changes, forget_removals, forget_secrets, last_said
from tests.factories import make_api, make_member, make_organisation, make_user, make_version

pytestmark = pytest.mark.django_db

Entry = tuple[str, str]


# --- The claim --------------------------------------------------------------------------------------------------------


def check_log() -> None:
    told, wanted = last_words(), compiled_anew()
    assert {entry: told.get(entry) for entry in wanted} == wanted, "gateways have not heard of it"
    left = [document for entry, document in told.items() if document is not None and entry not in wanted]
    assert [document for document in left if not may_stay(snapshot.load(document))] == [], "no row stands for it"
    assert not GatewayChange.objects.filter(sequence__lte=0).exists(), "drafts are gone when the service is through"


def last_words() -> dict[Entry, str | None]:
    rows = GatewayChange.objects.order_by("kind", "key", "-sequence").distinct("kind", "key")
    return {(kind, key): document for kind, key, document in rows.values_list("kind", "key", "document")}


def compiled_anew() -> dict[Entry, str | None]:
    return {(KIND_OF[type(item)], item.key): snapshot.dump(item).decode() for item in compiler.everything()}


def may_stay(document: Document) -> bool:
    """What the log goes on saying though compiling all rows does not: two things, both so that no caller is misled.

    A secret that a key had before its former one: whoever still uses it is told that it ended, until
    ``forget_secrets``. An organisation that was stopped and calls again: gateways take one they never heard of for
    active, so only those are said to be that were once said not to be.
    """
    if isinstance(document, CredentialDocument):
        is_over = document.superseded and document.expires_at == 1
        return is_over and Credential.objects.filter(pk=document.id).exists()
    if isinstance(document, OrganisationDocument):
        return document.state == "active" and Organisation.objects.filter(pk=document.id).exists()
    return False


# --- What verbs are given ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class A:
    """One of the rows there are when it is asked for."""

    model: type[Model]
    which: int

    def __call__(self) -> Any:
        rows = list(self.model._default_manager.order_by("pk"))
        return rows[self.which % len(rows)]

    def __repr__(self) -> str:
        return f"{self.model.__name__}[{self.which}]"


@dataclass(frozen=True)
class Limits:
    """Limits of a plan or an API, one of them perhaps narrowed to an API or an operation."""

    terms: tuple[tuple[str, int, str], ...]
    api: A | None = None
    operation: A | None = None

    def __call__(self) -> list[LimitTerms]:
        api = self.api and self.api().pk
        operation = self.operation and self.operation().pk
        return [LimitTerms(*term, *(() if place else (api, operation))) for place, term in enumerate(self.terms)]


@dataclass(frozen=True)
class InDays:
    days: int

    def __call__(self) -> Any:
        return timezone.now() + timedelta(days=self.days)


@dataclass(frozen=True)
class AddressOf:
    person: A

    def __call__(self) -> str:
        return str(self.person().email)


@dataclass(frozen=True)
class Found:
    """Some of the keys that were ever shown."""

    which: int

    def __call__(self) -> list[str]:
        return KEYS[self.which % len(KEYS) :][:1] if KEYS else []


def openapi(*methods: str) -> bytes:
    operations = {method: {"responses": {"200": {"description": "Done"}}} for method in methods}
    info, servers = {"title": "Any", "version": "1"}, [{"url": "http://8.8.8.8:8090"}]
    return json.dumps({"openapi": "3.0.3", "info": info, "servers": servers, "paths": {"/it": operations}}).encode()


def a(model: type[Model]) -> st.SearchStrategy[A]:
    return st.builds(A, st.just(model), st.integers(0, 7))


DOCUMENTS: Final = (openapi("get"), openapi("get", "post"), openapi("put"))
KEYS: Final[list[str]] = []  # all that were shown; those of an example that is undone are nobody's
ONE_OF = st.sampled_from
FLAG = st.booleans()
NAME = ONE_OF(["v1", "v2", "v4", "Moon", "Sun", "Key"])
PATH = ONE_OF(["/orders", "/orders/v1", "/moved", "/payments", "/weather/v1", "/weather/v1/far", "/free"])
HOST = ONE_OF(["", "", "api.example.com"])
DAYS = st.none() | st.integers(1, 40).map(InDays)
PERIODS = [("rate", "minute"), ("rate", "second"), ("quota", "day"), ("quota", "billing"), ("concurrency", "none")]
TERMS = st.lists(st.tuples(ONE_OF(PERIODS), st.integers(1, 9)), max_size=3, unique_by=lambda term: term[0]).map(
    lambda found: tuple((kind, amount, period) for (kind, period), amount in found)
)
LIMITS = st.builds(Limits, TERMS, st.none() | a(API)) | st.builds(Limits, TERMS, st.none(), a(Operation))
ROLE = ONE_OF([str(role) for role in Role])
# Each public verb, and what it may be given; ``actor`` is the platform where it is not named.
VERBS: Final[dict[Callable[..., Any], dict[str, st.SearchStrategy[Any]]]] = {
    # The developer's side.
    portal.create_application: {"organisation": a(Organisation), "name": NAME},
    portal.update_application: {"application": a(Application), "name": NAME, "description": NAME},
    portal.suspend_application: {"application": a(Application)},
    portal.resume_application: {"application": a(Application)},
    portal.subscribe: {"actor": st.none() | a(User), "application": a(Application), "plan": a(Plan)},
    portal.change_plan: {"actor": st.none() | a(User), "subscription": a(Subscription), "plan": a(Plan)},
    portal.approve_subscription: {"subscription": a(Subscription)},
    portal.reject_subscription: {"subscription": a(Subscription)},
    portal.suspend_subscription: {"subscription": a(Subscription)},
    portal.resume_subscription: {"subscription": a(Subscription)},
    portal.cancel_subscription: {"subscription": a(Subscription)},
    portal.issue_credential: {"application": a(Application), "is_test": FLAG, "expires_at": DAYS},
    portal.roll_credential: {"credential": a(Credential), "overlap": st.integers(0, 30).map(lambda n: timedelta(n))},
    portal.end_former_secret: {"credential": a(Credential)},
    portal.set_expiry: {"credential": a(Credential), "expires_at": DAYS},
    portal.revoke_credential: {"credential": a(Credential)},
    portal.report_leak: {"keys": st.integers(0, 15).map(Found)},
    portal.quick_start: {"actor": a(User), "plan": a(Plan)},
    # What is offered.
    products.ensure_product: {"version": a(Version)},
    products.create_plan: {"product": a(Product), "name": NAME, "limits": LIMITS, "requires_approval": FLAG},
    products.update_plan: {
        "plan": a(Plan),
        "name": NAME,
        "counts_failures": FLAG,
        "without_grantor": ONE_OF(["open", "closed"]),
    },
    products.change_limits: {"plan": a(Plan), "limits": LIMITS},
    products.change_api_limits: {"api": a(API), "limits": LIMITS},
    # The catalogue.
    catalog.create_api: {"organisation": a(Organisation), "name": NAME},
    catalog.update_api: {"api": a(API), "name": NAME},
    catalog.add_version: {"api": a(API), "name": NAME},
    catalog.import_specification: {"api": a(API), "content": ONE_OF(DOCUMENTS), "source": st.just("paste")},
    catalog.use_specification: {"version": a(Version), "specification": a(Specification)},
    catalog.set_route: {"version": a(Version), "base_path": PATH, "host": HOST},
    catalog.set_upstream: {"version": a(Version), "url": ONE_OF(["http://8.8.8.8:8090", "https://8.8.4.4/deep/"])},
    catalog.set_gateway_settings: {
        "version": a(Version),
        "authentication": ONE_OF(["key", "none"]),
        "upgrades": ONE_OF([(), ("websocket",)]),
    },
    catalog.set_selection: {
        "api": a(API),
        "select_by": ONE_OF(["header", "query"]),
        "name": ONE_OF(["X-Version", "version"]),
        "base_path": PATH,
        "host": HOST,
        "default_version": ONE_OF(["", "v1", "v2"]),
        "values": st.dictionaries(ONE_OF(["v1", "v2"]), ONE_OF(["", "one", "two", "v4"])),
    },
    catalog.remove_selection: {"api": a(API)},
    catalog.publish_version: {"version": a(Version)},
    catalog.deprecate_version: {"version": a(Version), "sunset_at": DAYS},
    catalog.restore_version: {"version": a(Version)},
    catalog.retire_version: {"version": a(Version)},
    catalog.restore_revision: {"version": a(Version), "number": st.integers(1, 3)},
    # People and organisations.
    accounts.create_organisation: {"actor": st.none() | a(User), "name": NAME},
    accounts.suspend_organisation: {"organisation": a(Organisation)},
    accounts.resume_organisation: {"organisation": a(Organisation)},
    accounts.add_member: {"organisation": a(Organisation), "user": a(User), "role": ROLE},
    accounts.change_role: {"membership": a(Membership), "role": ROLE},
    accounts.remove_member: {"membership": a(Membership)},
    accounts.invite_member: {"organisation": a(Organisation), "email": a(User).map(AddressOf), "role": ROLE},
    accounts.accept_invitation: {"actor": a(User), "invitation": a(Invitation)},
    accounts.disable_user: {"user": a(User)},
    accounts.enable_user: {"user": a(User)},
}

# Those that change nothing gateways know of: a draft, an invitation, a request.
QUIET: Final = {
    catalog.create_api,
    catalog.update_api,
    catalog.import_specification,
    catalog.use_specification,
    catalog.set_route,
    catalog.set_upstream,
    catalog.set_gateway_settings,
    portal.reject_subscription,
    accounts.invite_member,
}

# Verbs of the same services that no document is made of, and why.
UNHEARD: Final[dict[Callable[..., Any], str]] = {
    accounts.create_user: "a person is in no organisation yet",
    accounts.rename_user: "no document names a person",
    accounts.withdraw_invitation: "who is only invited owns nothing",
    accounts.issue_api_token: "tokens are for the REST API",
    accounts.revoke_api_token: "tokens are for the REST API",
    catalog.fetch_specification: "import_specification, of a document from elsewhere",
    catalog.test_upstream: "changes nothing",
}


def perform(verb: Callable[..., Any], given: dict[str, Any]) -> None:
    """Raises ``DomainError`` for what is refused."""
    arguments = {name: value() if callable(value) else value for name, value in given.items()}
    done = verb(**{"actor": None, **arguments})
    KEYS.extend(part.secret for part in (done if isinstance(done, tuple) else ()) if isinstance(part, IssuedKey))


# --- The world it begins with -----------------------------------------------------------------------------------------


@contextmanager
def undone() -> Iterator[None]:
    """Nothing that is done within it stays."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.fixture
def world(db: None) -> None:
    """Something for each verb to act on. What gateways hear of is made by services, so that it is told already."""
    KEYS.clear()
    acme, globex = make_organisation("Acme"), make_organisation("Globex")
    builders, strangers = (make_organisation(name, is_publisher=False) for name in ("Builders", "Strangers"))
    dev, dan, _ = (make_user(name) for name in ("dev", "dan", "eve"))
    make_member(dev, builders, Role.ADMINISTRATOR)
    make_member(dan, strangers, Role.DEVELOPER)
    accounts.disable_user(actor=None, user=dan)
    accounts.invite_member(actor=None, organisation=strangers, email=dev.email, role=Role.DEVELOPER)
    accounts.suspend_organisation(actor=None, organisation=globex)
    orders = [published(acme, "Orders", name) for name in ("v1", "v2")]
    catalog.set_route(actor=None, version=orders[0], base_path="/moved")
    catalog.publish_version(actor=None, version=orders[0])
    returns = published(acme, "Returns", "v1")
    catalog.set_route(actor=None, version=returns, base_path="/orders/v1")  # where the first one was
    catalog.publish_version(actor=None, version=returns)
    catalog.set_upstream(actor=None, version=orders[1], url="https://8.8.4.4")
    catalog.publish_version(actor=None, version=orders[1])
    catalog.deprecate_version(actor=None, version=orders[1])
    payments, weather = published(acme, "Payments", "v1"), published(globex, "Weather", "v1")
    draft = catalog.add_version(actor=None, api=payments.api, name="v2")
    assert payments.specification is not None
    catalog.use_specification(actor=None, version=draft, specification=payments.specification)
    catalog.set_selection(actor=None, api=payments.api, select_by="header", name="X-Version", base_path="/payments")
    make_version(make_api(acme, "Bare"), state="draft")  # the one that no product was made for
    free = [Product.objects.get(versions=version).plans.get() for version in (orders[0], payments, weather)]
    gold = products.create_plan(actor=None, product=free[0].product, name="Gold", requires_approval=True)
    shop, idle = (portal.create_application(actor=None, organisation=builders, name=name) for name in ("Shop", "Idle"))
    portal.subscribe(actor=dev, application=shop, plan=gold)
    portal.subscribe(actor=None, application=shop, plan=free[1])
    stopped = portal.subscribe(actor=None, application=shop, plan=free[2])
    portal.suspend_subscription(actor=None, subscription=stopped)
    portal.suspend_application(actor=None, application=idle)
    key, first = portal.issue_credential(actor=None, application=shop)
    _, second = portal.roll_credential(actor=None, credential=key, overlap=timedelta(days=1))
    KEYS.extend((first.secret, second.secret))
    check_log()


def published(organisation: Organisation, api_name: str, name: str) -> Version:
    api = API.objects.filter(name=api_name).first() or catalog.create_api(
        actor=None, organisation=organisation, name=api_name
    )
    document = catalog.import_specification(actor=None, api=api, content=DOCUMENTS[0], source="paste")
    version = catalog.add_version(actor=None, api=api, name=name)
    catalog.use_specification(actor=None, version=version, specification=document)
    return catalog.publish_version(actor=None, version=version)


# --- The tests --------------------------------------------------------------------------------------------------------


class Gateways(RuleBasedStateMachine):
    """Any verbs in any order, and time that passes between them."""

    def __init__(self) -> None:
        super().__init__()
        self.shown = len(KEYS)
        self.undone = undone()
        self.undone.__enter__()

    @rule()
    def years_pass(self) -> None:
        """What is tidied away is nothing that still says something."""
        GatewayChange.objects.update(created_at=timezone.now() - timedelta(days=1_000))
        compact_changes()
        forget_removals()
        forget_secrets()

    @rule()
    def rebuild(self) -> None:
        before = last_said()
        call_command("rebuild_gateway", stdout=StringIO())
        assert last_said() == before, "there was something left to tell"

    @invariant()
    def log_says_what_rows_say(self) -> None:
        check_log()

    def teardown(self) -> None:
        self.undone.__exit__(None, None, None)
        del KEYS[self.shown :]


def _rule_of(verb: Callable[..., Any]) -> Callable[..., None]:
    def perform_it(self: Gateways, **given: Any) -> None:
        with suppress(DomainError):
            perform(verb, given)

    perform_it.__name__ = verb.__name__
    return rule(**VERBS[verb])(perform_it)


for each in VERBS:
    setattr(Gateways, each.__name__, _rule_of(each))


def test_any_verbs_in_any_order(world: None) -> None:
    # Not shrunk, which takes minutes: a failure names every step there was.
    phases = set(Phase) - {Phase.shrink, Phase.explain}
    bounded = settings(max_examples=6, stateful_step_count=20, phases=phases)
    run_state_machine_as_test(Gateways, settings=bounded)


def test_each_verb_can_do_something_and_is_heard(world: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that none of them is refused, or has nothing to do, however often it is tried; and no receiver is idle."""
    heard: set[type[events.Event]] = set()
    listened = {
        fact
        for fact, reactions in events._inside.items()
        if any(reaction.__module__ == receivers.__name__ for reaction in reactions)
    }
    for fact in listened:
        monkeypatch.setitem(events._inside, fact, [*events._inside[fact], lambda event: heard.add(type(event))])
    once = settings(max_examples=400, phases=[Phase.generate], database=None)
    for verb, given in VERBS.items():

        def does_something(given: dict[str, Any], verb: Callable[..., Any] = verb) -> bool:
            with undone(), suppress(DomainError):
                before = AuditEntry.objects.count(), last_said()
                perform(verb, given)
                check_log()
                is_done, is_told = AuditEntry.objects.count() > before[0], last_said() > before[1]
                return is_done if verb in QUIET else is_told
            return False

        try:
            find(st.fixed_dictionaries(given), does_something, settings=once, random=Random(0))
        except NoSuchExample:
            pytest.fail(f"{verb.__name__} never did anything that is heard of")
    assert heard == listened


def test_no_verb_is_left_out() -> None:
    """A verb names who acts: a new one is put to the test above, or said to be of no interest to gateways."""
    named = {getattr(of, name) for of in (portal, products, catalog, accounts) for name in of.__all__}
    verbs = {each for each in named if inspect.isfunction(each) and "actor" in inspect.signature(each).parameters}
    assert verbs == VERBS.keys() | UNHEARD.keys()
