"""How far templates branch."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimgr.contracts import bounds
from apimgr.contracts.snapshot import OperationDocument, UpstreamDocument, VersionDocument
from apimgr.contracts.templates import MAX_WAYS, most_ways


@pytest.mark.parametrize(
    ("templates", "ways"),
    [
        ("", 2),
        ("/", 2),
        ("/a /b /c", 2),  # one of them
        ("/a/b /a/c /d", 3),
        ("/a/{x} /a/{y} /a/b", 4),
        ("/{x}.json /{x}.xml /{x} /a", 5),
        ("/{x} /{rest+} /*", 4),
        ("/{x}/a /{x}/b /{y}/{z} /a/a", 6),
    ],
)
def test_ways(templates: str, ways: int) -> None:
    assert most_ways(templates.split(" ")) == ways


def test_a_group_of_literals_costs_nothing_and_doublings_multiply() -> None:
    assert most_ways(f"/group{n % 100}/thing{n}/{{id}}" for n in range(10_000)) == 4
    assert most_ways("/" + "/".join(each) for each in product(("a", "{x}"), repeat=8)) == 2**9 - 1


def test_a_template_of_nothing_but_slashes() -> None:
    assert most_ways(["/" * 100_000]) == 100_001


SEGMENTS = st.sampled_from(["a", "b", "{x}", "a{x}", "{x}b", "{x}{y}"])
TEMPLATES = st.lists(st.lists(SEGMENTS, min_size=1, max_size=4).map(tuple), max_size=12)


@given(TEMPLATES, st.lists(st.sampled_from(["a", "b", "ab", "bb"]), max_size=4))
def test_no_path_leads_to_more_places(templates: list[tuple[str, ...]], path: list[str]) -> None:
    places = {re.sub(r"\{.\}", "{}", "/".join(each[:depth])) for each in templates for depth in range(len(each) + 1)}
    shapes = [place.replace("{}", "[^/]+") for place in places]
    reached = {"/".join(path[:depth]) for depth in range(len(path) + 1)}
    ways = sum(any(re.fullmatch(shape, each) for each in reached) for shape in shapes)
    assert ways <= most_ways("/" + "/".join(each) for each in templates)


def test_a_version_that_branches_too_far_is_not_served() -> None:
    def version(count: int) -> VersionDocument:
        operations = tuple(OperationDocument(n, "GET", f"/{{x}}.{n}") for n in range(1, count + 1))
        upstream = UpstreamDocument("http://127.0.0.1:9")
        return VersionDocument(1, 2, 3, "v1", "published", "/", upstream, operations=operations)

    assert bounds.problem_of(version(MAX_WAYS - 1)) == ""
    assert (
        bounds.problem_of(version(MAX_WAYS)) == "one path could lead to 1,001 places of the templates, more than 1,000"
    )
