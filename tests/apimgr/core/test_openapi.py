"""The REST API's own document, kept as a snapshot: a change to it is a change reviewers read.

``pytest tests/apimgr/core/test_openapi.py --update-golden`` writes it anew.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "openapi.json"


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    with redirect_stderr(io.StringIO()) as warnings:
        schema = SchemaGenerator().get_schema(request=None, public=True)
    assert not GENERATOR_STATS, warnings.getvalue()
    return json.loads(json.dumps(schema, default=str))


def test_the_document_is_the_snapshot(document: dict[str, Any], request: pytest.FixtureRequest) -> None:
    text = json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if request.config.getoption("--update-golden"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), "the REST API changed: look at it, then run with --update-golden"


def test_every_operation_is_described(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            where = f"{method.upper()} {path}"
            assert operation.get("summary"), f"{where} has no summary"
            assert operation.get("tags"), f"{where} has no tag"
            assert "401" in operation["responses"], where
            assert operation.get("security"), f"{where} does not say who may call it"


def test_operation_ids_are_unique(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_references_resolve(document: dict[str, Any]) -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(ref := node.get("$ref"), str):
                target: Any = document
                for step in ref.removeprefix("#/").split("/"):
                    target = target[step]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


@pytest.mark.django_db
def test_it_is_served_to_everyone(client: Client) -> None:
    response = client.get("/api/v1/openapi.json")
    assert response.status_code == 200
    assert response.json()["openapi"].startswith("3.1")
