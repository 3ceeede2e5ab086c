"""Documentation that leads somewhere: every relative link has a target."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from apimgr.env import BASE_DIR

PAGES = [*sorted(BASE_DIR.glob("*.md")), *sorted((BASE_DIR / "docs").rglob("*.md"))]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(BASE_DIR)))
def test_links_have_targets(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_decisions_are_numbered_once_titled_and_listed() -> None:
    index = BASE_DIR / "docs" / "adr" / "README.md"
    pages = sorted(page for page in index.parent.glob("*.md") if page != index)
    numbers = [page.name[:4] for page in pages]
    assert len(set(numbers)) == len(numbers)
    listed = []
    for page, number in zip(pages, numbers, strict=True):
        assert number.isdigit(), page.name
        title = page.read_text().partition("\n")[0]
        assert title.startswith(f"# {number} "), page.name
        listed.append(f"- {number} [{title[7:]}]({page.name})")
    assert re.findall("^- .*", index.read_text(), re.MULTILINE) == listed


def test_code_speaks_of_pages_that_exist() -> None:
    pages = {str(page.relative_to(BASE_DIR)) for page in PAGES}
    sources = [
        path for package in ("apimgr", "portal", "analytics", "proxy") for path in (BASE_DIR / package).rglob("*.py")
    ]
    missing = {
        (source.name, name)
        for source in sources
        for name in re.findall(r"docs/[a-z-]+/[a-z0-9-]+(?:\.md)?", source.read_text())
        if not any(page.startswith(name) for page in pages)
    }
    assert not missing
