"""A node without a control plane: configured by a file, with and without a database for its usage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from apimgr.contracts.usage import decode
from tests.proxy.processes.node import Node, Upstream, running, wait_for

pytestmark = pytest.mark.processes

FILE = """
apimgr: 1
apis:
  - name: Echo
    versions:
      - {{name: v1, base_path: /echo, upstream: "{url}"}}
plans:
  - {{name: Free, apis: [Echo], limits: [{{quota: {quota}, per: day}}]}}
applications:
  - name: Shop
    plans: [Free]
    keys: [{{digest: "{digest}", state: {state}}}]
"""


def new_key() -> tuple[str, str]:
    """As an operator makes one."""
    environment = {**os.environ, "APIMGR_KEY_PEPPER": settings.KEY_PEPPER.decode()}
    command = [sys.executable, "-m", "proxy.dataplane", "new-key", "shop"]
    told = subprocess.run(
        command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=True
    ).stdout.split()
    return told[1], told[3]


def replace(path: Path, text: str) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.rename(path)


def rejected(node: Node) -> int:
    return node.metric("rejected_documents_total")


def test_a_file_is_served_followed_and_kept(
    tmp_path: Path, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, digest = new_key()
    path = tmp_path / "gateway.yaml"
    good = {"url": upstream.url, "quota": 1000, "digest": digest, "state": "active"}
    replace(path, FILE.format(**good))
    monkeypatch.setenv("APIMGR_GATEWAY_CONFIG", str(path))

    with running(tmp_path / "node", url="") as node:
        node.wait_ready()
        assert node.call("/echo/a", key)[:2] == (200, "/a")
        assert node.call("/echo/a")[0] == 401

        replace(path, FILE.format(**good | {"state": "revoked"}))
        wait_for(lambda: node.call("/echo/a", key)[0] == 401)
        replace(path, FILE.format(**good | {"quota": 3}))
        wait_for(lambda: node.call("/echo/a", key)[0] == 429)

        replace(path, "apis: [")
        wait_for(lambda: rejected(node) == 1)
        assert node.call("/echo/a", key)[0] == 429, "the last good configuration stays"
        path.unlink()
        wait_for(lambda: rejected(node) == 2)
        assert node.call("/echo/a", key)[0] == 429
        for role in ("agent", "worker"):
            former = node.children(role)
            node.kill(role)
            wait_for(lambda former=former, role=role: node.children(role) not in ([], former))
        assert node.call("/echo/a", key)[0] == 429, "who is started again needs no file"
        assert "gateway.yaml" in node.log.read_text()
        spooled = [item for file in node.var.rglob("*.spool") for _, item in decode(file.read_bytes())]
        assert len(spooled) > 5, "calls are recorded although no database takes them"

    replace(path, "still: wrong")
    with running(tmp_path / "node", url="") as node:
        node.wait_ready()
        assert node.call("/echo/a", key)[0] == 429, "also over a restart"
