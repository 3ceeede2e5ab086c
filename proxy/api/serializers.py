from __future__ import annotations

from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from proxy.selectors import NodeStanding


class BooksSerializer(serializers.Serializer[Any]):
    """One node's calls on their way to the database, since it started."""

    generated = serializers.IntegerField()
    spooled = serializers.IntegerField()
    acknowledged = serializers.IntegerField()
    stored = serializers.IntegerField()


class ChangeSerializer(serializers.Serializer[Any]):
    """A change told to gateways, and how far it has come."""

    sequence = serializers.IntegerField()
    kind = serializers.CharField()
    key = serializers.CharField(help_text="Which document of its kind.")
    is_removal = serializers.BooleanField()
    created_at = serializers.DateTimeField()
    live_nodes = serializers.IntegerField(help_text="Connected nodes that enforce it.")
    connected_nodes = serializers.IntegerField()
    live_after_ms = serializers.IntegerField(
        allow_null=True,
        help_text="From its commit to the slowest of these nodes; null if not known any more.",
    )


class NodeSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(source="node.name")
    is_connected = serializers.BooleanField(help_text="Whether it was heard of in the last ten seconds.")
    software_version = serializers.CharField(source="node.software_version")
    workers = serializers.IntegerField(source="node.workers")
    started_at = serializers.DateTimeField(source="node.started_at")
    heartbeat_at = serializers.DateTimeField(source="node.heartbeat_at")
    applied_sequence = serializers.IntegerField(source="node.applied_sequence")
    lag = serializers.IntegerField(help_text="Changes it has not applied yet.")
    books = serializers.SerializerMethodField()
    gap = serializers.IntegerField(help_text="Calls between the first of the books and the last; 0 when they agree.")

    @extend_schema_field(BooksSerializer)
    def get_books(self, standing: NodeStanding) -> dict[str, int]:
        return dict(zip(("generated", "spooled", "acknowledged", "stored"), standing.books, strict=True))
