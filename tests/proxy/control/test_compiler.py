from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import API, Operation, Revision, Selection, Version
from apimgr.contracts import snapshot
from apimgr.core.errors import DomainError
from apimgr.products.models import ApiLimit, Limit, Plan, Product
from portal.models import Application, Credential, Subscription, SubscriptionState
from proxy import compiler
from tests.factories import make_specification

GOLDEN = Path(__file__).parents[2] / "golden" / "compiler"
CONFIGURATION: dict[str, Any] = {
    "upstream": {
        "url": "https://orders.internal:8443/api/",
        "connect_timeout_ms": 2000,
        "read_timeout_ms": 9000,
        "preserve_host": True,
    },
    "route": {"host": "api.example.com", "base_path": "/orders/v1"},
    "operations": [[501, "GET", "/orders"], [502, "POST", "/orders"], [503, "GET", "/orders/{id}"]],
}
pytestmark = pytest.mark.django_db


@pytest.fixture
def version() -> Version:
    acme = Organisation.objects.create(id=1, name="Acme", slug="acme", is_publisher=True)
    api = API.objects.create(id=2, organisation=acme, name="Orders", slug="orders")
    version = Version.objects.create(id=3, api=api, name="v1", state="published")
    return deploy(version, CONFIGURATION)


def deploy(version: Version, configuration: dict[str, Any]) -> Version:
    version.deployed_revision = Revision.objects.create(
        version=version,
        number=version.revisions.count() + 1,
        specification=make_specification(version.api),
        configuration=configuration,
    )
    version.save()
    return version


@pytest.fixture
def plan(version: Version) -> Plan:
    product = Product.objects.create(id=4, organisation_id=1, name="Orders", slug="orders")
    product.versions.add(version)
    plan = Plan.objects.create(id=5, product=product, name="Free", slug="free")
    Limit.objects.create(id=7, plan=plan, kind="rate", amount=60, period="minute")
    Limit.objects.create(id=6, plan=plan, kind="quota", amount=10_000, period="month")
    return plan


@pytest.fixture
def credential(plan: Plan) -> Credential:
    builders = Organisation.objects.create(id=10, name="Builders", slug="builders")
    application = Application.objects.create(id=11, organisation=builders, name="Shop")
    for number, state in enumerate(["cancelled", "rejected", "active"], 12):
        Subscription.objects.create(
            id=number, application=application, plan=plan, product_id=plan.product_id, state=state
        )
    return Credential.objects.create(
        id=20,
        application=application,
        digest=bytes(range(32)),
        prefix="ak_test_AbCdEf",
        last4="wxyz",
        is_test=True,
        expires_at=datetime(2027, 1, 1, tzinfo=UTC),
    )


def expect(name: str, *documents: snapshot.Document) -> None:
    """Compare with ``tests/golden/compiler``. A missing file is written and has to be read by a person."""
    got = "".join(json.dumps(json.loads(snapshot.dump(item)), indent=2, sort_keys=True) + "\n" for item in documents)
    path = GOLDEN / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(got)
        pytest.fail(f"{path} was written: look at it and commit it")
    assert got == path.read_text()


def test_a_published_version(version: Version, plan: Plan) -> None:
    expect("published", *compiler.version_changes(version).documents)


def test_a_deprecated_version(version: Version, plan: Plan) -> None:
    version.state = "deprecated"
    version.deprecated_at, version.sunset_at = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)
    expect("deprecated", compiler.version_document(version))


def test_a_retired_version_keeps_its_address(version: Version) -> None:
    version.state = "retired"
    expect("retired", *compiler.version_changes(version).documents)


def test_versions_at_one_address(version: Version) -> None:
    """One route for all, the retired among them, and each version's own address given up."""
    second = Version.objects.create(id=8, api=version.api, name="v2", selector="2025-04-01", state="retired")
    deploy(second, CONFIGURATION | {"route": {"host": "", "base_path": "/orders/v2"}})
    Version.objects.create(id=9, api=version.api, name="v3")  # a draft: no gateway has heard of it
    version.api.selection = Selection.objects.create(
        api=version.api,
        select_by="query",
        name="api-version",
        host="api.example.com",
        base_path="/orders",
        default_version=version,
    )
    version.api.save()
    changes = compiler.changes_of([version, second])
    expect("shared", *changes.documents)
    assert changes.tombstones == (("route", "api.example.com/orders/v1"), ("route", "/orders/v2"))
    assert [document.key for document in compiler.everything()] == ["3", "api.example.com/orders", "8"]


@pytest.mark.parametrize(
    ("configuration", "says"),
    [
        (
            {"operations": [[n, "GET", f"/r{n}"] for n in range(1, 10_002)]},
            "there are 10,001 operations, more than the 10,000 of a version",
        ),
        (
            {"operations": [[1, "GET", "/" + "\x01" * 350_000]]},
            "it has 2,100,577 bytes, more than 2,097,152",
        ),
    ],
    ids=["operations", "bytes"],
)
def test_more_than_every_node_should_keep_is_refused(
    version: Version, configuration: dict[str, Any], says: str
) -> None:
    deploy(version, CONFIGURATION | configuration)
    with pytest.raises(DomainError) as error:
        compiler.version_changes(version)
    assert error.value.message == f"The gateway would not load this configuration: {says}."
    assert error.value.fix == "Correct the version's definition and import it again."


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "X-Api-Key"},
        {"name": "a b"},
        {"base_path": "/a/../b"},
        {"host": "UPPER"},
        {"select_by": "cookie"},
    ],
)
def test_a_selection_no_gateway_could_choose_by_is_refused(version: Version, wrong: dict[str, str]) -> None:
    usual = {"select_by": "header", "name": "X-Version", "base_path": "/orders"}
    version.api.selection = Selection.objects.create(api=version.api, **usual | wrong)
    with pytest.raises(DomainError) as error:
        compiler.version_changes(version)
    assert error.value.code == "bad_gateway_configuration"
    assert error.value.fix == "Correct how callers tell versions apart, in the API's settings."


def test_what_developers_own(credential: Credential, plan: Plan) -> None:
    documents = (
        compiler.plan_document(plan),
        compiler.application_document(credential.application),
        compiler.credential_document(credential),
    )
    expect("developer", *documents)


def test_limits_of_every_kind(version: Version, plan: Plan) -> None:
    """All of a plan's, and of an API's those for all calls and for the version's own operations."""
    for number, (method, path) in {502: ("POST", "/orders"), 504: ("GET", "/gone")}.items():
        Operation.objects.create(id=number, version=version, method=method, path=path)
    draft = Version.objects.create(id=30, api=version.api, name="v2", state="draft")
    Operation.objects.create(id=505, version=draft, method="GET", path="/orders")
    plan.without_grantor, plan.counts_failures = "closed", False
    Limit.objects.create(id=31, plan=plan, kind="concurrency", amount=5, period="none")
    Limit.objects.create(id=32, plan=plan, kind="quota", amount=9, period="billing", api_id=2)
    Limit.objects.create(id=33, plan=plan, kind="rate", amount=1, period="second", operation_id=502)
    Limit.objects.create(id=34, plan=plan, kind="rate", amount=1, period="second", operation_id=504)
    ApiLimit.objects.create(id=35, api_id=2, kind="concurrency", amount=100, period="none")
    ApiLimit.objects.create(id=36, api_id=2, kind="rate", amount=7, period="minute", operation_id=502)
    ApiLimit.objects.create(id=37, api_id=2, kind="rate", amount=8, period="minute", operation_id=505)
    expect("limits", compiler.plan_document(plan), compiler.version_document(version))


def test_a_billing_month_begins_on_the_day_of_the_first_activation(credential: Credential) -> None:
    Subscription.objects.update(billing_from=datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    (subscription,) = compiler.application_document(credential.application).subscriptions
    assert subscription.billing_anchor == datetime(2026, 1, 31, tzinfo=UTC).timestamp()


def test_a_revoked_credential(credential: Credential) -> None:
    credential.state = "revoked"
    assert compiler.credential_document(credential).state == "revoked"


def test_a_former_address_is_given_up(version: Version) -> None:
    moved = {**CONFIGURATION, "route": {"host": "", "base_path": "/orders/new"}}
    changes = compiler.version_changes(deploy(version, moved))
    assert changes.tombstones == (("route", "api.example.com/orders/v1"),)


def test_everything_there_should_be(credential: Credential) -> None:
    kinds = [snapshot.KIND_OF[type(document)] for document in compiler.everything()]
    assert kinds == ["version", "route", "plan", "application", "credential"]


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x",
        "//x",
        "http://",
        "http://user:pass@x",
        "http://x?a=b",
        "http://x#a",
        "http://x y",
        "http://x:99999",
        "http://x\r\nEvil: 1",
    ],
)
def test_an_upstream_no_gateway_could_call_is_refused(version: Version, url: str) -> None:
    with pytest.raises(DomainError) as error:
        compiler.version_changes(deploy(version, {**CONFIGURATION, "upstream": {"url": url}}))
    assert error.value.fix == "Correct it in the version's gateway settings."


@pytest.mark.parametrize(
    "route",
    [
        {"host": "", "base_path": "orders"},
        {"host": "api.example.com:8443", "base_path": "/orders"},
        {"host": "", "base_path": "/orders/"},
        {"host": "", "base_path": "/orders/../admin"},
        {"host": "", "base_path": "/a%2fb"},
        {"host": "", "base_path": "/a" * 16},
        {"host": "API.example.com", "base_path": "/orders"},
        {"host": "api.example.com/x", "base_path": "/orders"},
    ],
)
def test_an_address_no_gateway_could_serve_is_refused(version: Version, route: dict[str, str]) -> None:
    with pytest.raises(DomainError) as error:
        compiler.version_changes(deploy(version, {**CONFIGURATION, "route": route}))
    assert error.value.fix == "Correct where callers find the version, in its gateway settings."


IN_SETTINGS = "Correct it in the version's gateway settings."


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"upstream": {"url": "http://x", "read_timeout_ms": "soon"}}, IN_SETTINGS),
        ({"upstream": {"url": "http://x", "read_timeout_ms": 0}}, IN_SETTINGS),
        ({"upstream": {"url": "http://x", "balance": "random"}}, IN_SETTINGS),
        ({"gateway": {"authentication": "basic"}}, IN_SETTINGS),
        ({"gateway": {"cors": {}}}, IN_SETTINGS),
        ({"gateway": {"id": 4}}, IN_SETTINGS),
        ({"operations": [["a", "GET", "/"]]}, "Correct the version's definition and import it again."),
    ],
)
def test_what_a_gateway_would_not_load_is_refused(version: Version, change: dict[str, Any], fix: str) -> None:
    with pytest.raises(DomainError) as error:
        compiler.version_changes(deploy(version, {**CONFIGURATION, **change}))
    assert error.value.fix == fix


def test_a_revision_that_lacks_a_part_is_published_anew(version: Version) -> None:
    with pytest.raises(DomainError) as error:
        compiler.version_changes(deploy(version, {"route": {"host": "", "base_path": "/orders"}}))
    assert error.value.fix == "Publish the version anew."


def test_limits_no_gateway_could_count_are_put_right_where_they_are_set(version: Version, plan: Plan) -> None:
    """Not in the gateway settings, wherever they were when it came out."""
    Limit.objects.create(id=40, plan=plan, kind="concurrency", amount=10**9, period="none")
    with pytest.raises(DomainError) as error:
        compiler.plan_document(plan)
    assert error.value.fix == "Correct the limits of the plan."
    ApiLimit.objects.create(id=41, api_id=version.api_id, kind="concurrency", amount=10**9, period="none")
    with pytest.raises(DomainError) as error:
        compiler.version_changes(version)
    assert error.value.fix == "Correct the limits of the API, which hold for all callers together."
    assert "not between 1 and 65535" in error.value.message


# What a caller is told of each state, and the words that the page of the outcome has for it.
TOLD = {
    "requested": ("subscription_missing", "waits for the publisher's approval"),
    "rejected": ("subscription_missing", "was rejected"),
    "cancelled": ("subscription_missing", "the subscription was cancelled"),
    "suspended": ("subscription_inactive", "its publisher has suspended it"),
    "active": ("", ""),
}


@pytest.mark.parametrize("state", SubscriptionState.values)
def test_the_state_of_a_subscription_is_told_as_its_page_says(credential: Credential, state: str) -> None:
    """A gateway is told of active and suspended ones alone; whoever waits must not be told to subscribe and no more."""
    application = credential.application
    application.subscriptions.exclude(state="active").delete()
    application.subscriptions.update(state=state)
    sent = compiler.application_document(application).subscriptions
    told = "subscription_missing" if not sent else "" if sent[0].state == "active" else "subscription_inactive"
    assert told == TOLD[state][0]
    if told:
        pages = Path(__file__).parents[3] / "docs" / "reference" / "outcomes"
        assert TOLD[state][1] in " ".join((pages / f"{told}.md").read_text().split())
