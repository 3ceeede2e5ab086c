"""Limits of every kind, of plans and of APIs: what is refused, what stays, and when one holds nobody back."""

from __future__ import annotations

from importlib import import_module

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog.models import API, Operation, Revision, Version
from apimgr.catalog.services.publication import configuration_of
from apimgr.contracts.bounds import MAX_LIMITS
from apimgr.core.errors import DomainError, NotAllowed, NotFound
from apimgr.products import selectors, services
from apimgr.products.models import Limit, Plan, Product
from apimgr.products.services import LimitTerms
from proxy import compiler
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


# --- Plans of one product count together ------------------------------------------------------------------------------


def counted_by(plan: Plan) -> dict[str, int]:
    return {str(limit): limit.counted_by for limit in plan.limits.all()}


def own_id(plan: Plan, words: str) -> int:
    return next(limit.pk for limit in plan.limits.all() if str(limit) == words)


def test_limits_of_one_place_count_together(oscar: User, plan: Plan, api: API, operation: Operation) -> None:
    """Or who moves between two plans that anybody may take would have the quota of both."""
    narrow = LimitTerms("quota", 5, "month", operation_id=operation.pk)
    services.change_limits(actor=oscar, plan=plan, limits=[("quota", 100, "month"), ("rate", 60, "minute"), narrow])
    more = [
        ("quota", 1_000, "month"),
        ("quota", 50, "day"),
        LimitTerms("quota", 9, "month", operation_id=operation.pk),
        LimitTerms("quota", 500, "month", api_id=api.pk),
    ]
    plus = services.create_plan(actor=oscar, product=plan.product, name="Plus", limits=more)
    free, found = counted_by(plan), counted_by(plus)
    assert free == {words: own_id(plan, words) for words in free}, "who was first is counted as ever"
    assert found["1,000 per month"] == free["100 per month"]
    assert found["GET /get in v1: 9 per month"] == free["GET /get in v1: 5 per month"]
    for words in ("50 per day", "Orders: 500 per month"):
        assert found[words] == own_id(plus, words), "no other plan counts these calls so"


def test_a_limit_that_goes_and_comes_back_is_counted_as_the_others_are(oscar: User, plan: Plan) -> None:
    quota = [("quota", 100, "month")]
    services.change_limits(actor=oscar, plan=plan, limits=quota)
    first = counted_by(plan)["100 per month"]
    plus = services.create_plan(actor=oscar, product=plan.product, name="Plus", limits=quota)
    services.change_limits(actor=oscar, plan=plan, limits=[])
    assert counted_by(plus) == {"100 per month": first}, "also when the first one is gone"
    services.change_limits(actor=oscar, plan=plan, limits=[("quota", 7, "month")])
    services.change_limits(actor=oscar, plan=plus, limits=[("quota", 70, "month")])
    assert [*counted_by(plan).values(), *counted_by(plus).values()] == [first, first]
    limits = compiler.plan_document(plan).limits + compiler.plan_document(plus).limits
    assert [(limit.id, limit.amount) for limit in limits] == [(first, 7), (first, 70)]


def test_products_count_apart(oscar: User, plan: Plan, version: Version) -> None:
    parcels = Product.objects.create(organisation=version.api.organisation, name="Parcels", slug="parcels")
    parcels.versions.add(version)
    other = services.create_plan(actor=oscar, product=parcels, name="Free")
    assert set(counted_by(plan).values()).isdisjoint(counted_by(other).values())


def test_limits_of_before_count_together_from_now_on(plan: Plan, version: Version) -> None:
    """What the migration finds: each counted for itself."""
    plus = make_plan(plan.product, "Plus", ("quota", 50, "month"), ("quota", 5, "day"))
    parcels = Product.objects.create(organisation=version.api.organisation, name="Parcels", slug="parcels")
    other = make_plan(parcels, "Other", ("quota", 50, "month"))
    together = import_module("apimgr.products.migrations.0005_limits_that_count_together").TOGETHER
    with connection.cursor() as cursor:
        cursor.execute(together)
    first = own_id(plan, "10,000 per month")
    assert counted_by(plan)["10,000 per month"] == counted_by(plus)["50 per month"] == first
    assert counted_by(plus)["5 per day"] == own_id(plus, "5 per day")
    assert counted_by(other) == {"50 per month": own_id(other, "50 per month")}
