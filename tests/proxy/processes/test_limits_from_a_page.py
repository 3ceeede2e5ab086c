"""From a form to the wire: what a publisher saves, and an operator switches, is what a running node does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from apimgr.accounts.models import Organisation, User
from apimgr.catalog import services as catalog
from apimgr.catalog.models import Operation, Version
from apimgr.products import services as products
from apimgr.products.models import Plan
from portal import services as portal
from portal.models import Subscription
from proxy import selectors
from tests.factories import make_api, make_product, make_user, make_version
from tests.proxy.processes.node import Node, Upstream, running, wait_for

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]


@dataclass
class Stage:
    """Oscar's published API behind Dev's key, served by a node of two workers."""

    plan: Plan
    version: Version
    node: Node
    key: str
    pages: Client

    def get(self, path: str) -> tuple[int, str]:
        """The status, and the code of a refusal."""
        status, body, _request_id = self.node.call(f"/orders/v1{path}", self.key)
        return status, json.loads(body)["code"] if status >= 400 else ""

    def send(self, person: User, path: str, **data: object) -> None:
        """Send a form as somebody, and wait until every node has heard of it."""
        self.pages.force_login(person)
        assert self.pages.post(path, data).status_code == 302
        wait_for(lambda: selectors.rollout(selectors.last_sequence()).is_complete)


@pytest.fixture
def stage(
    acme: Organisation, builders: Organisation, dev: User, upstream: Upstream, settings: Settings, tmp_path: Path
) -> Iterator[Stage]:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    version = make_version(make_api(acme, "Orders"))
    version.upstream.url = upstream.url
    version.upstream.save()
    Operation.objects.create(version=version, method="GET", path="/orders/{id}")
    plan = products.create_plan(actor=None, product=make_product(version), name="Free", limits=[])
    catalog.publish_version(actor=None, version=version)
    application = portal.create_application(actor=dev, organisation=builders, name="Shop")
    portal.subscribe(actor=dev, application=application, plan=plan)
    _credential, key = portal.issue_credential(actor=dev, application=application)
    with running(tmp_path / "node", workers=2) as node:
        node.wait_ready()
        yield Stage(plan, version, node, key.secret, Client())


def test_what_is_saved_is_what_is_enforced(stage: Stage, oscar: User, upstream: Upstream) -> None:
    assert [stage.get("/get") for _ in range(3)] == [(200, "")] * 3
    stage.send(
        oscar,
        f"/console/plans/{stage.plan.public_id}/",
        name="Free",
        concurrency_none=1,
        new_place="orders/v1 GET /orders/{id}",
        new_window="quota_day",
        new_amount=2,
    )
    answers = [stage.get(f"/orders/{number}") for number in range(4)]
    assert answers == [(200, ""), (200, ""), (429, "quota_exceeded"), (429, "quota_exceeded")]
    assert [stage.get("/get") for _ in range(3)] == [(200, "")] * 3, "others are not counted"
    upstream.calls.clear()
    first: list[tuple[int, str]] = []
    with upstream.held():
        caller = threading.Thread(target=lambda: first.append(stage.get("/get")))
        caller.start()
        wait_for(lambda: upstream.calls)
        assert stage.get("/get") == (429, "concurrency_exceeded")
    caller.join()
    assert first == [(200, "")]


def test_what_is_rolled_back_to_is_what_is_served(stage: Stage, alice: User, upstream: Upstream) -> None:
    """A bad publication: another upstream, another address, small bodies. One click, and callers have what they had."""
    elsewhere = Upstream()
    version, before = stage.version, stage.get("/get?1")
    catalog.set_upstream(actor=None, version=version, url=elsewhere.url)
    catalog.set_route(actor=None, version=version, base_path="/moved")
    catalog.publish_version(actor=None, version=version)
    wait_for(lambda: selectors.rollout(selectors.last_sequence()).is_complete)
    assert stage.get("/get?2") == (404, "route_not_found")
    assert stage.node.call("/moved/get?2", stage.key)[0] == 200

    path = "/console/apis/orders/versions/v1/revisions/1/restore/"
    stage.pages.force_login(alice)
    assert stage.pages.post(path, {"instead_of": 1}).status_code == 409, "who looked before that was published"
    assert stage.get("/get?3") == (404, "route_not_found")
    stage.send(alice, path, instead_of=2)
    assert stage.get("/get?4") == before == (200, "")
    assert json.loads(stage.node.call("/moved/get?4", stage.key)[1])["code"] == "route_not_found"
    assert (upstream.calls, elsewhere.calls) == (["/get?1", "/get?4"], ["/get?2"])
    elsewhere.shutdown()
    elsewhere.server_close()


def test_a_limit_for_all_callers_holds_whatever_the_plan(stage: Stage, oscar: User) -> None:
    stage.send(oscar, "/console/apis/orders/limits/", quota_day=3)
    assert [stage.get("/get")[0] for _ in range(5)] == [200, 200, 200, 429, 429]


def test_moving_between_plans_gives_no_new_quota(stage: Stage, dev: User) -> None:
    for plan, amount in (
        (stage.plan, 2),
        (products.create_plan(actor=None, product=stage.plan.product, name="Plus"), 3),
    ):
        products.change_limits(actor=None, plan=plan, limits=[("quota", amount, "month")])
    wait_for(lambda: selectors.rollout(selectors.last_sequence()).is_complete)
    path = f"/subscriptions/{Subscription.objects.get().public_id}/plan/"
    answers = []
    for plan in ("plus", "free", "plus"):
        answers.append([stage.get("/get")[0] for _ in range(3)])
        stage.send(dev, path, plan=stage.plan.product.plans.get(slug=plan).public_id)
    assert answers == [[200, 200, 429], [200, 429, 429], [429, 429, 429]]
    assert stage.get("/get") == (429, "quota_exceeded")


def test_a_limit_outlives_its_operation_and_never_widens(stage: Stage, oscar: User) -> None:
    path = f"/console/plans/{stage.plan.public_id}/"
    stage.send(oscar, path, name="Free", new_place="GET /orders/{id}", new_window="quota_day", new_amount=1)
    assert [stage.get("/orders/1")[0] for _ in range(2)] == [200, 429]
    operation = stage.version.operations.filter(path="/orders/{id}")
    for is_current, expected in ((False, (404, "operation_not_found")), (True, (429, "quota_exceeded"))):
        operation.update(is_current=is_current)
        catalog.publish_version(actor=None, version=stage.version)
        wait_for(lambda: selectors.rollout(selectors.last_sequence()).is_complete)
        assert stage.get("/orders/1") == expected
        assert [stage.get("/get")[0] for _ in range(3)] == [200] * 3


@pytest.mark.requirement("K8.1")
def test_a_disabled_owner_s_keys_fail_on_an_open_connection(stage: Stage, dev: User) -> None:
    olga = make_user("olga", is_operator=True)
    path = f"/ops/people/{dev.public_id}/state/"
    kept = stage.node.connection()
    socket = None
    for move, status in (("", 200), ("disable", 403), ("enable", 200)):
        if move:
            stage.send(olga, path, move=move)
        answered, body, _request_id = stage.node.call("/orders/v1/get", stage.key, kept)
        assert answered == status
        assert status == 200 or json.loads(body)["code"] == "organisation_suspended"
        socket = socket or kept.sock
        assert kept.sock is socket, "it is one connection"
    kept.close()


def test_an_operator_s_switches(stage: Stage, builders: Organisation) -> None:
    olga = make_user("olga", is_operator=True)
    application = builders.applications.get()
    for path, code in (
        (f"/ops/organisations/{builders.slug}/state/", "organisation_suspended"),
        (f"/ops/applications/{application.public_id}/state/", "application_suspended"),
    ):
        stage.send(olga, path, move="suspend")
        assert stage.get("/get") == (403, code)
        stage.send(olga, path, move="resume")
        assert stage.get("/get") == (200, "")
