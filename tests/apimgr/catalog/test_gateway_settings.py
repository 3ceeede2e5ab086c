"""A version's gateway settings through page and REST: what is taken, what is refused and where, what reaches a node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from apimgr.accounts.models import Organisation, User
from apimgr.audit.models import AuditEntry
from apimgr.catalog import services
from apimgr.catalog.models import GatewaySettings, Version
from apimgr.contracts import snapshot
from apimgr.contracts.snapshot import SubscriptionDocument, VersionDocument
from apimgr.core.errors import Conflict, DomainError, NotAllowed
from proxy.models import GatewayChange
from tests.apimgr.catalog.test_api import Caller
from tests.factories import make_api, make_plan, make_product, make_version
from tests.proxy.dataplane.support import Running, World
from tests.proxy.dataplane.test_gateway import play

PAGE = "/console/apis/orders/gateway/?version=v1"
REST = "apis/orders/versions/v1/"
FORM = {
    "base_path": "/orders/v1",
    "url": "http://8.8.8.8:8090",
    "connect_timeout_ms": 5000,
    "read_timeout_ms": 30000,
    "max_connections": 256,
    "authentication": "key",
    "unknown_operation": "refuse",
    "max_body_bytes": "10 MiB",
    "tunnel_idle_ms": 300000,
    "max_message_bytes": "1 MiB",
    "when_unrecordable": "refuse",
}


@pytest.fixture
def version(acme: Organisation) -> Version:
    version = make_version(make_api(acme, "Orders"), "v1", state="draft")
    make_plan(make_product(version))
    return version


@pytest.fixture
def console(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def save(console: Client, **changes: Any) -> Any:
    return console.post(PAGE, FORM | changes)


def served() -> VersionDocument:
    latest = GatewayChange.objects.filter(kind="version").latest("sequence")
    document = snapshot.load(latest.document or "")
    assert isinstance(document, VersionDocument)
    return document


def test_what_the_page_saves_is_served_after_the_next_publication(
    console: Client, alice: User, version: Version
) -> None:
    services.publish_version(actor=alice, version=version)
    changes = {
        "authentication": "none",
        "when_unrecordable": "pass",
        "unknown_operation": "pass",
        "max_body_bytes": "2 KiB",
        "websocket": "on",
        "websocket_origins": "https://App.example.com/\nhttps://other.example:443\nhttp://localhost:3000",
        "other_upgrades": "MQTT, amqp",
        "tunnel_idle_ms": 60000,
        "max_message_bytes": 4096,
        "max_connections": 12,
        "read_timeout_ms": 1500,
        "preserve_host": "on",
    }
    assert save(console, **changes).status_code == 302
    before = served()
    assert (before.unknown_operation, before.authentication) == ("refuse", "key"), "the draft is not what is served"
    page = console.get(PAGE).content.decode()
    assert "Unpublished changes" in page
    for shown in ('value="2 KiB"', 'value="4 KiB"', 'value="mqtt amqp"', "https://app.example.com\n"):
        assert shown in page
    services.publish_version(actor=alice, version=version)
    document = served()
    assert (document.authentication, document.when_unrecordable) == ("none", "pass")
    assert (document.unknown_operation, document.max_body_bytes) == ("pass", 2048)
    assert document.upgrades == ("websocket", "mqtt", "amqp")
    assert document.websocket_origins == ("https://app.example.com", "https://other.example", "http://localhost:3000")
    assert (document.tunnel_idle_ms, document.max_message_bytes) == (60_000, 4096)
    upstream = document.upstream
    assert (upstream.max_connections, upstream.read_timeout_ms, upstream.preserve_host) == (12, 1500, True)
    assert "Unpublished changes" not in console.get(PAGE).content.decode()


def test_without_settings_a_version_is_served_as_documents_say(alice: User, version: Version) -> None:
    services.publish_version(actor=alice, version=version)
    document = served()
    usual = VersionDocument(1, 1, 1, "", "published", "/", document.upstream)
    for field in GatewaySettings().as_configuration():
        assert getattr(document, field) == getattr(usual, field)
    assert document.upstream == snapshot.UpstreamDocument("http://8.8.8.8:8090")


def test_a_revision_of_earlier_days_is_served_and_is_not_behind(console: Client, alice: User, version: Version) -> None:
    services.publish_version(actor=alice, version=version)
    version.refresh_from_db()
    revision = version.deployed_revision
    assert revision is not None
    del revision.configuration["gateway"]["authentication"], revision.configuration["gateway"]["when_unrecordable"]
    revision.save()
    assert "Unpublished changes" not in console.get(PAGE).content.decode(), "frozen before there were these settings"
    del revision.configuration["gateway"], revision.configuration["upstream"]["max_connections"]
    revision.save()
    assert "Unpublished changes" not in console.get(PAGE).content.decode(), "frozen before there were any"
    services.deprecate_version(actor=alice, version=version)
    assert served().max_body_bytes == 10 * 2**20


def test_who_needs_no_key_needs_no_plan(alice: User, version: Version) -> None:
    version.products.all().delete()
    with pytest.raises(DomainError) as error:
        services.publish_version(actor=alice, version=version)
    assert set(error.value.fields) == {"plan"}
    services.set_gateway_settings(actor=alice, version=version, authentication="none")
    services.publish_version(actor=alice, version=version)
    assert (served().authentication, served().product_ids) == ("none", ())


@pytest.mark.processes
@pytest.mark.parametrize(
    ("authentication", "when_unrecordable", "statuses"),
    [
        ("key", "refuse", {"known": [200, 503], "unknown": [401, 401]}),
        ("key", "pass", {"known": [200, 200], "unknown": [401, 401]}),
        ("none", "refuse", {"known": [200, 503], "unknown": [200, 503]}),
        ("none", "pass", {"known": [200, 200], "unknown": [200, 200]}),
    ],
)
def test_a_worker_does_what_the_page_says(
    console: Client,
    alice: User,
    version: Version,
    tmp_path: Path,
    authentication: str,
    when_unrecordable: str,
    statuses: dict[str, list[int]],
) -> None:
    """From the form to the change log, and from there through a worker: with room for records, and without."""
    save(console, authentication=authentication, when_unrecordable=when_unrecordable)
    services.publish_version(actor=alice, version=version)
    document = served()
    path = document.base_path + document.operations[0].path
    world = World(version=document, subscription=SubscriptionDocument(50, document.product_ids[0], 40))

    async def scenario(gateway: Running) -> None:
        for is_full in (False, True):
            gateway.recorder.is_full = is_full
            for caller, key in (("known", world.key), ("unknown", "")):
                reply = await gateway.get(path, key=key, method=document.operations[0].method)
                assert reply.status == statuses[caller][is_full], caller
        known = {record.application_id for record in gateway.recorder.records if record.status == 200}
        assert known == ({60} if authentication == "key" else {0}), "without a key nobody is known"

    play(tmp_path, scenario, world)


BAD = {
    "body too large": ({"max_body_bytes": "2048 GiB"}, "max_body_bytes", {"max_body_bytes": 2**41}),
    "no size": ({"max_body_bytes": "lots"}, "max_body_bytes", {"max_body_bytes": "lots"}),
    "negative size": ({"max_body_bytes": "-1"}, "max_body_bytes", {"max_body_bytes": -1}),
    "no way in": ({"authentication": "basic"}, "authentication", {"authentication": "basic"}),
    "no rule for the unrecordable": (
        {"when_unrecordable": "drop"}, "when_unrecordable", {"when_unrecordable": "drop"},
    ),
    "no operation rule": ({"unknown_operation": "drop"}, "unknown_operation", {"unknown_operation": "drop"}),
    "idle at once": ({"tunnel_idle_ms": 10}, "tunnel_idle_ms", {"tunnel_idle_ms": 10}),
    "idle for ever": ({"tunnel_idle_ms": 10**9}, "tunnel_idle_ms", {"tunnel_idle_ms": 10**9}),
    "no message fits": ({"max_message_bytes": "0"}, "max_message_bytes", {"max_message_bytes": 0}),
    "h2c smuggles calls": ({"other_upgrades": "h2c"}, "other_upgrades", {"upgrades": ["h2c"]}),
    "HTTP in HTTP": ({"other_upgrades": "mqtt HTTP/2.0"}, "other_upgrades", {"upgrades": ["mqtt", "HTTP/2.0"]}),
    "TLS hides calls": ({"other_upgrades": "TLS"}, "other_upgrades", {"upgrades": ["tls"]}),
    "no protocol": ({"other_upgrades": "a:b"}, "other_upgrades", {"upgrades": ["a\rb: c"]}),
    "many protocols": (
        {"other_upgrades": " ".join(f"p{n}" for n in range(11))}, "other_upgrades",
        {"upgrades": [f"p{n}" for n in range(11)]},
    ),
    "any origin": ({"websocket_origins": "*"}, "websocket_origins", {"websocket_origins": ["*"]}),
    "no origin": ({"websocket_origins": "null"}, "websocket_origins", {"websocket_origins": ["null"]}),
    "origin with path": (
        {"websocket_origins": "https://a.example/b"}, "websocket_origins", {"websocket_origins": ["https://a.example/b"]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_refused_where_they_were_entered_and_reach_no_node(
    console: Client, alice: User, acme: Organisation, version: Version, case: str
) -> None:
    entered, field, sent = BAD[case]
    services.publish_version(actor=alice, version=version)
    before = GatewayChange.objects.count()
    response = save(console, **entered)
    assert response.status_code == 422
    assert list(response.context["form"].errors) == [field]
    assert "catalog/gateway.html" in [template.name for template in response.templates]
    problem = Caller(alice, acme)("put", f"{REST}gateway", sent, status=422)
    assert set(problem["fields"]) == set(sent)
    assert not GatewaySettings.objects.exists()
    assert GatewayChange.objects.count() == before


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_connections", 0), ("max_connections", 70_000), ("read_timeout_ms", 0), ("connect_timeout_ms", 10**7)],
)
def test_bad_upstream_settings_are_refused_likewise(
    console: Client, alice: User, acme: Organisation, version: Version, field: str, value: int
) -> None:
    response = save(console, **{field: value})
    assert list(response.context["form"].errors) == [field]
    problem = Caller(alice, acme)("put", f"{REST}upstream", {"url": "https://8.8.8.8", field: value}, status=422)
    assert set(problem["fields"]) == {field}
    with pytest.raises(DomainError) as error:
        services.set_upstream(actor=alice, version=version, url="https://8.8.8.8", **{field: value})
    assert set(error.value.fields) == {field}
    assert GatewayChange.objects.count() == 0


def test_one_bad_field_saves_nothing_of_the_page(console: Client, version: Version) -> None:
    response = save(console, base_path="/elsewhere", max_body_bytes="1 KiB", other_upgrades="h2c")
    assert response.status_code == 422
    version.refresh_from_db()
    assert version.route.base_path == "/orders/v1"
    assert not GatewaySettings.objects.exists()


def test_what_got_past_every_form_is_refused_by_the_compiler(alice: User, version: Version) -> None:
    """As a row edited by hand would be."""
    GatewaySettings.objects.create(version=version, upgrades=["h2c"])
    with pytest.raises(DomainError, match="h2c") as error:
        services.publish_version(actor=alice, version=version)
    assert error.value.code == "bad_gateway_configuration"
    assert GatewayChange.objects.count() == 0
    version.refresh_from_db()
    assert version.state == "draft"


@pytest.mark.parametrize(
    ("address", "sent", "unknown", "known"),
    [
        ("gateway", {"authentification": "none", "upgrades": ["websocket"]}, "authentification", "authentication"),
        ("gateway", {"Authentication": "none"}, "Authentication", "authentication"),
        ("gateway", {"x" * 200: 1, "max_body_bytes": "no"}, "x" * 60, "max_body_bytes"),
        ("route", {"base_path": "/elsewhere", "hots": "a.example"}, "hots", "host"),
        ("upstream", {"url": "https://8.8.8.8", "read_timeout": 9}, "read_timeout", "read_timeout_ms"),
    ],
)
def test_a_misspelt_setting_is_refused_and_resets_nothing(
    alice: User, acme: Organisation, version: Version, address: str, sent: dict[str, object], unknown: str, known: str
) -> None:
    call = Caller(alice, acme)
    call("put", f"{REST}gateway", {"unknown_operation": "pass"})
    before = call("get", REST + address)
    problem = call("put", REST + address, sent, status=400)
    assert problem["code"] == "unknown_field"
    assert unknown in problem["detail"]
    assert list(problem["fields"]) == [unknown]
    assert known in problem["fields"][unknown].partition("Known are: ")[2].rstrip(".").split(", ")
    assert call("get", REST + address) == before


def test_settings_over_rest(alice: User, acme: Organisation, version: Version) -> None:
    call = Caller(alice, acme)
    usual = call("get", f"{REST}gateway")
    assert usual == {
        "authentication": "key",
        "unknown_operation": "refuse",
        "max_body_bytes": 10 * 2**20,
        "upgrades": [],
        "websocket_origins": [],
        "tunnel_idle_ms": 300_000,
        "max_message_bytes": 2**20,
        "when_unrecordable": "refuse",
    }
    given = {"authentication": "none", "unknown_operation": "pass", "when_unrecordable": "pass"}
    changed = call("put", f"{REST}gateway", {"upgrades": ["WebSocket"], **given})
    assert changed == usual | {"upgrades": ["websocket"], **given}
    assert call("put", f"{REST}gateway", {}) == usual
    trail = AuditEntry.objects.filter(action="catalog.version.gateway_set").order_by("pk")
    assert [set(entry.data) for entry in trail] == [{"upgrades", *given}] * 2


def test_only_editors_and_only_of_versions_that_live(
    console: Client, alice: User, acme: Organisation, version: Version, victor: User
) -> None:
    with pytest.raises(NotAllowed):
        services.set_gateway_settings(actor=victor, version=version)
    version.state = "retired"
    version.save()
    with pytest.raises(Conflict):
        services.set_gateway_settings(actor=alice, version=version)
    assert "Largest request body" in console.get(PAGE).content.decode()
    assert save(console).status_code in {409, 422}
