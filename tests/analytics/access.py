from __future__ import annotations

import time
from typing import Any
from uuid import UUID

from tests.access import ACME, EVERYONE, Row, World
from tests.analytics.calls import call, store

READERS = ACME | {"rita"}  # whoever reads the usage of some publisher; each finds their own
BUILDERS = frozenset({"dev"})


def api(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug}


def version(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug, "name": world.version.name}


def application(world: World) -> dict[str, Any]:
    return {"application_id": world.application.pk}


def credential(world: World) -> dict[str, Any]:
    return {"credential_id": world.credential.pk}


def request(world: World) -> dict[str, Any]:
    """A call of Dev's application to Acme's API."""
    ids = {"api_id": world.api.pk, "version_id": world.version.pk, "application_id": world.application.pk}
    record = call(**ids, credential_id=world.credential.pk)
    store(record, node=str(time.monotonic_ns()))
    return {"request_id": UUID(bytes=record.request_id)}


ACCESS = {
    "analytics:overview": Row(allow=READERS),
    "analytics:api": Row(api, ACME),
    "analytics:chart": (
        Row(lambda world: {"name": "traffic"}, READERS),
        Row(lambda world: {"name": "traffic"}, ACME, query="?api=orders"),
    ),
    "analytics:export": (Row(allow=READERS), Row(allow=ACME, query="?api=orders")),
    "analytics:requests": (Row(allow=READERS), Row(allow=ACME, query="?api=orders")),
    "analytics:request": Row(request, ACME | BUILDERS),
    "analytics:api-panel": Row(api, ACME),
    "analytics:version-activity": Row(version, ACME),
    "analytics:application-usage": Row(application, BUILDERS),
    "analytics:application-chart": Row(application, BUILDERS),
    "analytics:application-requests": Row(application, BUILDERS),
    "analytics:application-activity": Row(application, ACME | {"olga"}),
    "analytics:organisation-activity": Row(lambda world: {"slug": world.builders.slug}, {"olga"}),
    "analytics:first-call": Row(credential, BUILDERS),
    "analytics:key-activity": Row(credential, BUILDERS),
    # Everybody with a token asks of their own; whose numbers those are is tested in test_api.py.
    "api-usage": (
        Row(allow=EVERYONE),
        Row(allow=READERS, query="?of=apis"),
        Row(allow=ACME, query="?of=apis&api=orders"),
    ),
    "api-requests": (Row(allow=EVERYONE), Row(allow=READERS, query="?of=apis")),
    "api-request": Row(request, ACME | BUILDERS),
}
