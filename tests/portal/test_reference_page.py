"""The reference draws every real document without leaving the house, in a real browser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from playwright.sync_api import Browser, Page

from apimgr.accounts.models import Organisation
from apimgr.catalog.models import Specification
from tests.factories import make_api, make_version
from tests.here import needs_corpus

CORPUS = settings.BASE_DIR.parent / "shared" / "corpora" / "openapi"
DOCUMENTS = sorted(CORPUS.glob("*.json")) if CORPUS.is_dir() else []
MOST_DRAWINGS = 5  # of what ``DRAW`` draws, which tells how fast this machine is: a document takes up to 2
DRAW = """() => {
  for (let time = 0; time < 5; time++) {
    const box = document.createElement("div");
    for (let number = 0; number < 4000; number++) {
      const row = document.createElement("p");
      row.innerHTML = `<b>${number}</b> <code>some words of a paragraph</code> <a href="#">and another</a>`;
      box.append(row);
    }
    document.body.append(box);
    box.offsetHeight;
    box.remove();
  }
}"""


def renderer_seconds(browser: Browser) -> float:
    """Processor time that Chromium's pages have taken so far."""
    processes = browser.new_browser_cdp_session().send("SystemInfo.getProcessInfo")["processInfo"]
    return sum(process["cpuTime"] for process in processes if process["type"] == "renderer")


@pytest.mark.corpora
@needs_corpus("openapi")
@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
@pytest.mark.django_db(transaction=True)
def test_draws_a_real_document(
    path: Path, live_server: Any, acme: Organisation, browser: Browser, browser_page: Page
) -> None:
    document = json.loads(path.read_bytes())
    version = make_version(make_api(acme, "Real"))
    Specification.objects.filter(pk=version.specification_id).update(document=document)
    start = renderer_seconds(browser)
    browser_page.evaluate(DRAW)
    before = renderer_seconds(browser)
    browser_page.goto(f"{live_server}/apis/real/v1/reference/")
    browser_page.wait_for_selector("[data-fallback][data-drawn]", state="attached", timeout=30_000)
    browser_page.get_by_role("heading", level=1, name=document["info"]["title"]).first.wait_for()
    assert browser_page.locator("#reference nav a, #reference aside a, #reference [role=navigation] a").count() > 1
    drawings = (renderer_seconds(browser) - before) / (before - start)
    assert drawings < MOST_DRAWINGS, f"{path.name} took as much as {drawings:.1f} drawings"
