from typing import Any

from tests.access import ACME, Row, World


def product(world: World) -> dict[str, Any]:
    return {"slug": world.product.slug}


def plan(world: World) -> dict[str, Any]:
    return {"plan_id": world.plan.pk}


PLANNERS = frozenset({"alice", "ada", "oscar"})

ACCESS = {
    # A list is there for everybody with a token; what is in it is tested with the selectors.
    "api-products": Row(allow={"charlie", "dev", "alice", "oscar", "victor", "ada", "olga", "rita"}),
    "api-product": Row(product, ACME),
    "api-product-plans": (Row(product, ACME), Row(product, PLANNERS, method="post", data={"name": "Silver"})),
    "api-plan": (Row(plan, ACME), Row(plan, PLANNERS, method="patch", data={"description": "Changed"})),
}
