"""Completeness instead of reminders: every outcome has its page, and every page its outcome."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings

from apimgr.contracts.outcomes import OUTCOMES, Outcome

ROOT = Path(settings.BASE_DIR)
PAGES = ROOT / "docs" / "reference" / "outcomes"


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
