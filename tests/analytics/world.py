"""Oscar's API with calls of Dev's application: what pages and REST are tried on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_bytes
from typing import Any

from django.db import connection

from analytics.services import rollups
from apimgr.accounts.models import Organisation
from apimgr.catalog.models import API, Operation, Version
from apimgr.contracts.outcomes import BY_CODE
from apimgr.contracts.usage import UPSERT_NODE, UsageRecord
from apimgr.products.models import Plan
from portal.models import Application, Credential, Subscription
from tests.analytics.calls import call, store
from tests.factories import make_api, make_plan, make_product, make_version


@dataclass
class Scene:
    api: API
    version: Version
    operation: Operation
    plan: Plan
    application: Application
    credential: Credential

    def call(self, at: datetime, **fields: Any) -> UsageRecord:
        ids = {
            "api_id": self.api.pk,
            "version_id": self.version.pk,
            "operation_id": self.operation.pk,
            "application_id": self.application.pk,
            "credential_id": self.credential.pk,
            "plan_id": self.plan.pk,
        }
        return call(at, **{**ids, **fields})

    def refusal(self, at: datetime, code: str, **fields: Any) -> UsageRecord:
        outcome = BY_CODE[code]
        given = {"status": outcome.status, "upstream_status": 0, "upstream_us": 0, "outcome": outcome.number}
        return self.call(at, **{**given, "path": b"/orders/v1/get", **fields})


def make_scene(publisher: Organisation, developers: Organisation, name: str = "Orders") -> Scene:
    api = make_api(publisher, name)
    version = make_version(api)
    plan = make_plan(make_product(version))
    application = Application.objects.create(organisation=developers, name=f"{name} shop")
    Subscription.objects.create(application=application, plan=plan, product=plan.product, state="active")
    credential = Credential.objects.create(
        application=application, digest=token_bytes(32), prefix="ak_live_AbC", last4="wxyz"
    )
    return Scene(api, version, version.operations.get(), plan, application, credential)


def tell_shipped(*, node: str, until: datetime) -> None:
    """Say, as a node's heart does, that everything ``node`` served before ``until`` is stored."""
    with connection.cursor() as cursor:
        cursor.execute(UPSERT_NODE, (node, until))


def told(*records: UsageRecord) -> None:
    """Store, roll up, and say that everything is here."""
    store(*records)
    rollups.roll_up_all()
    last = max(record.started_at_us for record in records) / 1_000_000
    tell_shipped(node="node-1", until=datetime.fromtimestamp(last).astimezone() + timedelta(seconds=1))
