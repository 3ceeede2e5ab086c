"""What can be done to APIs and versions. Console, REST and command line call these and nothing else."""

from apimgr.catalog.services.apis import add_version, create_api, update_api
from apimgr.catalog.services.checks import Candidate, Problem, publication_check, publication_problems
from apimgr.catalog.services.gateway import gateway_settings_of, set_gateway_settings
from apimgr.catalog.services.life import deprecate_version, restore_version, retire_version
from apimgr.catalog.services.publication import pending_changes, publish_version
from apimgr.catalog.services.revisions import changes_from_live, restore_problems, restore_revision
from apimgr.catalog.services.routing import UpstreamTest, set_route, set_upstream, test_upstream
from apimgr.catalog.services.selection import remove_selection, set_selection
from apimgr.catalog.services.specifications import fetch_specification, import_specification, use_specification

__all__ = [
    "Candidate",
    "Problem",
    "UpstreamTest",
    "add_version",
    "changes_from_live",
    "create_api",
    "deprecate_version",
    "fetch_specification",
    "gateway_settings_of",
    "import_specification",
    "pending_changes",
    "publication_check",
    "publication_problems",
    "publish_version",
    "remove_selection",
    "restore_problems",
    "restore_revision",
    "restore_version",
    "retire_version",
    "set_gateway_settings",
    "set_route",
    "set_selection",
    "set_upstream",
    "test_upstream",
    "update_api",
    "use_specification",
]
