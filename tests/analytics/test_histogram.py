from __future__ import annotations

import random

import pytest
from django.db import connection
from hypothesis import given
from hypothesis import strategies as st

from analytics import histogram

LATENCIES = st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=200)


@given(st.integers(1, 2**31 - 1))
def test_a_bucket_answers_within_two_percent_of_what_went_in(latency: int) -> None:
    assert histogram.value(histogram.index(latency)) == pytest.approx(latency, rel=histogram.MAX_ERROR + 1e-9)


@given(LATENCIES, st.sampled_from([0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_percentile_is_within_two_percent_of_the_exact_one(latencies: list[int], share: float) -> None:
    exact = sorted(latencies)[max(1, -(-round(share * 100) * len(latencies) // 100)) - 1]
    counted = histogram.merge({histogram.index(latency): 1} for latency in latencies)
    assert histogram.percentile(counted, share) == pytest.approx(max(exact, 1), rel=histogram.MAX_ERROR + 1e-9)


@given(st.lists(LATENCIES, min_size=1, max_size=5))
def test_merging_is_the_same_as_counting_at_once(parts: list[list[int]]) -> None:
    def count(latencies: list[int]) -> dict[int, int]:
        return histogram.merge({histogram.index(latency): 1} for latency in latencies)

    assert histogram.merge(count(part) for part in parts) == count([latency for part in parts for latency in part])


def test_nothing_has_no_percentile() -> None:
    assert histogram.percentile({}, 0.95) is None


@pytest.mark.django_db
def test_postgres_counts_into_the_same_buckets() -> None:
    latencies = [0, 1, 2, *(random.Random(7).randrange(2**31) for _ in range(2_000))]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {histogram.index_sql('us')} FROM unnest(%s::int[]) us", [latencies])
        assert [index for (index,) in cursor.fetchall()] == [histogram.index(latency) for latency in latencies]
