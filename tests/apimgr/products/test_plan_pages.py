from __future__ import annotations

import pytest
from django.test import Client

from apimgr.accounts.models import User
from apimgr.products.models import Plan
from tests.factories import make_api, make_plan, make_product, make_version


@pytest.fixture
def plan(acme: object, alice: User) -> Plan:
    return make_plan(make_product(make_version(make_api(alice.memberships.get().organisation, "Mine"))))


def test_a_product_owner_changes_limits(client: Client, oscar: User, plan: Plan) -> None:
    client.force_login(oscar)
    response = client.post(f"/console/plans/{plan.public_id}/", {"name": "Free", "rate_minute": 90})
    assert response.status_code == 302
    assert [(limit.kind, limit.amount, limit.period) for limit in plan.limits.all()] == [("rate", 90, "minute")]


def test_a_second_plan_of_the_same_name_is_refused_at_the_name(client: Client, oscar: User, plan: Plan) -> None:
    client.force_login(oscar)
    response = client.post("/console/products/mine/plans/new/", {"name": "Free", "rate_minute": 5})
    assert response.status_code == 422
    assert "name" in response.context["form"].errors


def test_a_viewer_reads_limits_and_changes_nothing(client: Client, victor: User, plan: Plan) -> None:
    client.force_login(victor)
    page = client.get(f"/console/plans/{plan.public_id}/").content.decode()
    assert "10,000 / month" in page
    assert "Save plan" not in page
    assert client.post(f"/console/plans/{plan.public_id}/", {"name": "Mine"}).status_code == 403


def test_the_wizard_sets_visibility_and_the_one_plans_limits(client: Client, alice: User, plan: Plan) -> None:
    client.force_login(alice)
    response = client.post("/console/apis/mine/versions/v1/access/", {"visibility": "private", "quota_day": 5})
    assert response["Location"] == "/console/apis/mine/versions/v1/preview/"
    assert plan.product.versions.get().api.visibility == "private"
    assert [(limit.kind, limit.amount) for limit in plan.limits.all()] == [("quota", 5)]
