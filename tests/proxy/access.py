from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import transaction

from proxy import compiler
from proxy.models import GatewayBoot, GatewayNode
from proxy.services import append_changes
from tests.access import ACME, Row, World
from tests.proxy.control.test_gone_nodes import make_boot
from tests.proxy.control.test_rollout import make_node

OPERATORS = frozenset({"olga"})


def version(world: World) -> dict[str, Any]:
    with transaction.atomic():
        append_changes(compiler.version_changes(world.version).documents)
    return {"version_id": world.version.pk}


def credential(world: World) -> dict[str, Any]:
    with transaction.atomic():
        append_changes([compiler.credential_document(world.credential)])
    return {"credential_id": world.credential.pk}


def plan(world: World) -> dict[str, Any]:
    with transaction.atomic():
        append_changes([compiler.plan_document(world.plan)])
    return {"plan_id": world.plan.pk}


def organisation(world: World) -> dict[str, Any]:
    with transaction.atomic():
        append_changes([compiler.organisation_document(world.builders)])
    return {"organisation_id": world.builders.pk}


def application(world: World) -> dict[str, Any]:
    with transaction.atomic():
        append_changes([compiler.application_document(world.application)])
    return {"application_id": world.application.pk}


def gone_node(world: World) -> dict[str, Any]:
    if not GatewayNode.objects.filter(name="gone").exists():
        make_node("gone", silent_s=60)
    return {"name": "gone"}


def silent_boot(world: World) -> dict[str, Any]:
    if not GatewayBoot.objects.exists():
        make_boot("there", 5, silent_s=60)
    return {"node": "there", "boot": 5}


def _receipt(kind: str, of: Callable[[World], dict[str, Any]]) -> Callable[[World], dict[str, Any]]:
    return lambda world: {"kind": kind, "thing_id": next(iter(of(world).values()))}


ACCESS: dict[str, Row | tuple[Row, ...]] = {
    "proxy:overview": Row(allow=OPERATORS),
    "proxy:nodes": Row(allow=OPERATORS),
    "proxy:node-remove": Row(kwargs=gone_node, allow=OPERATORS, method="post"),
    "proxy:boot-give-up": Row(kwargs=silent_boot, allow=OPERATORS, method="post"),
    "proxy:books": Row(allow=OPERATORS),
    "proxy:changes": Row(allow=OPERATORS),
    "proxy:receipt": Row(kwargs=version, allow=ACME),
    "proxy:credential-receipt": Row(kwargs=credential, allow={"dev"}),
    "proxy:plan-receipt": Row(kwargs=plan, allow=ACME),
    "proxy:organisation-receipt": Row(kwargs=organisation, allow=OPERATORS),
    "proxy:application-receipt": Row(kwargs=application, allow=OPERATORS),
    "api-receipt": (
        Row(kwargs=_receipt("versions", version), allow=ACME),
        Row(kwargs=_receipt("credentials", credential), allow={"dev"}),
        Row(kwargs=_receipt("plans", plan), allow=ACME),
        Row(kwargs=_receipt("organisations", organisation), allow=OPERATORS),
        Row(kwargs=_receipt("applications", application), allow=OPERATORS),
        Row(kwargs=_receipt("cats", application)),
    ),
    "api-reconciliation": Row(allow=OPERATORS),
    "api-nodes": Row(allow=OPERATORS),
    "api-node-remove": Row(kwargs=gone_node, allow=OPERATORS, method="post"),
    "api-boot-give-up": Row(kwargs=silent_boot, allow=OPERATORS, method="post"),
    "api-gateway-changes": Row(allow=OPERATORS),
}
