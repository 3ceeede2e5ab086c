"""The demo's world, made by the real services."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from analytics.models import UsageBatch
from apimgr.accounts.models import User
from apimgr.catalog import services as catalog
from apimgr.catalog.models import Version
from apimgr.management.demo import world
from apimgr.products.models import ApiLimit, Plan
from portal.models import Credential, Subscription


@pytest.fixture
def seed(db: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Any:
    settings.EGRESS_ALLOW = ["127.0.0.1"]
    monkeypatch.setenv("APIMGR_VAR", str(tmp_path))

    def run(upstream_port: int = 8090) -> dict[str, Any]:
        monkeypatch.setenv("APIMGR_UPSTREAM_PORT", str(upstream_port))
        call_command("seed_demo", days=1)
        told: dict[str, Any] = json.loads((tmp_path / "demo.json").read_text())
        return told

    return run


def test_it_tells_how_to_get_in(seed: Any, tmp_path: Path) -> None:
    told = seed()
    assert set(told) == {
        *("web_url", "gateway_url", "gateway_admin_url", "upstream_url", "call_url"),
        *("accounts", "api_token", "api_key", "api_key_unlimited"),
    }
    assert set(told["accounts"]) == {"admin", "publisher", "owner", "developer"}
    for account in told["accounts"].values():
        assert User.objects.get(email=account["email"]).check_password(account["password"])
    assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600
    assert world.still_good(told)


def test_the_world_is_whole(seed: Any) -> None:
    seed()
    assert sorted(Version.objects.values_list("api__slug", "name", "state")) == [
        ("httpbin", "v1", "published"),
        ("parcels", "v1", "deprecated"),
        ("parcels", "v2", "published"),
    ]
    parcels = Version.objects.filter(api__slug="parcels").order_by("name")
    assert [(version.address, version.choice) for version in parcels] == [
        ("/parcels", "X-Api-Version: v1"),
        ("/parcels", "X-Api-Version: v2"),
    ]
    assert Version.objects.get(api__slug="httpbin").operations.count() >= 40
    httpbin = Version.objects.get(api__slug="httpbin")
    assert list(httpbin.revisions.values_list("number", "restored_from__number").order_by("number")) == [
        (1, None),
        (2, None),
        (3, 1),
    ]
    assert not any(catalog.pending_changes(version) for version in Version.objects.all())
    assert Subscription.objects.filter(state="requested").count() == 1
    assert not UsageBatch.objects.filter(rolled_up_at=None).exists()


def test_its_limits_are_of_every_kind(seed: Any) -> None:
    seed()
    team = Plan.objects.get(product__slug="parcels", slug="team")
    assert [str(limit) for limit in team.served_limits] == [
        "1,200 per minute",
        "1,000,000 per billing month",
        "20 at once",
        "POST /parcels in v2: 120 per minute",
    ]
    assert [str(limit) for limit in ApiLimit.objects.all()] == ["2,000 per second", "500 at once"]


def test_a_second_start_changes_nothing_but_addresses(seed: Any) -> None:
    first = seed()
    keys, batches = Credential.objects.count(), UsageBatch.objects.count()
    second = seed(upstream_port=8091)
    assert {**second, "upstream_url": first["upstream_url"]} == first
    assert (Credential.objects.count(), UsageBatch.objects.count()) == (keys, batches)
    urls = set(Version.objects.values_list("upstream__url", flat=True))
    assert urls == {"http://127.0.0.1:8091", "http://127.0.0.1:8091/anything"}


def test_lost_keys_are_made_anew(seed: Any, tmp_path: Path) -> None:
    first = seed()
    (tmp_path / "demo.json").unlink()
    second = seed()
    assert second["api_key"] != first["api_key"]
    assert world.still_good(second)
