"""What publishers own: an API, its versions, and what each version is made of.

A version's draft is edited in place (specification, upstream, route); publishing freezes it as a revision and
deploys that.
"""

from __future__ import annotations

from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from apimgr.accounts.models import Organisation, User
from apimgr.core.ids import Entity


class Visibility(models.TextChoices):
    PUBLIC = "public", "Public"
    PRIVATE = "private", "Private"


class API(Entity):
    """Something an organisation offers. Its slug is its place in the portal: ``/apis/{slug}``."""

    organisation = models.ForeignKey(Organisation, on_delete=models.PROTECT, related_name="apis")
    name = models.CharField(max_length=120)
    slug = models.SlugField(max_length=60, unique=True)
    summary = models.CharField(max_length=200, blank=True)
    description = models.TextField(blank=True)  # Markdown
    visibility = models.CharField(max_length=10, choices=Visibility.choices, default=Visibility.PUBLIC)

    class Meta:
        verbose_name = "API"

    def __str__(self) -> str:
        return self.name


class SpecificationSource(models.TextChoices):
    UPLOAD = "upload", "Upload"
    PASTE = "paste", "Paste"
    URL = "url", "URL"


class Specification(Entity):
    """An OpenAPI document as it was given, and what reading it found. Never changed: another import is another row."""

    api = models.ForeignKey(API, on_delete=models.CASCADE, related_name="specifications")
    source = models.CharField(max_length=10, choices=SpecificationSource.choices)
    source_url = models.URLField(max_length=500, blank=True)
    filename = models.CharField(max_length=200, blank=True)
    raw = models.BinaryField()  # the bytes as given, so that a download gives back exactly what came
    syntax = models.CharField(max_length=4, choices=[("json", "JSON"), ("yaml", "YAML")])
    openapi_version = models.CharField(max_length=10)
    document = models.JSONField()  # parsed, not rewritten
    title = models.CharField(max_length=200)
    document_version = models.CharField(max_length=80)  # info.version
    sha256 = models.CharField(max_length=64)
    size_bytes = models.PositiveIntegerField()
    findings = models.JSONField(default=list)  # [{severity, code, message, pointer, line}]
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    def __str__(self) -> str:
        return f"{self.title} {self.document_version}"


class VersionState(models.TextChoices):
    DRAFT = "draft", "Draft"
    PUBLISHED = "published", "Published"
    DEPRECATED = "deprecated", "Deprecated"
    RETIRED = "retired", "Retired"


class Version(Entity):
    """One version of an API (``v1``); several are live at once. ``lifecycle.py`` says which state may follow which."""

    api = models.ForeignKey(API, on_delete=models.CASCADE, related_name="versions")
    name = models.CharField(
        max_length=40,
        validators=[RegexValidator(r"^[A-Za-z0-9][A-Za-z0-9._-]*$", "Use letters, digits, dots, dashes, underscores.")],
    )
    state = models.CharField(max_length=12, choices=VersionState.choices, default=VersionState.DRAFT)
    specification = models.ForeignKey(
        Specification, null=True, blank=True, on_delete=models.PROTECT, related_name="versions"
    )
    # The revision the gateway serves; null until the first publication.
    deployed_revision = models.ForeignKey("Revision", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    published_at = models.DateTimeField(null=True, blank=True)
    deprecated_at = models.DateTimeField(null=True, blank=True)
    sunset_at = models.DateTimeField(null=True, blank=True)  # when a deprecated version is meant to be retired
    retired_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["api", "name"], name="version_name_once_per_api")]

    def __str__(self) -> str:
        return f"{self.api} {self.name}"

    @property
    def is_live(self) -> bool:
        """Whether calls are served."""
        return self.state in {VersionState.PUBLISHED, VersionState.DEPRECATED}


class Operation(Entity):
    """A method and a path template of a version. Keeps its id when a new document still has it: usage hangs on it."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="operations")
    method = models.CharField(max_length=10)  # upper case
    path = models.CharField(max_length=500)  # OpenAPI path template, below the base path
    operation_id = models.CharField(max_length=200, blank=True)
    summary = models.CharField(max_length=300, blank=True)
    tags = models.JSONField(default=list)
    is_deprecated = models.BooleanField(default=False)
    is_current = models.BooleanField(default=True)  # false once the document no longer has it

    class Meta:
        constraints = [models.UniqueConstraint(fields=["version", "method", "path"], name="operation_once_per_version")]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Upstream(Entity):
    """Where a version's calls go."""

    version = models.OneToOneField(Version, on_delete=models.CASCADE, related_name="upstream")
    # Not a URLField: its validator refuses the one-word host names of internal networks. ``core.egress`` checks it.
    url = models.CharField(max_length=500)
    connect_timeout_ms = models.PositiveIntegerField(default=5_000)
    read_timeout_ms = models.PositiveIntegerField(default=30_000)
    preserve_host = models.BooleanField(default=False)

    def __str__(self) -> str:
        return self.url


class Route(Entity):
    """Where callers find a version: public host (empty for any) and base path. One owner, for ever of its life."""

    version = models.OneToOneField(Version, on_delete=models.CASCADE, related_name="route")
    host = models.CharField(max_length=253, blank=True, default="")
    base_path = models.CharField(
        max_length=200,
        validators=[
            RegexValidator(r"^(/[A-Za-z0-9._~-]+)+$", "Start with / and use letters, digits, . _ ~ - between.")
        ],
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["host", "base_path"], name="route_once")]

    def __str__(self) -> str:
        return f"{self.host}{self.base_path}"


class Revision(Entity):
    """An immutable snapshot of a version's definition and gateway configuration. One is deployed."""

    version = models.ForeignKey(Version, on_delete=models.CASCADE, related_name="revisions")
    number = models.PositiveIntegerField()
    specification = models.ForeignKey(Specification, on_delete=models.PROTECT, related_name="+")
    # {"upstream": {...}, "route": {...}, "operations": [[id, method, path], ...]}: what the compiler needs, frozen.
    configuration = models.JSONField()
    created_by = models.ForeignKey(User, null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["version", "number"], name="revision_number_once"),
            models.CheckConstraint(condition=Q(number__gt=0), name="revision_number_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.version} revision {self.number}"
