"""What publishers own: an API, its versions, and what each version is made of.

A version's draft is edited in place (specification, upstream, route); publishing freezes it as a revision and
deploys that.
"""

from apimgr.catalog.models.api import API, Visibility
from apimgr.catalog.models.gateway_settings import Authentication, GatewaySettings, UnknownOperation, WhenUnrecordable
from apimgr.catalog.models.operation import Operation
from apimgr.catalog.models.revision import Revision
from apimgr.catalog.models.route import Route
from apimgr.catalog.models.selection import SelectBy, Selection
from apimgr.catalog.models.specification import Specification, SpecificationSource
from apimgr.catalog.models.upstream import Upstream
from apimgr.catalog.models.version import Version, VersionState

__all__ = [
    "API",
    "Authentication",
    "GatewaySettings",
    "Operation",
    "Revision",
    "Route",
    "SelectBy",
    "Selection",
    "Specification",
    "SpecificationSource",
    "UnknownOperation",
    "Upstream",
    "Version",
    "VersionState",
    "Visibility",
    "WhenUnrecordable",
]
