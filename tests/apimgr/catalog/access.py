from typing import Any

from tests.access import ACME, Row, World

EDITORS = frozenset({"alice", "ada"})


def api(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug}


def version(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug, "name": world.version.name}


def draft(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug, "name": world.draft.name}


DOCUMENT = '{"openapi": "3.1.0", "info": {"title": "T", "version": "1"}, "paths": {"/get": {"get": {}}}}'

ACCESS = {
    # A list is there for everybody with a token; what is in it is tested with the selectors.
    "api-apis": (
        Row(allow={"charlie", "dev", "alice", "oscar", "victor", "ada", "olga", "rita"}),
        Row(method="post", allow=EDITORS, data={"organisation": "acme", "name": "New"}),
    ),
    "api-api": (Row(api, ACME), Row(api, EDITORS, method="patch", data={"summary": "Changed"})),
    "api-versions": (Row(api, ACME), Row(api, EDITORS, method="post", data={"name": "v9"})),
    "api-version": Row(version, ACME),
    "api-specification": (Row(version, ACME), Row(version, EDITORS, method="post", data={"content": DOCUMENT})),
    "api-operations": Row(version, ACME),
    "api-route": (Row(version, ACME), Row(version, EDITORS, method="put", data={"base_path": "/new"})),
    "api-upstream": (Row(version, ACME), Row(version, EDITORS, method="put", data={"url": "https://8.8.8.8"})),
    "api-upstream-test": Row(version, EDITORS, method="post", data={"url": "http://127.0.0.1:1"}),
    "api-problems": Row(draft, ACME),
    "api-version-publish": Row(draft, EDITORS, method="post"),
    "api-version-deprecate": Row(version, EDITORS, method="post"),
    "api-version-restore": Row(version, EDITORS, method="post"),
    "api-version-retire": Row(version, EDITORS, method="post"),
}
