"""How long a revocation takes to be enforced, and a call to be stored: ``pytest tests/bench/enforcement.py -s``."""

from __future__ import annotations

import statistics
import time
from functools import partial
from pathlib import Path

import pytest
from django.db import connection, transaction

from apimgr.contracts.snapshot import CredentialDocument
from proxy.services import append_changes
from tests.proxy.processes.conftest import Published, publish
from tests.proxy.processes.node import Node, Upstream, running, wait_for

ROUNDS = 60


@pytest.mark.processes
@pytest.mark.django_db(transaction=True)
def test_enforcement(tmp_path: Path) -> None:
    upstream = Upstream()
    published = publish(upstream.url)
    with running(tmp_path / "node") as node:
        node.wait_ready()
        enforced, stored = [], []
        for round_ in range(ROUNDS):
            state = "revoked" if round_ % 2 == 0 else "active"
            _append(published, state)
            enforced.append(_until_status(node, published.key, 401 if state == "revoked" else 200))
        for _ in range(20):
            _, _, request_id = node.call("/echo/things/1", published.key)
            stored.append(wait_for(partial(_is_stored, request_id), every=0.01))
            time.sleep(0.05)
    upstream.shutdown()
    upstream.server_close()
    for name, seconds in (("change enforced", enforced), ("call stored", stored)):
        ms = sorted(1000 * value for value in seconds)
        print(f"\n{name}: p50 {statistics.median(ms):.0f} ms, max {ms[-1]:.0f} ms over {len(ms)}")


def _until_status(node: Node, key: str, status: int) -> float:
    return wait_for(lambda: node.call("/echo/things/1", key)[0] == status, every=0.001)


def _append(published: Published, state: str) -> None:
    known = published.credential
    with transaction.atomic():
        append_changes([CredentialDocument(known.id, known.application_id, known.digest, state)])  # type: ignore[arg-type]


def _is_stored(request_id: str) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM usage_event WHERE request_id = %s)", [request_id])
        return bool(cursor.fetchone()[0])
