from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final

from django.http import Http404
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from apimgr.core.rest_views import NothingSerializer, RestView
from proxy import selectors, services
from proxy.api.serializers import (
    BootSerializer,
    ChangeSerializer,
    ChangesQuerySerializer,
    NodeSerializer,
    ReceiptSerializer,
    ReconciliationSerializer,
    RemovalSerializer,
)
from proxy.books import totals
from proxy.models import GatewayChange
from proxy.selectors import Rollout

CHANGES_PER_ANSWER: Final = 100


class ChangeList(RestView):
    query = ChangesQuerySerializer
    pagination_class = None  # ``before`` turns the page

    @extend_schema(
        operation_id="gateway_changes_list",
        summary="List changes told to gateways",
        description="The latest changes, newest first, and on how many nodes each is live. For operators.",
        responses=ChangeSerializer(many=True),
        tags=["nodes"],
    )
    def get(self, request: Request) -> Response:
        changes = selectors.changes(request.user)
        if before := self.asked.get("before"):
            changes = changes.filter(sequence__lt=before)
        listed = selectors.rollouts(changes[:CHANGES_PER_ANSWER])
        return Response(ChangeSerializer([_as_told(*entry) for entry in listed], many=True).data)


def _as_told(change: GatewayChange, rollout: Rollout) -> dict[str, Any]:
    return {
        "sequence": change.sequence,
        "kind": change.kind,
        "key": change.shown_key,
        "is_removal": change.is_removal,  # type: ignore[attr-defined]  # annotated by selectors.changes
        "created_at": change.created_at,
        "live_nodes": rollout.live,
        "connected_nodes": rollout.total,
        "rejecting_nodes": rollout.rejected,
        "reason": rollout.reason,
        "live_after_ms": rollout.ms,
    }


class Receipt(RestView):
    #: whose selector decides who may ask
    find: ClassVar[dict[str, Callable[[Any, int], Rollout | None]]] = {
        "versions": selectors.version_rollout,
        "credentials": selectors.credential_rollout,
        "plans": selectors.plan_rollout,
        "organisations": selectors.organisation_rollout,
        "applications": selectors.application_rollout,
    }

    @extend_schema(
        operation_id="receipts_read",
        summary="Read on how many nodes a change is live",
        description="Of the last change of a version, plan or key of yours; operators ask of organisations and "
        "applications. Ask again until `is_complete`.",
        parameters=[
            OpenApiParameter("kind", str, OpenApiParameter.PATH, enum=list(find)),
            OpenApiParameter("thing_id", str, OpenApiParameter.PATH, description="Its id."),
        ],
        responses=ReceiptSerializer,
        tags=["nodes"],
    )
    def get(self, request: Request, kind: str, thing_id: int) -> Response:
        find = self.find.get(kind)
        rollout = find(request.user, thing_id) if find else None
        if rollout is None:
            raise Http404
        return Response(ReceiptSerializer(rollout).data)


class Reconciliation(RestView):
    @extend_schema(
        operation_id="reconciliation_read",
        summary="Read where every call is",
        description="For each boot of each gateway node: calls generated, spooled, stored and rolled up, and what lies"
        " between. For operators.",
        responses=ReconciliationSerializer,
        tags=["nodes"],
    )
    def get(self, request: Request) -> Response:
        boots = selectors.boots(request.user)
        body = {"totals": totals(boots), "counted": selectors.counted_calls(request.user), "boots": boots}
        return Response(ReconciliationSerializer(body).data)


class NodeList(RestView):
    pagination_class = None

    @extend_schema(
        operation_id="nodes_list",
        summary="List gateway nodes",
        description="The gateway nodes and their books. For operators.",
        responses=NodeSerializer(many=True),
        tags=["nodes"],
    )
    def get(self, request: Request) -> Response:
        return Response(NodeSerializer(selectors.nodes(request.user), many=True).data)


class NodeRemove(RestView):
    @extend_schema(
        operation_id="nodes_remove",
        summary="Remove a gateway node that is gone",
        description="What it still owed is given up: those calls count as lost from now on. 409 `node_connected` while"
        " it is heard. It comes back by itself if it is started again. For operators.",
        request=None,
        responses=RemovalSerializer,
        tags=["nodes"],
    )
    def post(self, request: Request, name: str) -> Response:
        self.given(NothingSerializer)
        return Response(RemovalSerializer(services.remove_node(actor=self.actor, name=name)).data)


class BootGiveUp(RestView):
    @extend_schema(
        operation_id="reconciliation_give_up",
        summary="Give up a boot of a gateway node",
        description="Of a node that lives on and lost the spool of that boot: what it owed counts as lost from now on."
        " 409 `boot_runs` if it is the node's last, `boot_spoken_of` while the node has its spool. For operators.",
        request=None,
        responses=BootSerializer,
        tags=["nodes"],
    )
    def post(self, request: Request, node: str, boot: int) -> Response:
        self.given(NothingSerializer)
        return Response(BootSerializer(services.give_up_boot(actor=self.actor, node=node, boot=boot)).data)
