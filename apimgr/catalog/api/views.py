"""The catalogue over REST. A view finds the thing for its caller, calls one service, and shows the result.

The thing comes first and what was sent second: to a stranger there is nothing here, not even a form to fill in wrongly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import generics, status
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer

from apimgr.accounts.access import Permission, organisations_for
from apimgr.accounts.models import Organisation
from apimgr.catalog import selectors, services
from apimgr.catalog.api import serializers
from apimgr.catalog.models import API, Operation, Revision, Specification, SpecificationSource, Version
from apimgr.catalog.openapi.syntax import MAX_BYTES
from apimgr.core.errors import NotFound
from apimgr.core.rest import KeysetPagination
from apimgr.core.rest_views import NothingSerializer, RestView

# JSON escapes make a document of 20 MiB longer, rarely more than twice.
MAX_REQUEST_BYTES = 2 * MAX_BYTES + 2**20


_NUMBER = OpenApiParameter("number", int, OpenApiParameter.PATH, description="Number of the revision.")


class OperationPagination(KeysetPagination):
    ordering = "path"  # ties, the methods of a path, are counted through

    def _check_position(self, position: str) -> None:
        if "\0" in position:
            raise ValueError("no path")


class _CatalogView(RestView):
    def api(self) -> API:
        return selectors.api_for(self.actor, self.kwargs["slug"])

    def version(self) -> Version:
        return selectors.version_for(self.actor, self.kwargs["slug"], self.kwargs["name"])


# --- APIs -------------------------------------------------------------------------------------------------------------


class ApiList(_CatalogView, generics.ListAPIView[API]):
    serializer_class = serializers.ApiSerializer

    def get_queryset(self) -> QuerySet[API]:
        return selectors.apis_for(self.actor)

    @extend_schema(operation_id="apis_list", summary="List the APIs you publish")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="apis_create",
        summary="Create an API",
        request=serializers.NewApiSerializer,
        responses={201: serializers.ApiSerializer},
    )
    def post(self, request: Request) -> Response:
        given = self.given(serializers.NewApiSerializer)
        organisation = self._organisation(given.pop("organisation", ""))
        api = services.create_api(actor=self.actor, organisation=organisation, **given)
        return Response(serializers.ApiSerializer(api).data, status.HTTP_201_CREATED)

    def _organisation(self, slug: str) -> Organisation:
        mine = Organisation.objects.filter(memberships__user=self.actor)
        if self.actor.acting_in is not None:
            mine = mine.filter(pk=self.actor.acting_in)
        found = mine.filter(slug=slug) if slug else organisations_for(self.actor, Permission.API_EDIT)
        organisation = found.first()
        # Which of several would be meant cannot be guessed.
        if organisation is None or (not slug and found.count() > 1):
            organisation = mine.first() if mine.count() == 1 and not slug else None
        if organisation is None:
            raise NotFound(_("Name the organisation that is to own the API."), fields={"organisation": _("Required.")})
        return organisation


class ApiDetail(_CatalogView):
    serializer_class = serializers.ApiSerializer

    @extend_schema(operation_id="apis_read", summary="Read an API")
    def get(self, request: Request, slug: str) -> Response:
        return Response(self.get_serializer(self.api()).data)

    @extend_schema(operation_id="apis_update", summary="Change an API", request=serializers.ApiChangesSerializer)
    def patch(self, request: Request, slug: str) -> Response:
        api = self.api()
        services.update_api(actor=self.actor, api=api, **self.given(serializers.ApiChangesSerializer))
        return Response(self.get_serializer(api).data)


class ApiSelection(_CatalogView):
    serializer_class = serializers.SelectionSerializer

    @extend_schema(operation_id="selection_read", summary="Read how versions are told apart")
    def get(self, request: Request, slug: str) -> Response:
        return Response(self.get_serializer(self.api()).data)

    @extend_schema(
        operation_id="selection_set",
        summary="Set how versions are told apart",
        description="Takes effect at once: the addresses that callers have used until then stop answering.",
    )
    def put(self, request: Request, slug: str) -> Response:
        api, given = self.api(), self.given(serializers.SelectionSerializer)
        if given["select_by"] == "path":
            services.remove_selection(actor=self.actor, api=api)
        else:
            services.set_selection(actor=self.actor, api=api, **given)
        return Response(self.get_serializer(self.api()).data)


# --- Versions ---------------------------------------------------------------------------------------------------------


class VersionList(_CatalogView, generics.ListAPIView[Version]):
    serializer_class = serializers.VersionSerializer
    queryset = Version.objects.none()  # for the schema; the real one needs the caller

    def get_queryset(self) -> QuerySet[Version]:
        return selectors.versions_for(self.actor).filter(api=self.api())

    @extend_schema(operation_id="versions_list", summary="List the versions of an API")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)

    @extend_schema(
        operation_id="versions_create",
        summary="Add a version",
        description="A draft, to be filled with a document, a route and an upstream.",
        request=serializers.NewVersionSerializer,
        responses={201: serializers.VersionSerializer},
    )
    def post(self, request: Request, slug: str) -> Response:
        api = self.api()
        version = services.add_version(actor=self.actor, api=api, **self.given(serializers.NewVersionSerializer))
        shown = selectors.version_for(self.actor, slug, version.name)
        return Response(self.get_serializer(shown).data, status.HTTP_201_CREATED)


class VersionDetail(_CatalogView):
    serializer_class = serializers.VersionSerializer

    @extend_schema(operation_id="versions_read", summary="Read a version")
    def get(self, request: Request, slug: str, name: str) -> Response:
        return Response(self.get_serializer(self.version()).data)


class VersionSpecification(_CatalogView):
    serializer_class = serializers.SpecificationSerializer
    max_body_bytes = MAX_REQUEST_BYTES

    @extend_schema(
        operation_id="specification_download",
        summary="Download the document",
        description="The bytes as they were imported.",
        responses={
            (200, "application/json"): OpenApiResponse(OpenApiTypes.OBJECT),
            (200, "application/yaml"): OpenApiResponse(OpenApiTypes.STR),
        },
    )
    def get(self, request: Request, slug: str, name: str) -> HttpResponse:
        version = self.version()
        if version.specification_id is None:
            raise NotFound(_("This version has no OpenAPI document yet."))
        found = selectors.specification_for(self.actor, version.specification_id)
        headers = {"Content-Disposition": f'attachment; filename="{slug}-{name}.{found.syntax}"'}
        return HttpResponse(bytes(found.raw), content_type=f"application/{found.syntax}", headers=headers)

    @extend_schema(
        operation_id="specification_import",
        summary="Import a document",
        description=(
            "Reads the document, keeps it with its findings and makes it the version's. A document that cannot be "
            "used is refused with a sentence that says what and where; the version stays as it was."
        ),
        request=serializers.NewSpecificationSerializer,
        responses={201: serializers.SpecificationSerializer},
    )
    def post(self, request: Request, slug: str, name: str) -> Response:
        version = self.version()
        specification = self._import(version.api, self.given(serializers.NewSpecificationSerializer))
        services.use_specification(actor=self.actor, version=version, specification=specification)
        return Response(self.get_serializer(specification).data, status.HTTP_201_CREATED)

    def _import(self, api: API, given: dict[str, Any]) -> Specification:
        if "url" in given:
            return services.fetch_specification(actor=self.actor, api=api, url=given["url"])
        return services.import_specification(
            actor=self.actor,
            api=api,
            content=given["content"].encode(errors="surrogatepass"),
            source=SpecificationSource.UPLOAD if given["filename"] else SpecificationSource.PASTE,
            filename=given["filename"],
        )


class VersionOperations(_CatalogView, generics.ListAPIView[Operation]):
    serializer_class = serializers.OperationSerializer
    pagination_class = OperationPagination
    queryset = Operation.objects.none()

    def get_queryset(self) -> QuerySet[Operation]:
        return selectors.operations_of(self.version())

    @extend_schema(operation_id="operations_list", summary="List the operations of a version")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class VersionRoute(_CatalogView):
    serializer_class = serializers.RouteSerializer

    @extend_schema(operation_id="route_read", summary="Read the route")
    def get(self, request: Request, slug: str, name: str) -> Response:
        route = getattr(self.version(), "route", None)
        if route is None:
            raise NotFound(_("This version has no route yet."))
        return Response(self.get_serializer(route).data)

    @extend_schema(operation_id="route_set", summary="Set the route")
    def put(self, request: Request, slug: str, name: str) -> Response:
        version = self.version()
        route = services.set_route(actor=self.actor, version=version, **self.given(serializers.RouteSerializer))
        return Response(self.get_serializer(route).data)


class VersionUpstream(_CatalogView):
    serializer_class = serializers.UpstreamSerializer

    @extend_schema(operation_id="upstream_read", summary="Read the upstream")
    def get(self, request: Request, slug: str, name: str) -> Response:
        upstream = getattr(self.version(), "upstream", None)
        if upstream is None:
            raise NotFound(_("This version has no upstream yet."))
        return Response(self.get_serializer(upstream).data)

    @extend_schema(operation_id="upstream_set", summary="Set the upstream")
    def put(self, request: Request, slug: str, name: str) -> Response:
        version = self.version()
        given = self.given(serializers.UpstreamSerializer)
        upstream = services.set_upstream(actor=self.actor, version=version, **given)
        return Response(self.get_serializer(upstream).data)


class VersionUpstreamTest(_CatalogView):
    serializer_class = serializers.UpstreamTestSerializer

    @extend_schema(
        operation_id="upstream_test",
        summary="Test the upstream",
        description="Makes one real request and says what came back.",
        request=serializers.UpstreamTestRequestSerializer,
    )
    def post(self, request: Request, slug: str, name: str) -> Response:
        version = self.version()
        given = self.given(serializers.UpstreamTestRequestSerializer)
        result = services.test_upstream(actor=self.actor, version=version, **given)
        return Response(self.get_serializer(result).data)


class VersionGateway(_CatalogView):
    serializer_class = serializers.GatewaySettingsSerializer

    @extend_schema(operation_id="gateway_settings_read", summary="Read the gateway settings")
    def get(self, request: Request, slug: str, name: str) -> Response:
        return Response(self.get_serializer(services.gateway_settings_of(self.version())).data)

    @extend_schema(
        operation_id="gateway_settings_set",
        summary="Set the gateway settings",
        description="All at once, in the draft: a live version goes on as before until it is published again.",
    )
    def put(self, request: Request, slug: str, name: str) -> Response:
        version = self.version()
        given = self.given(serializers.GatewaySettingsSerializer)
        settings = services.set_gateway_settings(actor=self.actor, version=version, **given)
        return Response(self.get_serializer(settings).data)


class VersionProblems(_CatalogView):
    serializer_class = serializers.ProblemSerializer
    pagination_class = None  # a short list, and whole

    @extend_schema(
        operation_id="problems_list",
        summary="What keeps a version from being published",
        description="An empty list means it can be published.",
        responses=serializers.ProblemSerializer(many=True),
    )
    def get(self, request: Request, slug: str, name: str) -> Response:
        problems = services.publication_problems(self.version())
        return Response(serializers.ProblemSerializer(problems, many=True).data)


class VersionChanges(_CatalogView):
    serializer_class = serializers.DifferenceSerializer
    pagination_class = None  # a short list, and whole

    @extend_schema(
        operation_id="changes_list",
        summary="What publishing a live version again would change",
        description="How its draft differs from what the gateway serves; an empty list means not at all.",
        responses=serializers.DifferenceSerializer(many=True),
    )
    def get(self, request: Request, slug: str, name: str) -> Response:
        changes = services.pending_changes(self.version())
        return Response(serializers.DifferenceSerializer(changes, many=True).data)


class RevisionList(_CatalogView, generics.ListAPIView[Revision]):
    serializer_class = serializers.RevisionSerializer
    queryset = Revision.objects.none()

    def get_queryset(self) -> QuerySet[Revision]:
        return selectors.revisions_of(self.version()).defer("configuration")

    @extend_schema(operation_id="revisions_list", summary="List what was published of a version")
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        return super().get(request, *args, **kwargs)


class RevisionDetail(_CatalogView):
    serializer_class = serializers.RevisionDetailSerializer

    @extend_schema(
        operation_id="revisions_read",
        summary="Compare a revision with what is live",
        parameters=[_NUMBER],
    )
    def get(self, request: Request, slug: str, name: str, number: int) -> Response:
        version = self.version()
        revision, live = selectors.revision_of(version, number), version.deployed_revision
        detail = {
            "revision": revision,
            "live": live.number if live else None,
            "changes_from_live": services.changes_from_live(revision),
            "problems": services.restore_problems(revision),
        }
        return Response(self.get_serializer(detail).data)


# --- The life of a version --------------------------------------------------------------------------------------------


class _Move(_CatalogView):
    """One step of a version's life: the service, and nothing else."""

    serializer_class = serializers.VersionSerializer
    service: ClassVar[Callable[..., Version]]

    def move(self, serializer: type[BaseSerializer[Any]] = NothingSerializer, **more: Any) -> Response:
        version = self.version()
        type(self).service(actor=self.actor, version=version, **self.given(serializer), **more)
        return Response(serializers.VersionSerializer(self.version()).data)


class VersionPublish(_Move):
    service = services.publish_version

    @extend_schema(
        operation_id="versions_publish",
        summary="Publish a version",
        description="Freezes the draft as a revision and deploys it. A live version goes on with the new revision.",
        request=None,
    )
    def post(self, request: Request, slug: str, name: str) -> Response:
        return self.move()


class VersionDeprecate(_Move):
    service = services.deprecate_version

    @extend_schema(
        operation_id="versions_deprecate",
        summary="Deprecate a version",
        description="It is still served, with Deprecation and Sunset fields. Doing it again moves the sunset date.",
        request=serializers.DeprecationSerializer,
    )
    def post(self, request: Request, slug: str, name: str) -> Response:
        return self.move(serializers.DeprecationSerializer)


class VersionRestore(_Move):
    service = services.restore_version

    @extend_schema(operation_id="versions_restore", summary="Take a deprecation back", request=None)
    def post(self, request: Request, slug: str, name: str) -> Response:
        return self.move()


class VersionRetire(_Move):
    service = services.retire_version

    @extend_schema(
        operation_id="versions_retire",
        summary="Retire a version",
        description="Calls are answered 410 from now on. There is no way back.",
        request=None,
    )
    def post(self, request: Request, slug: str, name: str) -> Response:
        return self.move()


class RevisionRestore(_Move):
    service = services.restore_revision

    @extend_schema(
        operation_id="revisions_restore",
        summary="Roll back to a revision",
        description="A new revision equal to it goes live at once, if it could be published today. The draft becomes "
        "the same, unless it has changes that were never published: these are kept. If another revision than "
        "`instead_of` is live by now, nothing is done (409 `revision_overtaken`).",
        request=serializers.RollbackSerializer,
        parameters=[_NUMBER],
    )
    def post(self, request: Request, slug: str, name: str, number: int) -> Response:
        return self.move(serializers.RollbackSerializer, number=number)
