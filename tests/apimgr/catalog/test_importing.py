"""Documents come in by file, by paste and by address, and a bad one costs nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from apimgr.accounts.models import Organisation, User
from apimgr.catalog import services
from apimgr.catalog.models import Specification, Version
from apimgr.core.egress import EgressFailed, EgressRefused
from apimgr.core.errors import Conflict, DomainError, NotFound
from tests.apimgr.catalog.test_openapi import CORPORA, MOST_COPIES, OPERATIONS
from tests.apimgr.catalog.test_publishing import document
from tests.effort import in_copies
from tests.here import needs_corpus


@pytest.fixture
def draft(alice: User, acme: Organisation) -> Version:
    api = services.create_api(actor=alice, organisation=acme, name="Pet store")
    return services.add_version(actor=alice, api=api, name="v1")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = {"/pets.json": document(), "/page": b"<html><title>secret intranet</title>"}.get(
            self.path.partition("?")[0]
        )
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body or b"secret error page")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def site() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_fetch(alice: User, draft: Version, site: str, settings: Any) -> None:
    with pytest.raises(EgressRefused):
        services.fetch_specification(actor=alice, api=draft.api, url=f"{site}/pets.json")
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    found = services.fetch_specification(actor=alice, api=draft.api, url=f"{site}/pets.json?x=1")
    assert (found.source, found.filename, found.source_url) == ("url", "pets.json", f"{site}/pets.json?x=1")
    assert bytes(found.raw) == document()


@pytest.mark.parametrize("path", ["/page", "/missing"])
def test_what_a_url_answers_is_never_shown(alice: User, draft: Version, site: str, settings: Any, path: str) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    with pytest.raises(DomainError) as error:
        services.fetch_specification(actor=alice, api=draft.api, url=site + path)
    assert "secret" not in f"{error.value.message} {error.value.fix} {error.value.fields}"
    assert not Specification.objects.exists()


def test_url_that_nothing_answers(alice: User, draft: Version, settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    with pytest.raises(EgressFailed, match=r"127\.0\.0\.1 could not be reached"):
        services.fetch_specification(actor=alice, api=draft.api, url="http://127.0.0.1:1/pets.json")


def test_upstream_test(alice: User, victor: User, draft: Version, site: str, settings: Any) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    assert services.test_upstream(actor=alice, version=draft).error == "There is no upstream to test yet."
    services.set_upstream(actor=alice, version=draft, url=site)
    result = services.test_upstream(actor=alice, version=draft)
    assert (result.status, result.error) == (404, "")
    assert result.latency_ms is not None
    assert services.test_upstream(actor=alice, version=draft, url=f"{site}/page").status == 200
    result = services.test_upstream(actor=alice, version=draft, url="http://10.0.0.1/")
    assert result.status is None
    assert "RFC 1918" in result.error
    with pytest.raises(DomainError):
        services.test_upstream(actor=victor, version=draft)


def test_document_of_another_api_cannot_be_used(alice: User, acme: Organisation, draft: Version) -> None:
    other = services.create_api(actor=alice, organisation=acme, name="Other")
    foreign = services.import_specification(actor=alice, api=other, content=document(), source="paste")
    with pytest.raises(NotFound):
        services.use_specification(actor=alice, version=draft, specification=foreign)


def test_findings_are_kept_beside_the_document(alice: User, draft: Version) -> None:
    found = services.import_specification(actor=alice, api=draft.api, content=document(paths={}), source="paste")
    assert [(row["severity"], row["code"]) for row in found.findings][:1] == [("error", "no_operations")]
    with pytest.raises(DomainError, match=r"no operations.*Line 1"):
        services.use_specification(actor=alice, version=draft, specification=found)


def test_text_the_database_cannot_keep_is_refused(alice: User, draft: Version) -> None:
    for text in ("\\u0000", "\\ud800"):
        raw = document().replace(b'"Pets"', f'"{text}"'.encode())
        with pytest.raises(DomainError, match="Line 1"):
            services.import_specification(actor=alice, api=draft.api, content=raw, source="paste")


def test_names_and_addresses_are_taken_once(alice: User, acme: Organisation, draft: Version) -> None:
    assert services.create_api(actor=alice, organisation=acme, name="Pet store").slug == "pet-store-2"
    with pytest.raises(Conflict):
        services.create_api(actor=alice, organisation=acme, name="Pets", slug="pet-store")
    with pytest.raises(Conflict):
        services.add_version(actor=alice, api=draft.api, name="v1")
    for name in ("", "v 1", "../v1", "x" * 41):
        with pytest.raises(DomainError):
            services.add_version(actor=alice, api=draft.api, name=name)


# --- Real documents ---------------------------------------------------------------------------------------------------


@pytest.mark.corpora
@needs_corpus("openapi")
@pytest.mark.parametrize("name", OPERATIONS)
def test_real_document_is_imported_and_published(alice: User, draft: Version, name: str) -> None:
    path: Path = CORPORA / f"{name}.json"
    raw = path.read_bytes()

    def take_in() -> tuple[Specification, Version]:
        found = services.import_specification(actor=alice, api=draft.api, content=raw, source="upload")
        return found, services.use_specification(actor=alice, version=draft, specification=found)

    (found, version), copies = in_copies(raw, take_in)
    assert copies < MOST_COPIES
    assert version.operations.count() == OPERATIONS[name]
    if not found.document.get("servers", [{}])[0].get("url", "").startswith("http"):
        services.set_upstream(actor=alice, version=version, url="https://8.8.8.8")
    assert services.publish_version(actor=alice, version=version).is_live
