"""What was published is kept, what differs is told, and what was live once can go live again."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.audit.sentences import sentence
from apimgr.catalog import services
from apimgr.catalog.differences import Difference, differences
from apimgr.catalog.models import Revision, Version
from apimgr.catalog.selectors import revision_of, revisions_of
from apimgr.contracts.snapshot import RouteDocument, VersionDocument
from apimgr.core.egress import EgressRefused
from apimgr.core.errors import Conflict, DomainError, NotAllowed, NotFound
from proxy.models import GatewayChange
from tests.apimgr.catalog.test_publishing import PETS, document
from tests.changes import last_word
from tests.factories import make_api, make_version


@pytest.fixture
def version(alice: User, acme: Organisation) -> Version:
    """Revision 1: two operations. Revision 2, live: another upstream, smaller bodies, one operation for another."""
    api = services.create_api(actor=alice, organisation=acme, name="Pet store")
    version = services.add_version(actor=alice, api=api, name="v1")
    take(alice, version, document())
    version = services.publish_version(actor=alice, version=version)
    take(alice, version, document(info={"title": "Pets", "version": "2.0"}, paths=OTHER_PATHS))
    services.set_upstream(actor=alice, version=version, url="https://8.8.8.8", read_timeout_ms=1_000)
    services.set_gateway_settings(actor=alice, version=version, max_body_bytes=1024)
    return services.publish_version(actor=alice, version=fresh(version))


OTHER_PATHS = {"/pets": PETS["paths"]["/pets"], "/owners": {"get": {"responses": {}}}}  # type: ignore[index]


def take(alice: User, version: Version, content: bytes) -> None:
    specification = services.import_specification(actor=alice, api=version.api, content=content, source="paste")
    services.use_specification(actor=alice, version=version, specification=specification)


def fresh(version: Version) -> Version:
    return Version.objects.select_related("api__organisation").get(pk=version.pk)


def test_a_restored_revision_is_served_as_it_was(alice: User, version: Version) -> None:
    first = version.revisions.get(number=1)
    changes = GatewayChange.objects.count()
    version = services.restore_revision(actor=alice, version=version, number=1)
    live = version.deployed_revision
    assert live is not None
    assert (live.number, live.restored_from, live.created_by) == (3, first, alice)
    assert (live.configuration, live.specification) == (first.configuration, first.specification)
    assert [row.number for row in revisions_of(version)] == [3, 2, 1], "nothing that was published is gone"
    told = last_word("version", version.pk)
    assert isinstance(told, VersionDocument)
    assert (told.upstream.url, told.upstream.read_timeout_ms) == ("https://pets.example/api", 30_000)
    assert told.max_body_bytes == 10 * 2**20
    assert [operation.path for operation in told.operations] == ["/pets", "/pets/{id}"]
    assert GatewayChange.objects.count() == changes + 1, "told to the gateways, once"
    entry = AuditEntry.objects.get(action="catalog.version.rolled_back")
    assert sentence(entry) == f"{alice} rolled version Pet store v1 back to revision 1, as revision 3"


def test_the_way_back_leads_forth_again(alice: User, version: Version) -> None:
    second = last_word("version", version.pk)
    for number in (1, 2):
        version = services.restore_revision(actor=alice, version=version, number=number)
    assert last_word("version", version.pk) == second
    assert version.deployed_revision is not None
    assert version.deployed_revision.number == 4


def test_a_draft_without_changes_goes_back_as_well(alice: User, version: Version) -> None:
    ids = {row.path: row.pk for row in version.operations.all()}
    version = fresh(services.restore_revision(actor=alice, version=version, number=1))
    assert services.pending_changes(version) == []
    assert version.upstream.url == "https://pets.example/api"
    assert version.gateway_settings.max_body_bytes == 10 * 2**20
    assert str(version.specification) == "Pets 1.0"
    current = {row.path: row.pk for row in version.operations.filter(is_current=True)}
    assert current == {path: ids[path] for path in ("/pets", "/pets/{id}")}, "usage hangs on their ids"


def test_changes_that_were_never_published_stay_in_the_draft(alice: User, version: Version) -> None:
    services.set_route(actor=alice, version=version, base_path="/elsewhere")
    version = fresh(services.restore_revision(actor=alice, version=fresh(version), number=1))
    assert version.route.base_path == "/elsewhere"
    assert version.upstream.url == "https://8.8.8.8"
    assert AuditEntry.objects.get(action="catalog.version.rolled_back").data["keeps_draft"] is True
    pending = {change.part: change.after for change in services.pending_changes(version)}
    assert pending["route.base_path"] == "/elsewhere"
    assert pending["upstream.url"] == "https://8.8.8.8"


def test_what_is_served_already_is_not_restored(alice: User, version: Version) -> None:
    with pytest.raises(Conflict) as error:
        services.restore_revision(actor=alice, version=version, number=2)
    assert error.value.code == "revision_served"
    services.restore_revision(actor=alice, version=version, number=1)
    with pytest.raises(Conflict, match="serves what revision 1 keeps already"):
        services.restore_revision(actor=alice, version=version, number=1)
    assert version.revisions.count() == 3


def test_who_did_not_see_what_is_live_rolls_nothing_back(alice: User, version: Version) -> None:
    assert refused(alice, version, instead_of=1).code == "revision_overtaken"
    services.restore_revision(actor=alice, version=version, number=1, instead_of=2)
    with pytest.raises(Conflict) as error:
        services.restore_revision(actor=alice, version=version, number=1, instead_of=2)
    assert error.value.code == "revision_served", "which says more: it is done"


def refused(alice: User, version: Version, instead_of: int | None = None) -> DomainError:
    """Rolling back fails, and nothing at all has changed."""
    before = version.deployed_revision_id, Revision.objects.count(), GatewayChange.objects.count()
    with pytest.raises(DomainError) as error:
        services.restore_revision(actor=alice, version=version, number=1, instead_of=instead_of)
    version = fresh(version)
    assert (version.deployed_revision_id, Revision.objects.count(), GatewayChange.objects.count()) == before
    assert version.upstream.url == "https://8.8.8.8"
    assert not AuditEntry.objects.filter(action="catalog.version.rolled_back").exists()
    return error.value


@pytest.mark.requirement("R2.1")
def test_an_upstream_that_is_no_longer_allowed_is_refused(alice: User, version: Version) -> None:
    change_revision(version, upstream={"url": "http://10.1.2.3"})
    assert [problem.code for problem in services.restore_problems(revision_of(version, 1))] == ["upstream"]
    assert isinstance(refused(alice, version), EgressRefused)


@pytest.mark.requirement("R1.2", "R2.1")
def test_an_upstream_that_has_moved_inside_is_refused(
    alice: User, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: [(2, 1, 6, "", ("10.1.2.3", 443))])
    assert "not a public address" in refused(alice, version).message


def test_a_setting_that_no_gateway_knows_any_more_is_refused(alice: User, version: Version) -> None:
    change_revision(version, gateway={"cors": ["*"]})
    assert "knows no setting “cors”" in refused(alice, version).message
    change_revision(version, gateway={"authentication": "basic"})
    refused(alice, version)
    change_revision(version, gateway={"max_body_bytes": -1})
    refused(alice, version)


def test_an_address_that_went_to_another_version_is_refused(alice: User, version: Version) -> None:
    services.set_route(actor=alice, version=version, base_path="/moved")
    version = services.publish_version(actor=alice, version=fresh(version))
    other = services.add_version(actor=alice, api=version.api, name="v2")
    services.set_route(actor=alice, version=other, base_path="/pet-store/v1")
    error = refused(alice, version)
    assert (error.code, set(error.fields)) == ("revision_unfit", {"route"})
    assert "/pet-store/v1" in error.message


def test_without_a_plan_a_keyed_revision_is_refused(alice: User, version: Version) -> None:
    version.products.all().delete()
    assert set(refused(alice, version).fields) == {"plan"}
    change_revision(version, gateway={"authentication": "none"})
    services.restore_revision(actor=alice, version=version, number=1)


def change_revision(version: Version, **sections: dict[str, Any]) -> None:
    """As it was frozen on another day."""
    revision = version.revisions.get(number=1)
    for name, values in sections.items():
        revision.configuration[name] |= values
    revision.save()


def test_only_what_is_live_rolls_back(alice: User, version: Version) -> None:
    services.deprecate_version(actor=alice, version=version)
    version = services.restore_revision(actor=alice, version=version, number=1)
    assert version.state == "deprecated", "its state is not the revision's"
    services.retire_version(actor=alice, version=version)
    with pytest.raises(Conflict):
        services.restore_revision(actor=alice, version=version, number=2)
    draft = make_version(make_api(version.api.organisation), state="draft")
    with pytest.raises(NotFound):
        services.restore_revision(actor=alice, version=draft, number=1)


def test_its_former_address_is_served_again(alice: User, version: Version) -> None:
    services.set_route(actor=alice, version=version, base_path="/moved")
    services.publish_version(actor=alice, version=fresh(version))
    assert last_word("route", "/pet-store/v1") is None
    services.restore_revision(actor=alice, version=version, number=2)
    assert isinstance(last_word("route", "/pet-store/v1"), RouteDocument)
    assert last_word("route", "/moved") is None


def test_only_publishers_roll_back(victor: User, oscar: User, charlie: User, version: Version) -> None:
    for person, refusal in ((victor, NotAllowed), (oscar, NotAllowed), (charlie, NotFound)):
        with pytest.raises(refusal):
            services.restore_revision(actor=person, version=version, number=1)
    with pytest.raises(NotFound):
        services.restore_revision(actor=None, version=version, number=9)


KEPT: dict[str, Any] = {
    "document": "Pets 1.0",
    "route": {"host": "", "base_path": "/pets"},
    "upstream": {"url": "https://a.example", "read_timeout_ms": 1000},
    "gateway": {"authentication": "key", "upgrades": []},
    "operations": [[1, "GET", "/pets"], [2, "POST", "/pets"]],
}
DIFFERENT = {
    "nothing": ({}, []),
    "document": ({"document": "Pets 2.0"}, [("document", "Pets 1.0", "Pets 2.0")]),
    "route": ({"route": {"host": "", "base_path": "/p"}}, [("route.base_path", "/pets", "/p")]),
    "upstream": (
        {"upstream": {"url": "https://b.example", "read_timeout_ms": 1000}},
        [("upstream.url", "https://a.example", "https://b.example")],
    ),
    "a list": ({"gateway": {"authentication": "key", "upgrades": ["mqtt"]}}, [("gateway.upgrades", [], ["mqtt"])]),
    "a new setting": (
        {"gateway": {"authentication": "key", "upgrades": [], "cache": 5}}, [("gateway.cache", None, 5)],
    ),
    "a setting gone": ({"gateway": {"authentication": "key"}}, [("gateway.upgrades", [], None)]),
    "operations": (
        {"operations": [[1, "GET", "/pets"], [3, "GET", "/owners"]]},
        [("operations", None, "GET /owners"), ("operations", "POST /pets", None)],
    ),
    "the order of operations": ({"operations": [[2, "POST", "/pets"], [1, "GET", "/pets"]]}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_differences(name: str) -> None:
    change, expected = DIFFERENT[name]
    assert differences(KEPT, {**KEPT, **change}) == [Difference(*entry) for entry in expected]
    back = [(entry.part, entry.after, entry.before) for entry in differences({**KEPT, **change}, KEPT)]
    assert back == expected
