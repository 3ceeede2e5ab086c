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
