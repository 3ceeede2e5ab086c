from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from apimgr.accounts.models import User
from apimgr.contracts.snapshot import OrganisationDocument, PlanDocument
from apimgr.core.errors import NotFound
from apimgr.core.ids import encode_id
from proxy import selectors
from proxy.models import AppliedChanges, GatewayChange, GatewayNode, RejectedDocument
from proxy.services import append_changes
from tests.factories import make_api, make_member, make_organisation, make_plan, make_product, make_user, make_version

pytestmark = pytest.mark.django_db


def make_node(
    name: str, *, applied: int = 0, silent_s: float = 0, age_s: float = 60, **counters: int | str
) -> GatewayNode:
    now = timezone.now()
    return GatewayNode.objects.create(
        name=name,
        boot=1,
        software_version="0.1.0",
        workers=1,
        applied_sequence=applied,
        started_at=now - timedelta(seconds=age_s),
        heartbeat_at=now - timedelta(seconds=silent_s),
        counters=counters,
    )


def test_a_receipt_names_the_slowest_of_the_connected_nodes() -> None:
    sequence = append_changes([PlanDocument(1, "Free")])
    made_at = GatewayChange.objects.get().created_at
    for name, ms in (("fast", 40), ("slow", 180)):
        make_node(name)
        AppliedChanges.objects.create(node=name, sequence=sequence + 3, applied_at=made_at + timedelta(milliseconds=ms))
    make_node("away", silent_s=60)
    make_node("behind")
    rollout = selectors.rollout(sequence)
    assert (rollout.live, rollout.total, rollout.ms, rollout.is_complete) == (2, 3, 180, False)
    GatewayNode.objects.filter(name="behind").delete()
    assert selectors.rollout(sequence).is_complete


def test_the_first_time_it_was_enforced_counts() -> None:
    sequence = append_changes([PlanDocument(1, "Free")])
    made_at = GatewayChange.objects.get().created_at
    make_node("node")
    for later, ms in ((0, 50), (5, 9000)):
        AppliedChanges.objects.create(
            node="node", sequence=sequence + later, applied_at=made_at + timedelta(milliseconds=ms)
        )
    assert selectors.rollout(sequence).ms == 50


def test_a_node_that_came_later_took_no_longer_than_it_was_there() -> None:
    sequence = append_changes([PlanDocument(1, "Free")])
    made_at = GatewayChange.objects.get().created_at
    make_node("there")
    AppliedChanges.objects.create(node="there", sequence=sequence, applied_at=made_at + timedelta(milliseconds=40))
    late = make_node("late", age_s=-3600)
    AppliedChanges.objects.create(
        node="late", sequence=sequence, applied_at=late.started_at + timedelta(milliseconds=70)
    )
    assert selectors.rollout(sequence).ms == 70


def test_a_node_that_was_started_again_since_took_what_it_took() -> None:
    sequence = append_changes([PlanDocument(1, "Free")])
    made_at = GatewayChange.objects.get().created_at
    make_node("node", age_s=-3600)
    AppliedChanges.objects.create(node="node", sequence=sequence, applied_at=made_at + timedelta(milliseconds=90))
    assert selectors.rollout(sequence).ms == 90


def test_a_node_counts_although_its_receipt_is_gone() -> None:
    make_node("node", applied=append_changes([PlanDocument(1, "Free")]))
    rollout = selectors.rollout(1)
    assert (rollout.is_complete, rollout.ms) == (True, None)


def test_a_node_s_books_name_what_is_on_its_way(olga: User) -> None:
    make_node("node", generated=6, spooled=5, acknowledged=3)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO usage_batch (node, boot, worker, segment, from_offset, to_offset, events, first_at, last_at)"
            " VALUES ('node', 1, 0, 1, 0, 100, 3, now(), now())"
        )
    (standing,) = selectors.nodes(olga)
    books = standing.books
    assert (books.in_flight, books.waiting, books.in_database.stored, books.to_roll_up, books.lost) == (1, 2, 3, 3, 0)


def test_each_change_says_where_it_is_live(client: Client, olga: User) -> None:
    api = APIClient()
    api.force_authenticate(olga)
    for number in (1, 2):
        append_changes([PlanDocument(number, "Free")])
    made_at = GatewayChange.objects.get(sequence=1).created_at
    for name in ("a", "b"):
        make_node(name)
        AppliedChanges.objects.create(node=name, sequence=1, applied_at=made_at + timedelta(milliseconds=70))
    client.force_login(olga)
    page = client.get(reverse("proxy:changes")).content.decode()
    assert "2 of 2 nodes after 70 ms" in page
    assert encode_id(2) in page
    told = api.get(reverse("api-gateway-changes")).json()
    assert [entry["key"] for entry in told] == [encode_id(2), encode_id(1)], "as receipts and plans know them"
    assert [(entry["sequence"], entry["live_nodes"], entry["live_after_ms"]) for entry in told] == [
        (2, 0, None),
        (1, 2, 70),
    ]
    earlier = api.get(reverse("api-gateway-changes"), {"before": "2"}).json()
    assert [entry["sequence"] for entry in earlier] == [1]
    assert api.get(reverse("api-gateway-changes"), {"before": "x"}).status_code == 422


def test_a_page_of_changes_asks_as_much_as_one(olga: User, django_assert_num_queries: Any) -> None:
    make_node("a")
    for number in range(1, 21):
        append_changes([PlanDocument(number, "Free")])
    for count in (1, 20):
        found = list(selectors.changes(olga)[:count])
        with django_assert_num_queries(2):
            assert len(selectors.rollouts(found)) == count


def test_no_page_and_no_receipt_fetches_a_document(client: Client, olga: User) -> None:
    api = APIClient()
    api.force_authenticate(olga)
    client.force_login(olga)
    append_changes([PlanDocument(1, "Free"), OrganisationDocument(2, "suspended")])
    append_changes(tombstones=[("plan", "1")])
    with CaptureQueriesContext(connection) as asked:
        page = client.get(reverse("proxy:changes")).content.decode()
        client.get(reverse("proxy:overview"))
        told = api.get(reverse("api-gateway-changes")).json()
        assert selectors.organisation_rollout(olga, 2) is not None
    assert [entry["is_removal"] for entry in told] == [True, False, False]
    assert (page.count("Removed</td>"), page.count("Set</td>")) == (1, 2)
    fetched = re.compile(r'SELECT(?:(?! FROM ).)*"document"(?! IS NULL)')
    of_log = [query["sql"] for query in asked if "proxy_gatewaychange" in query["sql"]]
    assert len(of_log) >= 5
    assert not [sql for sql in of_log if fetched.match(sql)]


@pytest.mark.parametrize(
    ("told", "limits", "state", "words"),
    [
        ({}, "host", "ok", ["This host's own", "In step"]),  # as a gateway of earlier days, too
        ({"limits": ""}, "host", "ok", ["This host's own", "In step"]),
        ({"limits": "shared"}, "shared", "ok", ["Shared by all hosts", "In step"]),
        (
            {"limits": "unavailable", "ungranted": 1234},
            "unavailable",
            "warn",
            ["Redis cannot be reached", "Limits not shared", "1,234 calls passed without a grant"],
        ),
        ({"limits": "shared", "ungranted": 1}, "shared", "ok", ["1 call passed without a grant", "In step"]),
    ],
)
def test_operators_see_who_counts_limits(
    client: Client, olga: User, told: dict[str, Any], limits: str, state: str, words: list[str]
) -> None:
    make_node("node", **told)
    (standing,) = selectors.nodes(olga)
    assert (standing.limits, standing.state) == (limits, state)
    client.force_login(olga)
    page = client.get(reverse("proxy:nodes")).content.decode()
    for word in words:
        assert word in page
    assert ("without a grant" in page) == ("ungranted" in told)
    api = APIClient()
    api.force_authenticate(olga)
    (node,) = api.get(reverse("api-nodes")).json()
    assert (node["limits"], node["ungranted"]) == (limits, told.get("ungranted", 0))


def test_what_a_node_does_not_understand_is_not_live_there(client: Client, olga: User) -> None:
    append_changes([PlanDocument(1, "Free"), PlanDocument(2, "Paid")])
    for name in ("node-a", "node-b"):
        make_node(name, applied=2)
        AppliedChanges.objects.create(node=name, sequence=2, applied_at=timezone.now())
    reason = "plan: unknown field 'zones'"
    RejectedDocument.objects.create(node="node-b", since=1, kind="plan", key="1", reason=reason)
    RejectedDocument.objects.create(node="gone", since=1, kind="plan", key="2", reason=reason)
    rollout = selectors.rollout(1)
    assert (rollout.live, rollout.total, rollout.rejected, rollout.reason) == (1, 2, 1, reason)
    assert selectors.rollout(2).is_complete
    assert [(node.rejected, node.state) for node in selectors.nodes(olga)] == [(0, "ok"), (1, "warn")]
    client.force_login(olga)
    assert "1 not understood" in client.get(reverse("proxy:nodes")).content.decode()
    assert "1 does not understand it" in client.get(reverse("proxy:changes")).content.decode()
    rest = APIClient()
    rest.force_authenticate(olga)
    assert [node["rejected"] for node in rest.get(reverse("api-nodes")).json()] == [0, 1]
    told = rest.get(reverse("api-gateway-changes")).json()
    assert [(entry["rejecting_nodes"], entry["reason"]) for entry in told] == [(0, ""), (1, reason)]


def test_a_receipt_says_why_a_change_is_not_live(client: Client, olga: User) -> None:
    plan = make_plan(make_product(make_version(make_api(make_organisation("Acme")))))
    append_changes([PlanDocument(plan.pk, "Free")])
    make_node("node", applied=1)
    RejectedDocument.objects.create(node="node", since=1, kind="plan", key=str(plan.pk), reason="unknown field 'zones'")
    alice = make_member(make_user("alice"), plan.product.organisation, "publisher").user
    client.force_login(alice)
    page = client.get(reverse("proxy:plan-receipt", args=[plan.pk])).content.decode()
    assert "Live on 0 of 1 nodes" in page
    assert "1 node does not understand it and goes on as before" in page
    assert "unknown field &#x27;zones&#x27;" in page


def test_only_operators_see_nodes(alice: User) -> None:
    with pytest.raises(NotFound):
        selectors.nodes(alice)


@pytest.mark.parametrize("name", ["overview", "nodes", "changes"])
@pytest.mark.parametrize("filled", [False, True])
def test_operators_pages(client: Client, olga: User, name: str, filled: bool) -> None:
    if filled:
        append_changes([PlanDocument(1, "Free")], [("plan", "2")])
        make_node("node-a", applied=1, generated=1234, spooled=1234, acknowledged=1200, spool_bytes=4096)
        make_node("node-b", silent_s=60)
    client.force_login(olga)
    page = client.get(reverse(f"proxy:{name}")).content.decode()
    assert ("node-a" in page) == (filled and name != "changes")


def test_receipts_by_rest(olga: User, dev: User) -> None:
    plan = make_plan(make_product(make_version(make_api(make_organisation("Acme")))))
    sequence = append_changes([PlanDocument(plan.pk, "Free")])
    made_at = GatewayChange.objects.get().created_at
    make_node("node", applied=sequence)
    AppliedChanges.objects.create(node="node", sequence=sequence, applied_at=made_at + timedelta(milliseconds=180))
    alice = make_member(make_user("alice"), plan.product.organisation, "publisher").user
    rest = APIClient()
    rest.force_authenticate(alice)
    path = f"/api/v1/receipts/plans/{plan.public_id}"
    assert rest.get(path).json() == {
        "live_nodes": 1,
        "connected_nodes": 1,
        "rejecting_nodes": 0,
        "reason": "",
        "live_after_ms": 180,
        "is_complete": True,
    }
    make_node("behind")
    assert rest.get(path).json()["is_complete"] is False
    for nothing in (f"versions/{plan.public_id}", f"cats/{plan.public_id}", f"applications/{plan.public_id}"):
        assert rest.get(f"/api/v1/receipts/{nothing}").status_code == 404
    rest.force_authenticate(dev)
    assert rest.get(path).status_code == 404
