from __future__ import annotations

from typing import Any, ClassVar

from django.urls import reverse
from rest_framework import serializers

from analytics.metrics import METRICS
from analytics.models import UsageEvent
from analytics.selectors.cubes import DIMENSIONS
from analytics.selectors.periods import DEFAULT, RANGES
from analytics.selectors.requests import MAX_PAGE, PAGE, reason
from apimgr.contracts.outcomes import OUTCOMES
from apimgr.core.rest import IdField

SIDES = ("apis", "applications")
# What a dimension is called outside, and inside.
NAMES = {name.removesuffix("_id"): name for name in DIMENSIONS}


class WordsField(serializers.CharField):
    """Words between commas, each one of ``allowed``."""

    default_error_messages: ClassVar[dict[str, Any]] = {"unknown": "There is no {word}: choose from {allowed}."}

    def __init__(self, *, allowed: list[str], **options: Any) -> None:
        super().__init__(**options)
        self.allowed = allowed

    def to_internal_value(self, data: Any) -> Any:
        words = [word.strip() for word in super().to_internal_value(data).split(",") if word.strip()]
        for word in words:
            if word not in self.allowed:
                self.fail("unknown", word=word, allowed=", ".join(self.allowed))
        return list(dict.fromkeys(words))


class ScopeSerializer(serializers.Serializer[Any]):
    """Which calls: ``apis`` are those you publish, ``applications`` those your own clients made."""

    of = serializers.ChoiceField(choices=SIDES, required=False, help_text="Default: apis where your role reads them.")
    api = serializers.SlugField(required=False)
    version = IdField(required=False)
    operation = IdField(required=False)
    application = IdField(required=False)


class UsageQuerySerializer(ScopeSerializer):
    range = serializers.ChoiceField(choices=list(RANGES), default=DEFAULT)
    metrics = WordsField(
        allowed=list(METRICS), required=False, help_text="Names, by commas; default requests,success_rate,p95."
    )
    by = WordsField(
        allowed=["time", *NAMES],
        required=False,
        help_text="Dimensions, by commas; time gives a series. Applications and plans do not go with operations, "
        "methods and outcomes.",
    )


class MetricSerializer(serializers.Serializer[Any]):
    name = serializers.CharField()
    title = serializers.CharField(source="label")
    unit = serializers.CharField()
    sentence = serializers.CharField()


class UsageSerializer(serializers.Serializer[Any]):
    """Numbers are whole up to ``complete_to``; a row that is missing counted nothing."""

    range = serializers.CharField()
    since = serializers.DateTimeField()
    until = serializers.DateTimeField()
    grain = serializers.ChoiceField(choices=["minute", "hour", "day"])
    complete_to = serializers.DateTimeField(allow_null=True)
    metrics = MetricSerializer(many=True)
    rows = serializers.ListField(
        child=serializers.DictField(), help_text="One object per value of by: the value, its label, each metric."
    )


class RequestQuerySerializer(ScopeSerializer):
    status = serializers.CharField(required=False, help_text="Such as 404, or 4xx for the class.")
    outcome = serializers.ChoiceField(choices=["refused", *(item.code for item in OUTCOMES)], required=False)
    since = serializers.DateTimeField(required=False)
    cursor = serializers.CharField(required=False)
    limit = serializers.IntegerField(required=False, default=PAGE, min_value=1, max_value=MAX_PAGE)


class RequestSerializer(serializers.ModelSerializer[UsageEvent]):
    """One call. Ids are null where there is none: no operation matched, or no key was known."""

    method = serializers.CharField(source="method_name")
    api = serializers.SerializerMethodField()
    version = serializers.SerializerMethodField()
    operation = serializers.SerializerMethodField()
    application = serializers.SerializerMethodField()
    credential = serializers.SerializerMethodField()
    outcome = serializers.CharField(source="verdict.code")
    refused = serializers.BooleanField(source="is_refused")

    class Meta:
        model = UsageEvent
        fields: ClassVar[list[str]] = [
            "request_id",
            "started_at",
            "method",
            "path",
            "status",
            "outcome",
            "refused",
            "api",
            "version",
            "operation",
            "application",
            "credential",
            "upstream_status",
            "total_us",
            "upstream_us",
            "bytes_in",
            "bytes_out",
        ]
        read_only_fields = fields

    def get_api(self, event: UsageEvent) -> str | None:
        return _id(event.api_id)

    def get_version(self, event: UsageEvent) -> str | None:
        return _id(event.version_id)

    def get_operation(self, event: UsageEvent) -> str | None:
        return _id(event.operation_id)

    def get_application(self, event: UsageEvent) -> str | None:
        return _id(event.application_id)

    def get_credential(self, event: UsageEvent) -> str | None:
        return _id(event.credential_id)


class ExplainedRequestSerializer(RequestSerializer):
    """One call with why it ended so, and what the gateway decided on the way."""

    title = serializers.CharField(source="verdict.title")
    fix = serializers.CharField(source="verdict.fix")
    detail = serializers.SerializerMethodField(help_text="What the gateway said of this very call.")
    docs = serializers.SerializerMethodField(help_text="Where the outcome is explained.")
    client = serializers.IPAddressField(allow_null=True)
    trail = serializers.JSONField(
        allow_null=True,
        help_text="What each step of the decision found, the last one being how the call ended."
        " Of very many limits some may be left out, never the one that refused the call:"
        ' {"step": "limit", "more": 3} says of how many that is so. A text that ends with "…" was cut.',
    )

    class Meta(RequestSerializer.Meta):
        fields: ClassVar[list[str]] = [
            *RequestSerializer.Meta.fields,
            "title",
            "fix",
            "detail",
            "docs",
            "client",
            "trail",
        ]
        read_only_fields = fields

    def get_detail(self, event: UsageEvent) -> str:
        return reason(event.trail)

    def get_docs(self, event: UsageEvent) -> str:
        address = reverse("portal:docs-outcome", args=[event.verdict.code])
        request = self.context.get("request")
        return request.build_absolute_uri(address) if request is not None else address


class RequestPageSerializer(serializers.Serializer[Any]):
    next = serializers.URLField(allow_null=True)
    results = RequestSerializer(many=True)


def _id(value: int) -> str | None:
    return IdField().to_representation(value) if value else None
