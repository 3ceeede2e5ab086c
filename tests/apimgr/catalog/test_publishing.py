"""The road from a document to something the gateway serves."""

from __future__ import annotations

import json
import socket
from datetime import timedelta

import pytest
from django.utils import timezone

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog import services
from apimgr.catalog.models import API, Version, VersionState
from apimgr.core.egress import EgressRefused
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from apimgr.products.models import Product
from tests.factories import make_member, make_organisation, make_user

PETS = {
    "openapi": "3.0.3",
    "info": {"title": "Pets", "version": "1.0"},
    "servers": [{"url": "https://pets.example/api"}],
    "paths": {
        "/pets": {"get": {"summary": "List", "responses": {"200": {"description": "OK"}}}},
        "/pets/{id}": {"get": {"responses": {"200": {"description": "OK"}}}},
    },
}


def document(**changes: object) -> bytes:
    return json.dumps({**PETS, **changes}).encode()


@pytest.fixture
def draft(alice: User, acme: Organisation) -> Version:
    api = services.create_api(actor=alice, organisation=acme, name="Pet store")
    return services.add_version(actor=alice, api=api, name="v1")


@pytest.fixture
def ready(alice: User, draft: Version) -> Version:
    specification = services.import_specification(actor=alice, api=draft.api, content=document(), source="paste")
    return services.use_specification(actor=alice, version=draft, specification=specification)


def test_document_fills_a_draft(ready: Version) -> None:
    assert {(row.method, row.path) for row in ready.operations.all()} == {("GET", "/pets"), ("GET", "/pets/{id}")}
    assert ready.upstream.url == "https://pets.example/api"
    assert str(ready.route) == "/pet-store/v1"
    assert services.publication_problems(ready) == []


def test_first_version_brings_the_free_plan(draft: Version) -> None:
    product = Product.objects.get(versions=draft)
    assert [str(limit) for limit in product.plans.get().limits.all()] == ["60 per minute", "10,000 per month"]


def test_empty_draft_says_everything_it_lacks(alice: User, draft: Version) -> None:
    assert [problem.code for problem in services.publication_problems(draft)] == ["specification", "route", "upstream"]
    with pytest.raises(DomainError) as error:
        services.publish_version(actor=alice, version=draft)
    assert error.value.code == "incomplete"
    draft.refresh_from_db()
    assert draft.state == VersionState.DRAFT


def test_publishing_freezes_a_revision(alice: User, ready: Version) -> None:
    version = services.publish_version(actor=alice, version=ready)
    assert version.state == VersionState.PUBLISHED
    assert version.deployed_revision is not None
    assert version.deployed_revision.number == 1
    configuration = version.deployed_revision.configuration
    assert configuration["route"] == {"host": "", "base_path": "/pet-store/v1"}
    assert configuration["upstream"]["url"] == "https://pets.example/api"
    assert [row[1:] for row in configuration["operations"]] == [["GET", "/pets"], ["GET", "/pets/{id}"]]
    assert AuditEntry.objects.filter(action="catalog.version.published", target_id=version.pk).exists()


def test_draft_of_a_live_version_waits_for_publication(alice: User, ready: Version) -> None:
    version = services.publish_version(actor=alice, version=ready)
    services.set_route(actor=alice, version=version, base_path="/elsewhere")
    version.refresh_from_db()
    assert version.deployed_revision is not None
    assert version.deployed_revision.configuration["route"]["base_path"] == "/pet-store/v1"
    version = services.publish_version(actor=alice, version=version)
    assert version.deployed_revision is not None
    assert version.deployed_revision.number == 2
    assert version.deployed_revision.configuration["route"]["base_path"] == "/elsewhere"


def test_operation_that_stays_keeps_its_id(alice: User, ready: Version) -> None:
    before = {row.path: row.pk for row in ready.operations.all()}
    paths = {"/pets": PETS["paths"]["/pets"], "/owners": {"get": {}}}  # type: ignore[index]
    specification = services.import_specification(
        actor=alice, api=ready.api, content=document(paths=paths), source="paste"
    )
    services.use_specification(actor=alice, version=ready, specification=specification)
    after = {row.path: (row.pk, row.is_current) for row in ready.operations.all()}
    assert after["/pets"] == (before["/pets"], True)
    assert after["/pets/{id}"] == (before["/pets/{id}"], False)
    assert after["/owners"][1]


def test_whole_life(alice: User, ready: Version) -> None:
    version = services.publish_version(actor=alice, version=ready)
    with pytest.raises(Conflict):
        services.retire_version(actor=alice, version=version)
    sunset = timezone.now() + timedelta(days=90)
    version = services.deprecate_version(actor=alice, version=version, sunset_at=sunset)
    assert (version.state, version.sunset_at) == (VersionState.DEPRECATED, sunset)
    version = services.restore_version(actor=alice, version=version)
    assert (version.state, version.sunset_at) == (VersionState.PUBLISHED, None)
    version = services.deprecate_version(actor=alice, version=version)
    version = services.retire_version(actor=alice, version=version)
    assert version.state == VersionState.RETIRED
    with pytest.raises(Conflict):
        services.publish_version(actor=alice, version=version)
    with pytest.raises(Conflict):
        services.set_route(actor=alice, version=version, base_path="/new")


def test_bad_document_leaves_the_draft(alice: User, ready: Version) -> None:
    before = ready.specification_id
    with pytest.raises(DomainError):
        services.import_specification(actor=alice, api=ready.api, content=b"{", source="paste")
    broken = services.import_specification(actor=alice, api=ready.api, content=document(paths={}), source="paste")
    with pytest.raises(DomainError) as error:
        services.use_specification(actor=alice, version=ready, specification=broken)
    assert error.value.code == "document_has_errors"
    ready.refresh_from_db()
    assert ready.specification_id == before
    assert ready.operations.filter(is_current=True).count() == 2


def test_route_of_another_is_refused(alice: User, ready: Version) -> None:
    rival = make_organisation("Rival")
    ruth = make_member(make_user("ruth"), rival, "publisher").user
    api = services.create_api(actor=ruth, organisation=rival, name="Squatter")
    version = services.add_version(actor=ruth, api=api, name="v1")
    for path in ("/pet-store/v1", "/pet-store/v1/deeper", "/pet-store"):
        with pytest.raises(Conflict) as error:
            services.set_route(actor=ruth, version=version, base_path=path)
        assert "Pet store" not in error.value.message
    services.publish_version(actor=alice, version=ready)
    with pytest.raises(Conflict, match="Pet store v1"):
        services.set_route(actor=ruth, version=version, base_path="/pet-store/v1")
    services.set_route(actor=ruth, version=version, base_path="/pet-store-2")


@pytest.mark.parametrize(
    ("host", "base_path", "field"),
    [
        ("", "/a/../b", "base_path"),
        ("", "/a//b", "base_path"),
        ("", "/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16", "base_path"),
        ("api.example.com:8443", "/a", "host"),
    ],
)
def test_an_address_no_gateway_serves_is_refused_where_it_is_entered(
    alice: User, ready: Version, host: str, base_path: str, field: str
) -> None:
    with pytest.raises(DomainError) as error:
        services.set_route(actor=alice, version=ready, host=host, base_path=base_path)
    assert error.value.fields.keys() == {field}


def test_address_a_live_version_left_in_its_draft_stays_taken(alice: User, ready: Version) -> None:
    services.publish_version(actor=alice, version=ready)
    services.set_route(actor=alice, version=ready, base_path="/moved")
    other = services.add_version(actor=alice, api=ready.api, name="v2")
    with pytest.raises(Conflict):
        services.set_route(actor=alice, version=other, base_path="/pet-store/v1")


def test_address_callers_once_used_goes_to_nobody_else(alice: User, ready: Version) -> None:
    services.publish_version(actor=alice, version=ready)
    services.set_route(actor=alice, version=ready, base_path="/moved")
    services.publish_version(actor=alice, version=ready)
    rival = make_organisation("Rival")
    api = services.create_api(actor=None, organisation=rival, name="Squatter")
    theirs = services.add_version(actor=None, api=api, name="v1")
    with pytest.raises(Conflict):
        services.set_route(actor=None, version=theirs, base_path="/pet-store/v1")
    own = services.add_version(actor=alice, api=ready.api, name="v2")
    assert services.set_route(actor=alice, version=own, base_path="/pet-store/v1")


@pytest.mark.parametrize(
    ("host", "base_path"),
    [("", "/.."), ("", "/a/../b"), ("", "/a//b"), ("", "/"), ("", "/a b"), ("", "/ä"), ("a b", "/a"), ("-a.b", "/a")],
)
def test_address_that_no_call_can_have(alice: User, ready: Version, host: str, base_path: str) -> None:
    with pytest.raises(DomainError):
        services.set_route(actor=alice, version=ready, host=host, base_path=base_path)


def test_other_host_is_another_address(alice: User, ready: Version) -> None:
    services.set_route(actor=alice, version=ready, host="API.Acme.example", base_path="pets/")
    ready.refresh_from_db()
    assert str(ready.route) == "api.acme.example/pets"
    rival = make_organisation("Rival")
    api = services.create_api(actor=None, organisation=rival, name="Other pets")
    version = services.add_version(actor=None, api=api, name="v1")
    services.set_route(actor=None, version=version, host="api.rival.example", base_path="/pets")
    # Any host would be in the way of both.
    with pytest.raises(Conflict):
        services.set_route(actor=None, version=version, host="", base_path="/pets")


@pytest.mark.parametrize("url", ["http://10.0.0.1", "http://127.0.0.1:8090", "ftp://x.example", "http://a@b.example"])
def test_private_upstream_is_refused(alice: User, draft: Version, url: str) -> None:
    with pytest.raises(DomainError):
        services.set_upstream(actor=alice, version=draft, url=url)


def test_allowed_upstream(alice: User, draft: Version, settings: object) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1:8090"]  # type: ignore[attr-defined]
    assert (
        services.set_upstream(actor=alice, version=draft, url="http://127.0.0.1:8090/").url == "http://127.0.0.1:8090"
    )


def test_upstream_proposed_by_a_document_is_checked_before_it_is_served(
    alice: User, acme: Organisation, monkeypatch: pytest.MonkeyPatch, settings: object
) -> None:
    """A document may name a host that resolves to our own network: nobody typed it, so publishing asks."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(2, 1, 6, "", ("10.1.2.3", 443))])
    api = services.create_api(actor=alice, organisation=acme, name="Inner")
    version = services.add_version(actor=alice, api=api, name="v1")
    content = document(servers=[{"url": "https://inner.example"}])
    specification = services.import_specification(actor=alice, api=api, content=content, source="paste")
    services.use_specification(actor=alice, version=version, specification=specification)
    assert version.upstream.url == "https://inner.example"
    with pytest.raises(EgressRefused, match=r"inner\.example is not a public address"):
        services.publish_version(actor=alice, version=version)
    version.refresh_from_db()
    assert version.state == VersionState.DRAFT
    settings.EGRESS_ALLOW = ["inner.example"]  # type: ignore[attr-defined]
    assert services.publish_version(actor=alice, version=version).state == VersionState.PUBLISHED


def test_upstream_no_longer_allowed_is_a_problem(alice: User, ready: Version, settings: object) -> None:
    settings.EGRESS_ALLOW = ["127.0.0.1:8090"]  # type: ignore[attr-defined]
    services.set_upstream(actor=alice, version=ready, url="http://127.0.0.1:8090")
    settings.EGRESS_ALLOW = []  # type: ignore[attr-defined]
    ready.refresh_from_db()
    assert [problem.code for problem in services.publication_problems(ready)] == ["upstream"]


def test_only_publishers_change_apis(
    victor: User, oscar: User, charlie: User, acme: Organisation, ready: Version
) -> None:
    for person, refusal in ((victor, NotAllowed), (oscar, NotAllowed), (charlie, NotFound)):
        with pytest.raises(refusal):
            services.create_api(actor=person, organisation=acme, name="No")
        with pytest.raises(refusal):
            services.publish_version(actor=person, version=ready)
        with pytest.raises(refusal):
            services.set_route(actor=person, version=ready, base_path="/x")
    assert API.objects.count() == 1
