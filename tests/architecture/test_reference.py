"""Completeness instead of reminders: what the code has, the reference tells, and the other way round."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings

from apimgr.contracts.outcomes import OUTCOMES, Outcome

ROOT = Path(settings.BASE_DIR)
PAGES = ROOT / "docs" / "reference" / "outcomes"
SETTING = re.compile(r'"(APIMGR_[A-Z_]+|DATABASE_URL|REDIS_URL)"')


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.code)
def test_every_outcome_has_its_page(outcome: Outcome) -> None:
    page = (PAGES / f"{outcome.code}.md").read_text()
    assert page.startswith(f"# `{outcome.code}`\n\n{outcome.title}\n")
    assert f"| Number in usage records | {outcome.number} |" in page
    assert f"| HTTP status | {outcome.status or 'the upstream'}" in page
    for heading in ("What happened", "What to do", "What the owner sees"):
        assert len(page.partition(f"## {heading}\n\n")[2].partition("\n\n")[0]) > 10, f"{heading} says nothing"
    assert f"`{outcome.code}`]({outcome.code}.md)" in (PAGES / "README.md").read_text()


def test_no_page_outlives_its_outcome() -> None:
    assert {path.stem for path in PAGES.glob("*.md")} - {"README"} == {outcome.code for outcome in OUTCOMES}


def test_every_setting_is_described_and_every_description_is_a_setting() -> None:
    sources = (path for top in ("apimgr", "portal", "analytics", "proxy") for path in (ROOT / top).rglob("*.py"))
    read = {name for path in sources for name in SETTING.findall(path.read_text())}
    described = re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs/reference/settings.md").read_text(), re.MULTILINE)
    assert len(described) == len(set(described))
    assert set(described) == read
