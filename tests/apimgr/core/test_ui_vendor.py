"""Files of others are what their manifest says; icons asked for exist; colours can be read."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest
from django.conf import settings

from apimgr.core.styleguide import icons, tokens

ROOT = Path(settings.BASE_DIR)
VENDOR = ROOT / "static" / "vendor"
MANIFEST = json.loads((VENDOR / "manifest.json").read_text())
TEXTS = ["text", "text-2", "text-3", "brand", "brand-hover", "ok", "warn", "danger", "info"]
GROUNDS = ["bg", "panel"]
CHARTS = [name for name, _light, _dark in tokens() if name.startswith("chart-")]


def test_every_vendored_file_is_the_one_in_the_manifest() -> None:
    named = {path: digest for package in MANIFEST for path, digest in package["files"].items()}
    found = {str(path.relative_to(VENDOR)) for path in VENDOR.rglob("*") if path.is_file()} - {"manifest.json"}
    assert found == set(named)
    wrong = [
        path for path, digest in named.items() if hashlib.sha256((VENDOR / path).read_bytes()).hexdigest() != digest
    ]
    assert wrong == []


@pytest.mark.parametrize("package", MANIFEST, ids=lambda package: package["name"])
def test_every_package_states_licence_and_source(package: dict[str, str]) -> None:
    assert package["licence"] in {"MIT", "Apache-2.0", "OFL-1.1"}
    assert package["version"] in package["source"]
    assert any("LICENSE" in path for path in package["files"])


def test_every_icon_asked_for_exists() -> None:
    sources = [*(ROOT / "templates").rglob("*.html"), ROOT / "apimgr" / "core" / "navigation.py"]
    asked = set()
    for source in sources:
        text = source.read_text()
        asked |= set(re.findall(r'<c-icon name="([a-z0-9-]+)"', text))
        asked |= set(re.findall(r'\bicon="([a-z0-9-]+)"', text))
    assert asked - set(icons()) == set()


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", [1, 2], ids=["light", "dark"])
def test_colours_can_be_told_from_what_is_behind_them(theme: int) -> None:
    table = {row[0]: row[theme] for row in tokens()}
    pairs = [(name, ground, 4.5) for name in TEXTS for ground in GROUNDS]
    pairs += [("text", "hover", 4.5), ("text-2", "sunken", 4.5), ("text-3", "sunken", 4.5), ("on-brand", "brand", 4.5)]
    pairs += [("control", ground, 3.0) for ground in GROUNDS] + [(name, "panel", 3.0) for name in CHARTS]
    weak = [
        (a, b, round(contrast(table[a], table[b]), 2)) for a, b, least in pairs if contrast(table[a], table[b]) < least
    ]
    assert weak == []


def test_no_template_styles_or_scripts_inline() -> None:
    offence = re.compile(r"\sstyle=|<style|\son[a-z]+=\"|<script(?![^>]*\ssrc=)(?![^>]*type=\"application/json\")")
    offenders = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "templates").rglob("*.html")
        if "emails" not in path.parts and offence.search(path.read_text())
    ]
    assert offenders == []
