from typing import Any

from tests.access import ACME, Row, World


def product(world: World) -> dict[str, Any]:
    return {"slug": world.product.slug}


def plan(world: World) -> dict[str, Any]:
    return {"plan_id": world.plan.pk}


def _api(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug}


PLANNERS = frozenset({"alice", "ada", "oscar"})

REST = {
    # A list is there for everybody with a token; what is in it is tested with the selectors.
    "api-products": Row(allow={"charlie", "dev", "alice", "oscar", "victor", "ada", "olga", "rita"}),
    "api-product": Row(product, ACME),
    "api-product-plans": (Row(product, ACME), Row(product, PLANNERS, method="post", data={"name": "Silver"})),
    "api-limits": (Row(_api, ACME), Row(_api, PLANNERS, method="put", data={"limits": []})),
    "api-plan": (Row(plan, ACME), Row(plan, PLANNERS, method="patch", data={"description": "Changed"})),
}


def _draft(world: World) -> dict[str, Any]:
    return {"slug": world.api.slug, "name": world.draft.name}


PAGES = {
    "products:plans": Row(allow=ACME | {"rita"}),
    "products:plan": (Row(plan, ACME), Row(plan, PLANNERS, method="post", data={"name": "Free"})),
    "products:plan-new": (Row(product, PLANNERS), Row(product, PLANNERS, method="post", data={"name": "Silver"})),
    "products:api-plans": Row(_api, ACME),
    "products:api-limits": (Row(_api, PLANNERS), Row(_api, PLANNERS, method="post", data={"rate_minute": 5})),
    "products:version-access": (
        Row(_draft, {"alice", "ada"}),
        Row(_draft, {"alice", "ada"}, method="post", data={"visibility": "public"}),
    ),
}
ACCESS = REST | PAGES
