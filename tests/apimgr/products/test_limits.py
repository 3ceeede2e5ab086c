"""Limits of every kind, of plans and of APIs: what is refused, what stays, and when one holds nobody back."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog.models import API, Operation, Revision, Version
from apimgr.catalog.services.publication import configuration_of
from apimgr.core.errors import DomainError, NotAllowed, NotFound
from apimgr.products import selectors, services
from apimgr.products.models import Limit, Plan
from apimgr.products.services import LimitTerms
from apimgr.products.services.limits import MAX_LIMITS
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def api(acme: Organisation) -> API:
    return make_api(acme, "Orders")


@pytest.fixture
def version(api: API) -> Version:
    return deploy(make_version(api))


@pytest.fixture
def operation(version: Version) -> Operation:
    return version.operations.get()


@pytest.fixture
def plan(version: Version) -> Plan:
    return make_plan(make_product(version))


def deploy(version: Version) -> Version:
    number = version.revisions.count() + 1
    version.deployed_revision = Revision.objects.create(
        version=version, number=number, specification=version.specification, configuration=configuration_of(version)
    )
    version.save()
    return version


def words(owner: Plan | API) -> list[str]:
    return [str(limit) for limit in owner.limits.all()]


def test_every_kind_in_plain_words(oscar: User, plan: Plan, operation: Operation) -> None:
    limits = [
        ("rate", 10, "second"),
        ("rate", 60, "minute"),
        ("rate", 5_000, "day"),
        ("quota", 10_000, "billing"),
        LimitTerms("concurrency", 5),
        LimitTerms("rate", 5, "minute", operation_id=operation.pk),
        LimitTerms("concurrency", 1, operation_id=operation.pk),
        LimitTerms("rate", 30, "minute", api_id=operation.version.api_id),
    ]
    services.change_limits(actor=oscar, plan=plan, limits=limits)
    assert words(plan) == [
        "60 per minute",
        "10 per second",
        "5,000 per day, spread over it",
        "10,000 per billing month",
        "5 at once",
        "GET /get in v1: 5 per minute",
        "GET /get in v1: 1 at once",
        "Orders: 30 per minute",
    ]


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ([("concurrency", 1, "minute")], "no period"),
        ([("concurrency", 65_536, "none")], "at most 65,535"),
        ([("rate", 1, "none")], "per second or minute"),
        ([("rate", 10_000_001, "second")], "at most 10,000,000"),
        ([LimitTerms("rate", 1, "minute", 1, 2)], "not to both"),
        ([LimitTerms("rate", 1, "minute", None, 2)], "no such operation"),
        ([LimitTerms("rate", 1, "minute", 1)], "no version of this API"),
        ([LimitTerms("quota", 1, "day", None, number) for number in range(MAX_LIMITS + 1)], "can be 50"),
    ],
)
def test_what_makes_no_sense_is_refused(oscar: User, plan: Plan, limits: list[LimitTerms], says: str) -> None:
    before = words(plan)
    with pytest.raises(DomainError, match=says) as error:
        services.change_limits(actor=oscar, plan=plan, limits=limits)
    assert error.value.fields.keys() == {"limits"}
    assert words(plan) == before


def test_another_product_s_operation_and_api_are_not_there(oscar: User, plan: Plan, acme: Organisation) -> None:
    other = make_version(make_api(acme, "Prices"))
    for terms in (
        LimitTerms("rate", 1, "minute", operation_id=other.operations.get().pk),
        LimitTerms("rate", 1, "minute", api_id=other.api_id),
    ):
        with pytest.raises(DomainError):
            services.change_limits(actor=oscar, plan=plan, limits=[terms])


def test_a_limit_outlives_its_operation_and_holds_nobody_else(oscar: User, plan: Plan, operation: Operation) -> None:
    """A newer revision without the operation: the limit stays where it is, and never becomes one for all calls."""
    narrowed = LimitTerms("rate", 1, "minute", operation_id=operation.pk)
    services.change_limits(actor=oscar, plan=plan, limits=[narrowed])
    limit = plan.limits.get()
    assert limit.is_served
    operation.is_current = False
    operation.save()
    deploy(operation.version)
    gone = plan.limits.get()
    assert (gone.pk, gone.operation_id, gone.is_served) == (limit.pk, operation.pk, False)
    assert plan.served_limits == []
    services.change_limits(actor=oscar, plan=plan, limits=[narrowed._replace(amount=2)])
    assert plan.limits.get().pk == limit.pk, "what is there may stay"
    services.change_limits(actor=oscar, plan=plan, limits=[])
    with pytest.raises(DomainError, match="no such operation"):
        services.change_limits(actor=oscar, plan=plan, limits=[narrowed])


def test_a_draft_s_operations_are_nobody_s_business_yet(oscar: User, plan: Plan, api: API) -> None:
    draft = make_version(api, "v2", state="draft")
    plan.product.versions.add(draft)
    hidden = LimitTerms("rate", 1, "minute", operation_id=draft.operations.get().pk)
    services.change_limits(actor=oscar, plan=plan, limits=[hidden])
    services.change_api_limits(actor=oscar, api=api, limits=[hidden])
    assert plan.limits.count() == api.limits.count() == 1
    assert plan.served_limits == []
    assert selectors.public_api_limits(api) == []


def test_limits_of_an_api_and_who_may_set_them(
    oscar: User, victor: User, charlie: User, api: API, operation: Operation
) -> None:
    services.change_api_limits(actor=oscar, api=api, limits=[("rate", 100, "second"), LimitTerms("concurrency", 20)])
    kept = api.limits.get(kind="rate").pk
    narrowed = LimitTerms("quota", 5, "day", operation_id=operation.pk)
    services.change_api_limits(actor=oscar, api=api, limits=[("rate", 50, "second"), narrowed])
    assert words(api) == ["50 per second", "GET /get in v1: 5 per day"]
    assert api.limits.get(kind="rate").pk == kept, "and with it what was used"
    entry = AuditEntry.objects.filter(action="products.api.limits_changed").order_by("-id")[0]
    assert entry.data["after"] == [["rate", 50, "second"], ["quota", 5, "day", "GET /get in v1"]]
    with pytest.raises(DomainError, match="per day or month, not per billing"):
        services.change_api_limits(actor=oscar, api=api, limits=[("quota", 5, "billing")])
    with pytest.raises(DomainError, match="leave the API out"):
        services.change_api_limits(actor=oscar, api=api, limits=[LimitTerms("rate", 5, "minute", api_id=api.pk)])
    for person, refusal in ((victor, NotAllowed), (charlie, NotFound)):
        with pytest.raises(refusal):
            services.change_api_limits(actor=person, api=api, limits=[])


def test_rules_of_a_plan_in_sentences(oscar: User, plan: Plan) -> None:
    assert plan.rules == ["A call that the API fails counts against the quota."]
    services.update_plan(actor=oscar, plan=plan, without_grantor="closed", counts_failures=False)
    plan.refresh_from_db()
    assert plan.rules == [
        "A call that the API fails does not count against the quota.",
        "While limits cannot be checked, calls are refused.",
    ]
    with pytest.raises(DomainError):
        services.update_plan(actor=oscar, plan=plan, without_grantor="ajar")


def test_narrowed_limits_cost_no_query_each(oscar: User, plan: Plan, version: Version) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            for found in selectors.plans_for(oscar):
                assert words(found)
                assert found.served_limits
        return len(queries)

    Limit.objects.create(plan=plan, kind="rate", amount=1, period="hour", operation=version.operations.get())
    one = count()
    for number in range(19):
        operation = Operation.objects.create(version=version, method="GET", path=f"/{number}")
        Limit.objects.create(plan=plan, kind="rate", amount=1, period="hour", operation=operation)
    assert count() == one
