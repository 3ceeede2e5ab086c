"""What the pages of outcomes say of when one happens, and who can mend it, held against the code that makes it."""

from __future__ import annotations

import re

import pytest

from apimgr.contracts.outcomes import BY_CODE
from apimgr.env import BASE_DIR

PAGES = BASE_DIR / "docs" / "reference" / "outcomes"
IDENTIFY = (BASE_DIR / "proxy" / "dataplane" / "policies" / "identify.py").read_text()
# A request is the same however often it is looked at: what it lacks, it lacked when it began.
OF_THE_REQUEST = {"key_missing", "key_ambiguous", "key_malformed"}
ENDS_CALLS = {*re.findall(r'Refusal\("([a-z_]+)"', IDENTIFY), "version_retired"} - OF_THE_REQUEST


def page(code: str) -> str:
    return " ".join((PAGES / f"{code}.md").read_text().split())


@pytest.mark.parametrize("code", sorted(BY_CODE))
def test_what_ends_a_call_under_way_says_so(code: str) -> None:
    says = "unless a call was under way. |" in page(code) and "is broken off within a second" in page(code)
    assert says is (code in ENDS_CALLS)


@pytest.mark.parametrize(
    ("code", "who", "not_who"),
    [
        ("application_suspended", "operator", "publisher"),
        ("organisation_suspended", "operator", "publisher"),
        ("subscription_inactive", "publisher", "operator"),
        ("subscription_missing", "publisher", "operator"),
    ],
)
def test_the_one_who_can_mend_it_is_named(code: str, who: str, not_who: str) -> None:
    """An application is the operator's to suspend (``portal.services``), a subscription its publisher's."""
    fix = BY_CODE[code].fix
    assert who in fix
    assert not_who not in fix
    advice = page(code).partition("## What to do")[2].partition("## What the owner sees")[0]
    assert who in advice


def test_metrics_that_pages_name_are_there() -> None:
    named = {name for path in PAGES.glob("*.md") for name in re.findall(r"apimgr_gateway_\w+", path.read_text())}
    source = (BASE_DIR / "proxy" / "dataplane" / "metrics.py").read_text()
    assert named
    assert not {name for name in named if f'"{name.removeprefix("apimgr_gateway_")}"' not in source}
