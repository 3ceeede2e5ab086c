"""What callers are told to present, by input/output pairs: ``tests/golden/reference``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from portal.reference import public_document
from proxy.dataplane.http.fields import PLAIN, kind_of
from proxy.dataplane.policies.identify import passes_on

PAIRS = sorted((Path(__file__).parents[1] / "golden" / "reference").glob("*.json"))


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_what_callers_present(path: Path) -> None:
    pair = json.loads(path.read_text())
    given = json.dumps(pair["given"])
    for needs_key, expected in ((True, pair["with a key"]), (False, pair["without"])):
        assert public_document(pair["given"], "https://api.example.com/orders/v1", needs_key=needs_key) == expected
        assert json.dumps(pair["given"]) == given


@pytest.mark.parametrize("broken", [[], "none", {"a": None}, {"a": {"$ref": "#/nowhere"}}, {"a": {"type": 1}}, {1: {}}])
def test_what_is_no_scheme_is_none(broken: object) -> None:
    document = {"openapi": "3.1.0", "security": broken, "components": {"securitySchemes": broken}}
    assert list(public_document(document, "https://api.example.com")["components"]["securitySchemes"]) == ["apiKey"]
    public_document(document, "https://api.example.com", needs_key=False)


@pytest.mark.parametrize(
    ("scheme", "arrives"),
    [
        ({"type": "http", "scheme": "Basic"}, passes_on(b"Basic YTpi", keyed=True)),
        ({"type": "http", "scheme": "digest"}, passes_on(b'Digest username="a"', keyed=True)),
        ({"type": "http", "scheme": "bearer"}, passes_on(b"Bearer a.b.c", keyed=True)),
        ({"type": "oauth2", "flows": {}}, passes_on(b"Bearer a.b.c", keyed=True)),
        *(
            ({"type": "apiKey", "in": "header", "name": name}, kind_of(name.encode()) == PLAIN)
            for name in ("X-Auth-Token", "X-Api-Key", "X-API-Token", "X-Consumer-Id", "X-Forwarded-User")
        ),
    ],
)
def test_what_is_stated_is_what_the_gateway_passes_on(scheme: dict[str, str], arrives: bool) -> None:
    document = {"openapi": "3.1.0", "components": {"securitySchemes": {"own": scheme}}}
    stated = public_document(document, "https://api.example.com")["components"]["securitySchemes"]
    assert ("own" in stated) is arrives
