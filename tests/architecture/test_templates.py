"""Every template compiles, and none carries script or style of its own: the content security policy would refuse it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.template import engines

from apimgr.env import BASE_DIR

ROOT = BASE_DIR / "templates"
TEMPLATES = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.suffix in {".html", ".txt"})


@pytest.mark.parametrize("name", TEMPLATES)
def test_compiles(name: str) -> None:
    engines["django"].get_template(name)


@pytest.mark.parametrize(
    "name", [name for name in TEMPLATES if name.endswith(".html") and "emails" not in Path(name).parts]
)
def test_carries_no_script_or_style(name: str) -> None:
    text = (ROOT / name).read_text()
    inline = [tag for tag in re.findall(r"<script[^>]*>", text) if "src=" not in tag and "application/json" not in tag]
    assert not inline
    assert not re.search(r"<style\b|\sstyle=\"|\son[a-z]+=\"", text)
