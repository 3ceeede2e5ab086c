from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers

from apimgr.accounts.models import Organisation
from apimgr.catalog.lifecycle import moves_from
from apimgr.catalog.models import (
    API,
    Authentication,
    GatewaySettings,
    Operation,
    Revision,
    Route,
    SelectBy,
    Selection,
    Specification,
    UnknownOperation,
    Upstream,
    Version,
    Visibility,
    WhenUnrecordable,
)
from apimgr.contracts.bounds import BOUNDS
from apimgr.core.rest import IdField


def _within(name: str) -> dict[str, Any]:
    least, most = BOUNDS[name]
    return {"min_value": least, "max_value": most}


class ApiSerializer(serializers.ModelSerializer[API]):
    id = IdField(read_only=True)
    organisation = serializers.SlugRelatedField[Organisation](slug_field="slug", read_only=True)

    class Meta:
        model = API
        fields = ["id", "slug", "organisation", "name", "summary", "description", "visibility", "created_at"]
        read_only_fields = fields


class NewApiSerializer(serializers.Serializer[Any]):
    """``organisation`` may be left out by a token: it acts in one organisation anyway."""

    organisation = serializers.SlugField(required=False, help_text="Slug of the owning organisation.")
    name = serializers.CharField(max_length=120)
    slug = serializers.SlugField(max_length=60, required=False, default="", help_text="Made from the name if absent.")
    summary = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    description = serializers.CharField(required=False, allow_blank=True, default="", help_text="Markdown.")
    visibility = serializers.ChoiceField(choices=Visibility.choices, default=Visibility.PUBLIC)


class ApiChangesSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=120, required=False)
    summary = serializers.CharField(max_length=200, required=False, allow_blank=True)
    description = serializers.CharField(required=False, allow_blank=True)
    visibility = serializers.ChoiceField(choices=Visibility.choices, required=False)


class RouteSerializer(serializers.ModelSerializer[Route]):
    """A public address: every host when ``host`` is empty."""

    host = serializers.CharField(max_length=253, required=False, allow_blank=True, default="")
    base_path = serializers.CharField(max_length=200)

    class Meta:
        model = Route
        fields = ["host", "base_path"]
        validators: ClassVar[list[Any]] = []  # whose address it is, and who may know, is the service's answer


class UpstreamSerializer(serializers.ModelSerializer[Upstream]):
    url = serializers.CharField(max_length=500)
    connect_timeout_ms = serializers.IntegerField(default=5_000, **_within("connect_timeout_ms"))
    read_timeout_ms = serializers.IntegerField(default=30_000, **_within("read_timeout_ms"))
    max_connections = serializers.IntegerField(
        default=256, help_text="At once, from each worker of a gateway.", **_within("max_connections")
    )
    preserve_host = serializers.BooleanField(default=False)

    class Meta:
        model = Upstream
        fields = ["url", "connect_timeout_ms", "read_timeout_ms", "max_connections", "preserve_host"]


class GatewaySettingsSerializer(serializers.ModelSerializer[GatewaySettings]):
    """How the gateway treats a version's calls. What is left out is set to what a new version has."""

    authentication = serializers.ChoiceField(
        choices=Authentication.choices,
        default=Authentication.KEY,
        help_text="Without a key no caller is known: no plan holds, only the API's own limits.",
    )
    unknown_operation = serializers.ChoiceField(
        choices=UnknownOperation.choices,
        default=UnknownOperation.REFUSE,
        help_text="Of calls that the document does not describe.",
    )
    max_body_bytes = serializers.IntegerField(default=10 * 2**20, **_within("max_body_bytes"))
    upgrades = serializers.ListField(
        child=serializers.CharField(max_length=40),
        default=list,
        help_text="Protocols that calls may switch to, such as websocket.",
    )
    websocket_origins = serializers.ListField(
        child=serializers.CharField(max_length=300),
        default=list,
        help_text="Origins whose pages may open a WebSocket; none for any.",
    )
    tunnel_idle_ms = serializers.IntegerField(default=300_000, **_within("tunnel_idle_ms"))
    max_message_bytes = serializers.IntegerField(
        default=2**20, help_text="Of a WebSocket, either way.", **_within("max_message_bytes")
    )
    when_unrecordable = serializers.ChoiceField(
        choices=WhenUnrecordable.choices,
        default=WhenUnrecordable.REFUSE,
        help_text="Of calls while a gateway has no room for another usage record.",
    )

    class Meta:
        model = GatewaySettings
        fields = [
            "authentication",
            "unknown_operation",
            "max_body_bytes",
            "upgrades",
            "websocket_origins",
            "tunnel_idle_ms",
            "max_message_bytes",
            "when_unrecordable",
        ]


class UpstreamTestRequestSerializer(serializers.Serializer[Any]):
    url = serializers.CharField(max_length=500, required=False, default="", help_text="In place of the saved one.")


class UpstreamTestSerializer(serializers.Serializer[Any]):
    url = serializers.CharField()
    status = serializers.IntegerField(allow_null=True)
    latency_ms = serializers.IntegerField(allow_null=True)
    error = serializers.CharField(allow_blank=True)


class FindingSerializer(serializers.Serializer[Any]):
    severity = serializers.ChoiceField(choices=["error", "warning", "info"])
    code = serializers.CharField()
    message = serializers.CharField()
    pointer = serializers.CharField(help_text="A JSON pointer (RFC 6901) into the document.")
    line = serializers.IntegerField()


class SpecificationSerializer(serializers.ModelSerializer[Specification]):
    id = IdField(read_only=True)
    findings = FindingSerializer(many=True, read_only=True)

    class Meta:
        model = Specification
        fields = [
            "id",
            "title",
            "document_version",
            "openapi_version",
            "syntax",
            "source",
            "source_url",
            "filename",
            "size_bytes",
            "sha256",
            "findings",
            "created_at",
        ]
        read_only_fields = fields


class NewSpecificationSerializer(serializers.Serializer[Any]):
    """Either ``content`` or ``url``."""

    content = serializers.CharField(required=False, trim_whitespace=False, help_text="The document, JSON or YAML.")
    url = serializers.CharField(max_length=500, required=False, help_text="Where to fetch the document.")
    filename = serializers.CharField(max_length=200, required=False, default="")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("content" in attrs) == ("url" in attrs):
            raise serializers.ValidationError("Give either content or url.")
        return attrs


class OperationSerializer(serializers.ModelSerializer[Operation]):
    id = IdField(read_only=True)
    tags = serializers.ListField(child=serializers.CharField(), read_only=True)

    class Meta:
        model = Operation
        fields = ["id", "method", "path", "operation_id", "summary", "tags", "is_deprecated"]
        read_only_fields = fields


class ProblemSerializer(serializers.Serializer[Any]):
    code = serializers.CharField()
    message = serializers.CharField()
    fix = serializers.CharField()


class DifferenceSerializer(serializers.Serializer[Any]):
    """One thing that differs. Each operation that one of the two lacks is one of its own."""

    part = serializers.CharField(help_text="Where it is, such as upstream.url; document; operations.")
    before = serializers.JSONField(allow_null=True, help_text="null: it was not there.")
    after = serializers.JSONField(allow_null=True, help_text="null: it is there no more.")


class RevisionSerializer(serializers.ModelSerializer[Revision]):
    """What was published once, and by whom."""

    specification = IdField(source="specification_id", read_only=True)
    created_by = serializers.EmailField(source="created_by.email", read_only=True, allow_null=True, default=None)
    restored_from = serializers.IntegerField(
        source="restored_from.number",
        read_only=True,
        allow_null=True,
        default=None,
        help_text="Number of the earlier revision that it brought back.",
    )
    is_live = serializers.SerializerMethodField(help_text="Whether it is the one that is deployed.")

    class Meta:
        model = Revision
        fields = ["number", "specification", "created_at", "created_by", "restored_from", "is_live"]
        read_only_fields = fields

    def get_is_live(self, revision: Revision) -> bool:
        return revision.pk == revision.version.deployed_revision_id


class RevisionDetailSerializer(serializers.Serializer[Any]):
    revision = RevisionSerializer()
    live = serializers.IntegerField(allow_null=True, help_text="Number of the revision that it is compared with.")
    changes_from_live = DifferenceSerializer(many=True, help_text="What rolling back to it would change.")
    problems = ProblemSerializer(many=True, help_text="What keeps it from going live again.")


class VersionSerializer(serializers.ModelSerializer[Version]):
    """``moves`` are the steps its state allows. ``specification``, ``route`` and ``upstream`` are the draft's;
    ``revision`` is the number of the one that is live."""

    id = IdField(read_only=True)
    api = serializers.SlugRelatedField[API](slug_field="slug", read_only=True)
    specification = IdField(source="specification_id", read_only=True, allow_null=True)
    route = RouteSerializer(read_only=True, allow_null=True)
    upstream = UpstreamSerializer(read_only=True, allow_null=True)
    revision = serializers.IntegerField(
        source="deployed_revision.number", read_only=True, allow_null=True, default=None
    )
    moves = serializers.SerializerMethodField()

    class Meta:
        model = Version
        fields = [
            "id",
            "api",
            "name",
            "state",
            "moves",
            "specification",
            "route",
            "upstream",
            "revision",
            "created_at",
            "published_at",
            "deprecated_at",
            "sunset_at",
            "retired_at",
        ]
        read_only_fields = fields

    def get_moves(self, version: Version) -> list[str]:
        return [move.value for move in moves_from(version.state)]


class SelectionSerializer(serializers.Serializer[API]):
    """By ``path`` each version has its own route, else one address is that of all and the rest says what chooses."""

    select_by = serializers.ChoiceField(choices=[("path", "Path"), *SelectBy.choices])
    name = serializers.CharField(
        max_length=60, required=False, allow_blank=True, default="", help_text="Of the header field or query parameter."
    )
    host = serializers.CharField(max_length=253, required=False, allow_blank=True, default="")
    base_path = serializers.CharField(max_length=200, required=False, allow_blank=True, default="")
    default_version = serializers.CharField(
        required=False,
        allow_blank=True,
        default="",
        help_text="Name of the version for calls that name none; empty to refuse them.",
    )
    values = serializers.DictField(
        child=serializers.CharField(max_length=40, allow_blank=True),
        required=False,
        help_text="What chooses a version, by its name. Those left out keep theirs; empty is the name.",
    )

    def to_representation(self, instance: API) -> dict[str, Any]:
        selection = instance.selection or Selection(select_by="path")
        default = selection.default_version
        return {
            "select_by": selection.select_by,
            "name": selection.name,
            "host": selection.host,
            "base_path": selection.base_path,
            "default_version": default.name if default else "",
            "values": {version.name: version.value for version in instance.versions.order_by("pk")},
        }


class NewVersionSerializer(serializers.Serializer[Any]):
    name = serializers.CharField(max_length=40)


class RollbackSerializer(serializers.Serializer[Any]):
    instead_of = serializers.IntegerField(
        min_value=1, help_text="Number of the revision that was live when you looked at what would change."
    )


class DeprecationSerializer(serializers.Serializer[Any]):
    sunset_at = serializers.DateTimeField(required=False, allow_null=True, default=None)
