from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog import services as catalog
from apimgr.catalog.models import Version
from apimgr.core import events
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from apimgr.products import selectors, services
from apimgr.products.events import PlanChanged, ProductVersionsChanged
from apimgr.products.forms import PlanForm, limits_of
from apimgr.products.models import Plan, Product
from tests.factories import make_api, make_organisation, make_plan, make_product, make_version


@pytest.fixture
def plan(acme: Organisation) -> Plan:
    return make_plan(make_product(make_version(make_api(acme, "Orders"))))


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What was emitted about plans and products."""
    heard: list[Any] = []
    before = {event: list(events._inside[event]) for event in (PlanChanged, ProductVersionsChanged)}
    events.receives(PlanChanged, ProductVersionsChanged)(heard.append)
    yield heard
    events._inside.update(before)


def shown(plan: Plan) -> list[tuple[str, int, str]]:
    return [(limit.kind, limit.amount, limit.period) for limit in plan.limits.all()]


def test_versions_of_one_api_share_its_product(alice: User, acme: Organisation, told: list[Any]) -> None:
    api = catalog.create_api(actor=alice, organisation=acme, name="Orders")
    versions = [catalog.add_version(actor=alice, api=api, name=name) for name in ("v1", "v2")]
    product = Product.objects.get()
    assert set(product.versions.all()) == set(versions)
    plan = product.plans.get()
    assert (plan.name, plan.requires_approval, plan.is_internal) == ("Free", False, False)
    assert shown(plan) == [("rate", 60, "minute"), ("quota", 10_000, "month")]
    changed = ProductVersionsChanged(product.pk)
    assert told == [PlanChanged(plan.pk), changed, changed]
    assert services.ensure_product(actor=alice, version=versions[0]) == product
    assert len(told) == 3


def test_slug_another_organisation_has_as_a_product_is_not_joined(alice: User, acme: Organisation) -> None:
    rival = make_organisation("Rival")
    theirs = Product.objects.create(organisation=rival, name="Orders", slug="orders")
    api = catalog.create_api(actor=alice, organisation=acme, name="Orders")
    version = catalog.add_version(actor=alice, api=api, name="v1")
    own = Product.objects.get(versions=version)
    assert own != theirs
    assert own.organisation == acme
    assert services.ensure_product(actor=None, version=version) == own


def test_version_without_a_plan_says_so(plan: Plan) -> None:
    version = Version.objects.get()
    assert catalog.publication_problems(version) == []
    plan.delete()
    assert [problem.code for problem in catalog.publication_problems(version)] == ["plan"]


def test_what_others_changed_about_a_plan_meanwhile_stays(oscar: User, plan: Plan) -> None:
    as_it_was = Plan.objects.get(pk=plan.pk)
    services.update_plan(actor=oscar, plan=plan, counts_failures=False)
    services.update_plan(actor=oscar, plan=as_it_was, without_grantor="closed")
    plan.refresh_from_db()
    assert (plan.counts_failures, plan.without_grantor) == (False, "closed")


def test_limit_that_stays_keeps_its_id(oscar: User, plan: Plan, told: list[Any]) -> None:
    before = {limit.kind: limit.pk for limit in plan.limits.all()}
    services.change_limits(actor=oscar, plan=plan, limits=[("rate", 120, "minute"), ("rate", 5, "second")])
    after = {(limit.kind, limit.period): (limit.pk, limit.amount) for limit in plan.limits.all()}
    assert after.keys() == {("rate", "minute"), ("rate", "second")}
    assert after["rate", "minute"] == (before["rate"], 120)
    assert told == [PlanChanged(plan.pk)]
    entry = AuditEntry.objects.get(action="products.plan.limits_changed")
    assert entry.data["before"] == [["rate", 60, "minute"], ["quota", 10_000, "month"]]
    assert entry.data["after"] == [["rate", 120, "minute"], ["rate", 5, "second"]]


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ([("burst", 1, "minute")], "not “burst”"),
        ([("rate", 1, "month")], "second or minute or hour or day"),
        ([("quota", 1, "hour")], "day or month or billing"),
        ([("rate", 0, "minute")], "at least 1"),
        ([("rate", -1, "minute")], "at least 1"),
        ([("rate", 10**13, "minute")], "at most"),
        ([("rate", 1, "minute"), ("rate", 2, "minute")], "two"),
    ],
)
def test_limits_that_make_no_sense(oscar: User, plan: Plan, limits: list[tuple[str, int, str]], words: str) -> None:
    for act in (
        lambda: services.change_limits(actor=oscar, plan=plan, limits=limits),
        lambda: services.create_plan(actor=oscar, product=plan.product, name="New", limits=limits),
    ):
        with pytest.raises(DomainError, match=words) as error:
            act()
        assert error.value.fields.keys() == {"limits"}
    assert Plan.objects.count() == 1


def test_plans_of_a_product(oscar: User, plan: Plan) -> None:
    gold = services.create_plan(actor=oscar, product=plan.product, name="Gold", limits=[], requires_approval=True)
    assert (gold.slug, gold.position, shown(gold)) == ("gold", 1, [])
    with pytest.raises(Conflict):
        services.create_plan(actor=oscar, product=plan.product, name="gold")
    services.update_plan(actor=oscar, plan=gold, name="Platinum", requires_approval=False)
    gold.refresh_from_db()
    assert (gold.name, gold.slug, gold.requires_approval) == ("Platinum", "gold", False)


def test_who_may_change_plans(oscar: User, victor: User, charlie: User, plan: Plan) -> None:
    services.change_limits(actor=oscar, plan=plan, limits=[])
    for person, refusal in ((victor, NotAllowed), (charlie, NotFound)):
        with pytest.raises(refusal):
            services.change_limits(actor=person, plan=plan, limits=[])
        with pytest.raises(refusal):
            services.create_plan(actor=person, product=plan.product, name="X")
        with pytest.raises(refusal):
            services.update_plan(actor=person, plan=plan, name="X")


def test_who_sees_plans(acme: Organisation, oscar: User, victor: User, dev: User, plan: Plan) -> None:
    internal = make_plan(plan.product, "Internal", is_internal=True)
    for viewer in (oscar, victor):
        assert list(selectors.plans_for(viewer)) == [plan, internal]
        assert selectors.product_for(viewer, "orders") == plan.product
        assert selectors.plan_for(viewer, plan.pk) == plan
    assert not selectors.products_for(dev)
    with pytest.raises(NotFound):
        selectors.product_for(dev, "orders")
    with pytest.raises(NotFound):
        selectors.plan_for(dev, plan.pk)
    api = Version.objects.get().api
    assert list(selectors.plans_of(api)) == [plan, internal]
    assert list(selectors.public_plans(api)) == [plan]
    Version.objects.update(state="draft")
    assert not selectors.public_plans(api)


def test_queries_do_not_grow_with_rows(acme: Organisation, oscar: User) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            for product in selectors.products_for(oscar):
                assert [str(version) for version in product.versions.all()]
                assert [shown(plan) for plan in product.plans.all()]
        return len(queries)

    make_plan(make_product(make_version(make_api(acme))))
    one = count()
    for _ in range(19):
        make_plan(make_product(make_version(make_api(acme))))
    assert count() == one


def test_form_gives_terms(plan: Plan) -> None:
    form = PlanForm({"name": "Gold", **limits_of(plan), "rate_second": "", "quota_day": 5})
    assert form.is_valid(), form.errors
    assert [term[:3] for term in form.terms] == [
        ("rate", 60, "minute"),
        ("quota", 5, "day"),
        ("quota", 10_000, "month"),
    ]
    assert not PlanForm({"name": "Gold", "rate_minute": 0}).is_valid()
