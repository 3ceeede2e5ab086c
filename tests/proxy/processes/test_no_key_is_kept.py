"""After a load run nothing that lasts holds an issued key: no row, file of the node, log or metric (K3)."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.db import connection

from apimgr.accounts.models import Role
from apimgr.contracts.credentials import generate_key
from portal import services
from tests.factories import make_member, make_organisation, make_user
from tests.leaks import files_with, rows_with
from tests.proxy.processes.conftest import Published
from tests.proxy.processes.node import TOKEN, running, wait_for

pytestmark = pytest.mark.processes


def issued(count: int) -> list[str]:
    """Keys as the portal gives them out; their application has no subscription, so that calls are explained."""
    builders = make_organisation("Builders", is_publisher=False)
    dev = make_member(make_user("dev"), builders, Role.ADMINISTRATOR).user
    application = services.create_application(actor=dev, organisation=builders, name="Shop")
    keys = [services.issue_credential(actor=dev, application=application) for _ in range(count)]
    rolled = services.roll_credential(actor=dev, credential=keys[0][0])
    return [key.secret for _, key in [*keys, rolled]]


@pytest.mark.requirement("K3.1", "K9.1")
def test_no_issued_key_is_found_anywhere(published: Published, tmp_path: Path) -> None:
    keys = [published.key, *issued(5), generate_key("ak").secret]
    with running(tmp_path / "node", workers=2) as node:
        node.wait_ready()
        last = ""
        for key in keys * 5:
            assert node.call("/echo/things/1", key)[0] in (200, 401, 403)
            assert node.call(f"/echo/things/{key}", key)[0] in (200, 401, 403)
            # Where keys do not belong, and people put them all the same.
            for path in (f"/echo/things/1?api_key={key}", f"/echo/{key}/x", f"/{key}"):
                status, body, last = node.call(path)
                assert status in (401, 404)
                assert key not in body
            assert node.call("/echo/things/1", f"{key}x")[0] == 401
        wait_for(lambda: stored(last))
        metrics = node.get("/metrics", Authorization=f"Bearer {TOKEN}")[1]
        while_running = files_with([tmp_path], secrets_of(keys))
    assert while_running == files_with([tmp_path], secrets_of(keys)) == []
    assert rows_with(secrets_of(keys)) == []
    assert not any(secret in metrics for secret in secrets_of(keys))
    assert rows_with(["ak_live_***"]), "the search does find what is there"


def secrets_of(keys: list[str]) -> list[str]:
    """Without prefix and checksum: what nobody could guess."""
    return [key.rpartition("_")[2][:43] for key in keys]


def stored(request_id: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM usage_event WHERE request_id = %s", [request_id])
        return cursor.fetchone() is not None
