"""Keys that were found in public are stopped, by whoever reports them (K10)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.cache import caches
from django.test import Client
from django.urls import reverse

from apimgr.audit.models import AuditEntry
from apimgr.contracts.credentials import generate_key
from portal import services
from portal.models import Credential
from tests.access import World, make_world
from tests.leaks import rows_with

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_throttle() -> Iterator[None]:
    caches["throttle"].clear()
    yield
    caches["throttle"].clear()


def report(world: World, person: str, **body: Any) -> Any:
    headers = {"Authorization": f"Bearer {world.secrets[person]}"}
    return Client().post(reverse("api-leaks"), body, content_type="application/json", headers=headers)


def issued(world: World) -> tuple[Credential, str]:
    credential, key = services.issue_credential(actor=world.people["dev"], application=world.application)
    return credential, key.secret


@pytest.mark.requirement("K10.2")
def test_a_stranger_s_report_stops_what_works() -> None:
    world = make_world()
    (first, one), (second, other) = issued(world), issued(world)
    services.revoke_credential(actor=world.people["dev"], credential=second)
    nothing = [generate_key("ak").secret, one[:-1], "x", "é"]
    answer = report(world, "charlie", keys=[one, other, one, *nothing], found_at="https://git.example/leak")
    assert (answer.status_code, answer.json()) == (200, {"stopped": 1})
    first.refresh_from_db()
    assert first.standing == "revoked"
    entry = AuditEntry.objects.get(action="portal.credential.leaked")
    assert (entry.actor, entry.organisation_id) == (world.people["charlie"], world.builders.pk)
    assert entry.data["found_at"] == "https://git.example/leak"
    assert report(world, "charlie", keys=[one]).json() == {"stopped": 0}
    assert rows_with([one.rpartition("_")[2][6:43]]) == [], "what was reported is not kept"


@pytest.mark.requirement("K10.2")
def test_a_former_secret_ends_alone() -> None:
    world = make_world()
    credential, old = issued(world)
    rolled, _ = services.roll_credential(actor=world.people["dev"], credential=credential, overlap=timedelta(hours=1))
    assert report(world, "rita", keys=[old]).json() == {"stopped": 1}
    rolled.refresh_from_db()
    assert (rolled.standing, rolled.is_rotating) == ("active", False)
    assert report(world, "rita", keys=[old]).json() == {"stopped": 0}


@pytest.mark.requirement("K10.2")
def test_reports_are_bounded() -> None:
    world = make_world()
    assert report(world, "dev", keys=[]).status_code == 422
    assert report(world, "dev", keys=["x"] * 101).status_code == 422
    assert Client().post(reverse("api-leaks"), {"keys": ["x"]}, content_type="application/json").status_code == 401
    answers = [report(world, "charlie", keys=["x"]) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [200] * 10 + [429]
    assert answers[-1].headers["Retry-After"]
    assert report(world, "rita", keys=["x"]).status_code == 200, "each token has a count of its own"
