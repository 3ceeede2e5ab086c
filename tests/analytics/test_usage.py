"""Dashboards say what the calls say: counts to the unit, percentiles within 2 %, and nobody else's."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from analytics.histogram import MAX_ERROR
from analytics.selectors import usage
from analytics.selectors.cubes import Question, ask, compare, complete_to, series, total
from analytics.selectors.periods import RANGES, period
from apimgr.accounts.models import Organisation, User
from apimgr.core.errors import DomainError, NotFound
from tests.analytics.calls import NOW, store
from tests.analytics.world import Scene, make_scene, tell_shipped, told


@pytest.mark.parametrize("name", RANGES)
def test_a_period_is_whole_buckets_that_hold_now(name: str) -> None:
    found = period(name, now=NOW + timedelta(seconds=90))
    assert found.buckets[0] == found.start
    assert found.buckets[-1] <= NOW + timedelta(seconds=90) < found.end == found.buckets[-1] + found.step
    assert found.previous.end == found.start
    assert len(found.previous.buckets) == len(found.buckets)


@pytest.mark.parametrize("name", RANGES)
def test_every_range_counts_the_same_calls(scene: Scene, oscar: User, now: datetime, name: str) -> None:
    told(
        *(scene.call(now) for _ in range(7)),
        scene.refusal(now, "rate_limited"),
        scene.call(now, status=502, outcome=50),
    )
    question = usage.of_apis(oscar, period(name))
    numbers = total(question, ["requests", "success_rate", "errors", "refused"])
    assert numbers == {"requests": 9, "success_rate": pytest.approx(100 * 7 / 9), "errors": 1, "refused": 1}
    assert usage.active_applications(question).value == 1


def test_whole_days_and_hours_add_up_to_the_same(scene: Scene, oscar: User, now: datetime) -> None:
    """Totals read days where they can, series read every hour: the sums agree, in both periods."""
    told(*(scene.call(now - timedelta(hours=3 * number)) for number in range(14 * 8)))
    question = usage.of_apis(oscar, period("7d"))
    current, before = compare(question, ["requests", "p95"])
    along = [line["requests"] for line in series(question, ["requests"]).values()]
    assert current[()]["requests"] == sum(value or 0 for value in along[0])
    assert current[()]["requests"] + before[()]["requests"] in {111, 112}  # the oldest may lie before both
    assert before[()]["p95"] == pytest.approx(12, rel=MAX_ERROR)


def test_percentiles_are_within_two_percent_and_leave_refusals_out(scene: Scene, oscar: User, now: datetime) -> None:
    choose = random.Random(11)
    latencies = [int(choose.lognormvariate(10, 1)) for _ in range(999)]
    refusals = [scene.refusal(now, "rate_limited", total_us=50) for _ in range(500)]
    told(*(scene.call(now, total_us=latency) for latency in latencies), *refusals)
    found = total(usage.of_apis(oscar, period("1h")), ["p50", "p95", "p99"])
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        exact = sorted(latencies)[-(-int(share * 1000) * 999 // 1000) - 1] / 1000
        assert found[name] == pytest.approx(exact, rel=MAX_ERROR + 1e-6)


def test_the_period_before_is_compared(scene: Scene, oscar: User, now: datetime) -> None:
    told(*(scene.call(now) for _ in range(3)), *(scene.call(now - timedelta(days=8)) for _ in range(2)))
    question = usage.of_apis(oscar, period("7d"))
    [kpi] = usage.headline(question, ["requests"])
    assert (kpi.value, kpi.before, kpi.change) == (3, 2, "+50.0 %")
    assert usage.movers(question) == (
        "Requests +50.0 % against the 7 days before, most from GET /get (+1) and Orders shop (+1)."
    )


def test_breakdowns_name_what_they_count(scene: Scene, oscar: User, now: datetime) -> None:
    told(scene.call(now), scene.call(now), scene.refusal(now, "operation_not_found", operation_id=0))
    told(scene.refusal(now, "key_missing", application_id=0, credential_id=0, plan_id=0))
    question = usage.of_apis(oscar, period("24h"))

    def counted(dimension: str) -> dict[str, float]:
        return {row.label: row.requests for row in usage.breakdown(question, dimension)}

    assert counted("version_id") == {"Orders v1": 4}
    assert counted("operation_id") == {"GET /get": 3, "No operation matched": 1}
    assert counted("application_id") == {"Orders shop": 3, "No application (key missing or unknown)": 1}
    assert counted("outcome") == {
        "The upstream answered.": 2,
        "The API has no operation at this path.": 1,
        "The call carries no API key.": 1,
    }


def test_nobody_reads_what_is_not_theirs(
    scene: Scene, oscar: User, dev: User, charlie: User, now: datetime, acme: Organisation
) -> None:
    told(scene.call(now))
    assert total(usage.of_apis(oscar, period()), ["requests"]) == {"requests": 1}
    for stranger in (dev, charlie):
        assert total(usage.of_apis(stranger, period()), ["requests"]) == {"requests": 0}
    assert total(usage.of_application(dev, period(), scene.application), ["requests"]) == {"requests": 1}
    for stranger in (oscar, charlie):
        with pytest.raises(NotFound):
            usage.of_application(stranger, period(), scene.application)


def test_what_no_cube_holds_together_is_refused() -> None:
    with pytest.raises(DomainError, match="application_id, outcome"):
        ask(Question(period()).only(application_id=1), ["requests"], ["outcome"])


@pytest.mark.django_db
def test_complete_to_is_the_slowest_live_node_and_what_waits(now: datetime) -> None:
    assert complete_to() is None
    tell_shipped(node="fast", until=now)
    tell_shipped(node="slow", until=now - timedelta(seconds=30))
    assert complete_to() == now - timedelta(seconds=30)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE usage_node SET seen_at = now() - interval '5 min' WHERE node = 'slow'")
    assert complete_to() == now


def test_a_batch_that_waits_holds_completeness_back(scene: Scene, now: datetime) -> None:
    tell_shipped(node="node-1", until=now)
    store(scene.call(now - timedelta(minutes=3)))
    assert complete_to() == now - timedelta(minutes=3)


def test_a_gap_is_not_a_zero(scene: Scene, oscar: User, now: datetime) -> None:
    told(scene.call(now - timedelta(minutes=30)))
    [line] = usage.traffic(usage.of_apis(oscar, period("1h")))["series"]
    assert line["data"][0] == 0
    assert line["data"][-1] is None
    assert sum(value or 0 for value in line["data"]) == 1


def test_queries_do_not_grow_with_apis(oscar: User, acme: Organisation, builders: Organisation, now: datetime) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            question = usage.of_apis(oscar, period("7d"))
            usage.headline(question)
            usage.breakdown(question, "version_id")
            usage.movers(question)
        return len(caught)

    told(make_scene(acme, builders, "First").call(now))
    one = queries()
    told(*(make_scene(acme, builders, f"Api {number}").call(now) for number in range(19)))
    assert queries() == one


def test_rows_read_do_not_grow_with_calls(scene: Scene, oscar: User, now: datetime) -> None:
    """Two thousand calls of one kind in one minute are one row to a dashboard."""
    told(*(scene.call(now) for _ in range(2_000)))
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM usage_traffic_minute")
        assert cursor.fetchone()[0] == 1
    with CaptureQueriesContext(connection) as caught:
        usage.traffic(usage.of_apis(oscar, period("1h")))
    assert not any("usage_event" in query["sql"] for query in caught)
