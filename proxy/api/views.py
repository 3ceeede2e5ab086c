from __future__ import annotations

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from proxy import selectors
from proxy.api.serializers import NodeSerializer


class NodeList(APIView):
    @extend_schema(
        operation_id="nodes_list",
        summary="List gateway nodes",
        description="The gateway nodes and their books. For operators.",
        responses=NodeSerializer(many=True),
        tags=["nodes"],
    )
    def get(self, request: Request) -> Response:
        return Response(NodeSerializer(selectors.nodes(request.user), many=True).data)
