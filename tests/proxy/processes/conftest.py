from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.conf import settings
from django.db import transaction

from apimgr.contracts.credentials import digest_key, generate_key
from apimgr.contracts.snapshot import (
    ApplicationDocument,
    CredentialDocument,
    OperationDocument,
    PlanDocument,
    RouteDocument,
    SubscriptionDocument,
    UpstreamDocument,
    VersionDocument,
)
from proxy.services import append_changes
from tests.proxy.processes.node import Upstream


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    server = Upstream()
    yield server
    server.shutdown()
    server.server_close()


@dataclass
class Published:
    """One API at ``/echo`` behind one key, as the change log has it."""

    key: str
    credential: CredentialDocument

    def revoke(self) -> int:
        gone = CredentialDocument(self.credential.id, self.credential.application_id, self.credential.digest, "revoked")
        with transaction.atomic():
            return append_changes([gone])


@pytest.fixture
def published(transactional_db: None, upstream: Upstream) -> Published:
    return publish(upstream.url)


def publish(url: str, **version: Any) -> Published:
    key = generate_key("ak").secret
    credential = CredentialDocument(9, 8, digest_key(key.encode(), settings.KEY_PEPPER).hex())
    documents = [
        VersionDocument(
            id=2,
            api_id=1,
            organisation_id=3,
            name="v1",
            state="published",
            base_path="/echo",
            upstream=UpstreamDocument(url),
            product_ids=(4,),
            operations=(OperationDocument(5, "GET", "/things/{id}"),),
            **version,
        ),
        RouteDocument("", "/echo", 2),
        PlanDocument(6, "Unlimited"),
        ApplicationDocument(8, 3, "App", subscriptions=(SubscriptionDocument(7, 4, 6),)),
        credential,
    ]
    with transaction.atomic():
        append_changes(documents)
    return Published(key, credential)
