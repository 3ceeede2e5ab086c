from typing import Any

from tests.access import ACME, Row, World

EDITORS = frozenset({"alice", "ada"})
PUBLISHERS = ACME | {"rita"}  # members of an organisation that publishes


def api(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug}


def version(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug, "name": world.version.name}


def draft(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug, "name": world.draft.name}


def _revision(world: World) -> dict[str, Any]:
    return {**version(world), "number": 1}


DOCUMENT = '{"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {"/get": {"get": {}}}}'

REST = {
    # A list is there for everybody with a token; what is in it is tested with the selectors.
    "api-apis": (
        Row(allow={"charlie", "dev", "alice", "oscar", "victor", "ada", "olga", "rita"}),
        Row(method="post", allow=EDITORS, data={"organisation": "acme", "name": "New"}),
    ),
    "api-api": (Row(api, ACME), Row(api, EDITORS, method="patch", data={"summary": "Changed"})),
    "api-selection": (
        Row(api, ACME),
        Row(api, EDITORS, method="put", data={"select_by": "query", "name": "v", "base_path": "/shared"}),
    ),
    "api-versions": (Row(api, ACME), Row(api, EDITORS, method="post", data={"name": "v9"})),
    "api-version": Row(version, ACME),
    "api-specification": (Row(version, ACME), Row(version, EDITORS, method="post", data={"content": DOCUMENT})),
    "api-operations": Row(version, ACME),
    "api-route": (Row(version, ACME), Row(version, EDITORS, method="put", data={"base_path": "/new"})),
    "api-upstream": (Row(version, ACME), Row(version, EDITORS, method="put", data={"url": "https://8.8.8.8"})),
    "api-upstream-test": Row(version, EDITORS, method="post", data={"url": "http://127.0.0.1:1"}),
    "api-gateway-settings": (Row(version, ACME), Row(version, EDITORS, method="put", data={"upgrades": ["websocket"]})),
    "api-problems": Row(draft, ACME),
    "api-version-publish": Row(draft, EDITORS, method="post"),
    "api-version-deprecate": Row(version, EDITORS, method="post"),
    "api-version-restore": Row(version, EDITORS, method="post"),
    "api-version-retire": Row(version, EDITORS, method="post"),
    "api-version-changes": Row(version, ACME),
    "api-revisions": Row(version, ACME),
    "api-revision": Row(_revision, ACME),
    "api-revision-restore": Row(_revision, EDITORS, method="post", data={"instead_of": 1}),
}

_ADDRESS = {"base_path": "/new", "url": "https://8.8.8.8", "connect_timeout_ms": 5000, "read_timeout_ms": 30000}
_GATEWAY = {**_ADDRESS, "authentication": "key", "unknown_operation": "pass", "max_body_bytes": "1 MiB",
            "tunnel_idle_ms": 1000, "max_message_bytes": "1 KiB", "when_unrecordable": "refuse"}  # fmt: skip
_SETTINGS = {"name": "Orders", "visibility": "public"}


def _document(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug, "specification_id": world.version.specification_id}


PAGES = {
    "catalog:overview": Row(allow=PUBLISHERS),
    "catalog:apis": Row(allow=PUBLISHERS),
    "catalog:api-new": (Row(allow=EDITORS | {"rita"}), Row(allow=EDITORS | {"rita"}, method="post")),
    "catalog:api": Row(api, ACME),
    "catalog:api-versions": Row(api, ACME),
    "catalog:api-definition": Row(api, ACME),
    "catalog:api-document": Row(_document, ACME),
    "catalog:api-operations": Row(api, ACME),
    "catalog:api-gateway": (Row(api, ACME), Row(api, EDITORS, method="post", data=_GATEWAY)),
    "catalog:api-settings": (Row(api, EDITORS), Row(api, EDITORS, method="post", data=_SETTINGS)),
    "catalog:api-selection": Row(api, EDITORS, method="post", data={"select_by": ""}),
    "catalog:version-new": (Row(api, EDITORS), Row(api, EDITORS, method="post")),
    "catalog:version-source": (Row(draft, EDITORS), Row(draft, EDITORS, method="post")),
    "catalog:version-check": Row(draft, EDITORS),
    "catalog:version-address": (Row(draft, EDITORS), Row(draft, EDITORS, method="post", data=_ADDRESS)),
    "catalog:version-upstream-test": Row(draft, EDITORS, method="post", data={"url": "http://127.0.0.1:1"}),
    "catalog:version-preview": Row(draft, EDITORS),
    "catalog:version-publish": Row(draft, EDITORS, method="post"),
    "catalog:version-deprecate": Row(version, EDITORS, method="post"),
    "catalog:version-restore": Row(version, EDITORS, method="post"),
    "catalog:version-retire": Row(version, EDITORS, method="post"),
    "catalog:version-revisions": Row(version, ACME),
    "catalog:version-revision": Row(_revision, ACME),
    "catalog:revision-restore": Row(_revision, EDITORS, method="post", data={"instead_of": 1}),
}
ACCESS = REST | PAGES
