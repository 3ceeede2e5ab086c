from __future__ import annotations

from collections.abc import Callable

import pytest
from django.http import HttpResponse
from django.test import Client

from apimgr.accounts.models import User
from apimgr.catalog.models import API, Operation
from apimgr.products.models import Limit, Plan
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def plan(acme: object, alice: User) -> Plan:
    return make_plan(make_product(make_version(make_api(alice.memberships.get().organisation, "Mine"))))


def test_a_product_owner_changes_limits(client: Client, oscar: User, plan: Plan) -> None:
    client.force_login(oscar)
    response = client.post(f"/console/plans/{plan.public_id}/", {"name": "Free", "rate_minute": 90})
    assert response.status_code == 302
    assert [(limit.kind, limit.amount, limit.period) for limit in plan.limits.all()] == [("rate", 90, "minute")]
    assert f"/ops/receipts/plans/{plan.public_id}/" in client.get(response["Location"]).content.decode()


def test_a_second_plan_of_the_same_name_is_refused_at_the_name(client: Client, oscar: User, plan: Plan) -> None:
    client.force_login(oscar)
    response = client.post("/console/products/mine/plans/new/", {"name": "Free", "rate_minute": 5})
    assert response.status_code == 422
    assert "name" in response.context["form"].errors


def test_a_viewer_reads_limits_and_changes_nothing(client: Client, victor: User, plan: Plan) -> None:
    client.force_login(victor)
    page = client.get(f"/console/plans/{plan.public_id}/").content.decode()
    assert "10,000 per month" in page
    assert "Save plan" not in page
    assert client.post(f"/console/plans/{plan.public_id}/", {"name": "Mine"}).status_code == 403


def test_the_wizard_sets_visibility_and_the_one_plans_limits(client: Client, alice: User, plan: Plan) -> None:
    client.force_login(alice)
    response = client.post("/console/apis/mine/versions/v1/access/", {"visibility": "private", "quota_day": 5})
    assert response["Location"] == "/console/apis/mine/versions/v1/preview/"
    assert plan.product.versions.get().api.visibility == "private"
    assert [(limit.kind, limit.amount) for limit in plan.limits.all()] == [("quota", 5)]


@pytest.fixture
def page(client: Client, oscar: User, plan: Plan) -> Callable[..., HttpResponse]:
    """The plan's page as Oscar sends it: what it holds, and what he changed."""
    client.force_login(oscar)

    def send(path: str = f"/console/plans/{plan.public_id}/", **changed: object) -> HttpResponse:
        return client.post(path, {"name": "Free", **changed})

    return send


def words(owner: Plan | API) -> list[str]:
    return [str(limit) for limit in owner.limits.all()]


def test_every_kind_of_limit_and_the_rules(page: Callable[..., HttpResponse], plan: Plan) -> None:
    sent = {"rate_second": 2, "rate_minute": 60, "quota_billing": 900, "concurrency_none": 3}
    assert page(**sent, without_grantor="closed").status_code == 302
    assert words(plan) == ["60 per minute", "2 per second", "900 per billing month", "3 at once"]
    plan.refresh_from_db()
    assert (plan.without_grantor, plan.counts_failures) == ("closed", False)


@pytest.mark.parametrize("place", ["mine/v1 GET /get", "GET /get", "get  /get"])
def test_a_limit_for_one_operation(page: Callable[..., HttpResponse], plan: Plan, place: str) -> None:
    sent = {"rate_minute": 60, "new_place": place, "new_window": "concurrency_none", "new_amount": 2}
    assert page(**sent).status_code == 302
    narrowed = plan.limits.exclude(operation=None).get()
    assert words(plan) == ["60 per minute", "GET /get in v1: 2 at once"]
    field = f"limit_{narrowed.public_id}"
    page(rate_minute=60)
    assert len(words(plan)) == 2, "a limit the page was not asked about stays"
    page(rate_minute=60, **{field: 4})
    assert plan.limits.get(pk=narrowed.pk).amount == 4
    page(rate_minute=60, **{field: ""})
    assert words(plan) == ["60 per minute"]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        ({"rate_minute": 0}, "rate_minute"),
        ({"rate_second": 10_000_001}, "rate_second"),
        ({"concurrency_none": 65_536}, "concurrency_none"),
        ({"new_place": "GET /get"}, "new_amount"),
        ({"new_amount": 5}, "new_place"),
        ({"new_place": "GET /elsewhere", "new_amount": 5}, "new_place"),
        ({"new_place": "mine/v9 GET /get", "new_amount": 5}, "new_place"),
        ({"new_place": "everything", "new_amount": 5}, "new_place"),
        ({"new_place": "GET /get", "new_amount": 65_536, "new_window": "concurrency_none"}, "new_amount"),
        ({"without_grantor": "ajar"}, "without_grantor"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    page: Callable[..., HttpResponse], plan: Plan, sent: dict[str, object], field: str
) -> None:
    before = words(plan)
    response = page(**sent)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert words(plan) == before


def test_a_second_limit_for_the_same_calls_is_refused(page: Callable[..., HttpResponse], plan: Plan) -> None:
    sent = {"new_place": "GET /get", "new_window": "rate_minute", "new_amount": 2}
    assert page(**sent).status_code == 302
    again = page(**sent)
    assert "change its number above" in again.context["form"].errors["new_place"][0]


def test_a_limit_whose_operation_is_not_served_says_so(client: Client, oscar: User, plan: Plan) -> None:
    client.force_login(oscar)
    Limit.objects.create(plan=plan, kind="rate", amount=5, period="minute", operation=Operation.objects.get())
    path = f"/console/plans/{plan.public_id}/"
    assert "never for another" in client.get(path).content.decode(), "nothing is deployed yet"
    assert "(not served)" in client.get("/console/plans/").content.decode()


def test_the_wizard_leaves_narrowed_limits_alone(client: Client, alice: User, plan: Plan) -> None:
    client.force_login(alice)
    Limit.objects.create(plan=plan, kind="rate", amount=5, period="minute", operation=Operation.objects.get())
    client.post("/console/apis/mine/versions/v1/access/", {"visibility": "private", "quota_day": 5})
    assert words(plan) == ["5 per day", "GET /get in v1: 5 per minute"]


def test_limits_for_all_callers_of_an_api(page: Callable[..., HttpResponse], client: Client, plan: Plan) -> None:
    path, api = "/console/apis/mine/limits/", API.objects.get()
    sent = {"rate_second": 100, "new_place": "GET /get", "new_window": "concurrency_none", "new_amount": 2}
    assert page(path, **sent)["Location"] == "/console/apis/mine/plans/"
    assert words(api) == ["100 per second", "GET /get in v1: 2 at once"]
    assert "100 per second" in client.get("/console/apis/mine/plans/").content.decode()
    assert "quota_billing" not in client.get(path).content.decode()
    assert page(path, new_place="mine", new_amount=5).status_code == 422, "the whole API has the fields above"
