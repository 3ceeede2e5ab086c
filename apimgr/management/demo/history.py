"""The demo world's past: who called what, in numbers, written and rolled up by the code that does it every day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from analytics.services import ingest, rollups
from apimgr.catalog.models import Version
from apimgr.management.demo import usage
from apimgr.management.demo.usage import Caller, Incident, Target, Traffic
from apimgr.management.demo.world import World

NODE = "demo-history"
Shares = dict[tuple[str, str], tuple[float, float, float]]
#: method, path: share of the calls, median ms, share of 5xx
HTTPBIN: Shares = {
    ("GET", "/get"): (30, 12, 0.001),
    ("GET", "/status/{code}"): (18, 9, 0.02),
    ("GET", "/headers"): (9, 9, 0.001),
    ("POST", "/post"): (9, 15, 0.001),
    ("GET", "/uuid"): (8, 7, 0.0),
    ("GET", "/ip"): (8, 7, 0.0),
    ("GET", "/json"): (6, 8, 0.0),
    ("GET", "/bytes/{n}"): (4, 11, 0.001),
    ("GET", "/delay/{delay}"): (3, 1_100, 0.01),
    ("GET", "/gzip"): (2, 10, 0.0),
    ("GET", "/image/png"): (2, 14, 0.0),
    ("GET", "/anything"): (1, 13, 0.0),
}
PARCELS: Shares = {
    ("GET", "/parcels/{number}"): (45, 38, 0.003),
    ("GET", "/parcels/{number}/events"): (25, 55, 0.003),
    ("GET", "/track"): (12, 70, 0.008),
    ("POST", "/quotes"): (11, 95, 0.006),
    ("GET", "/parcels"): (8, 120, 0.004),
    ("POST", "/parcels"): (6, 140, 0.006),
    ("GET", "/depots"): (5, 26, 0.001),
    ("GET", "/depots/{id}"): (3, 22, 0.001),
    ("GET", "/parcels/{number}/label"): (2, 210, 0.01),
    ("PATCH", "/parcels/{number}"): (1, 130, 0.01),
    ("GET", "/parcels/{number}/proof"): (1, 60, 0.002),
    ("DELETE", "/parcels/{number}"): (0.5, 80, 0.003),
}


def target(version: Version, shares: Shares) -> Target:
    operations = {(operation.method, operation.path): operation.pk for operation in version.operations.all()}
    found = tuple(
        Traffic(operations[method, path], method, path, weight, ms, failing, bytes_in=420 if method == "POST" else 0)
        for (method, path), (weight, ms, failing) in shares.items()
        if (method, path) in operations
    )
    return Target(version.api_id, version.pk, found)


def callers(world: World) -> list[Caller]:
    """About 300,000 calls in thirty days; the old version's users move to the new one."""
    httpbin = target(world.versions["httpbin v1"], HTTPBIN)
    old, new = (target(world.versions[f"parcels {name}"], PARCELS) for name in ("v1", "v2"))

    def by(name: str, target: Target, plan: str, per_day: float, rhythm: str, **more: float) -> Caller:
        application, credential = world.applications[name], world.credentials[name]
        ids = (application.pk, credential.pk, world.plans[plan].pk)
        growth, limited = more.get("growth", 1.0), more.get("limited", 0.0)
        return Caller(target, per_day, rhythm, growth, limited, *ids, address=1 + application.pk % 250)

    def stranger(target: Target, per_day: float, refusal: str) -> Caller:
        return Caller(target, per_day, "steady", refusal=refusal, address=251)

    return [
        by("Parcelbird app", old, "parcels team", 800, "evening", growth=0.12),
        by("Parcelbird app", new, "parcels team", 2_300, "evening", growth=4),
        by("Parcelbird staging", new, "parcels free", 90, "office"),
        by("Checkout", new, "parcels team", 3_100, "office", growth=1.8),
        by("Night sync", old, "parcels team", 1_100, "nightly", growth=0.9, limited=0.05),
        by("Depot finder", new, "parcels free", 260, "evening", growth=1.2, limited=0.01),
        by("Depot finder", httpbin, "httpbin free", 40, "office"),
        by("Uptime probe", httpbin, "httpbin free", 1_150, "steady"),
        by("Quanta lab", httpbin, "httpbin team", 1_500, "office", growth=1.9, limited=0.02),
        by("Getting started", httpbin, "httpbin free", 45, "office", growth=1.5, limited=0.06),
        by("Getting started", new, "parcels free", 30, "office"),
        by("Load test", httpbin, "httpbin internal", 420, "office"),
        stranger(httpbin, 35, "key_missing"),
        stranger(httpbin, 12, "key_unknown"),
        stranger(new, 24, "key_missing"),
        stranger(new, 9, "key_malformed"),
    ]


def incidents(world: World, until: datetime) -> list[Incident]:
    new, old = world.versions["parcels v2"].pk, world.versions["parcels v1"].pk
    noon = until.replace(hour=17, minute=10, second=0, microsecond=0)
    return [
        Incident(new, noon - timedelta(days=11), noon - timedelta(days=11, minutes=-48), "upstream_unreachable", 0.7),
        Incident(old, noon - timedelta(days=11), noon - timedelta(days=11, minutes=-48), "upstream_unreachable", 0.7),
        Incident(new, noon - timedelta(days=4), noon - timedelta(days=4, minutes=-20), "upstream_timeout", 0.25),
    ]


def write(world: World, days: int = usage.DAYS) -> int:
    """Write and roll up the past; returns how many calls it has."""
    until = datetime.now(UTC) - timedelta(minutes=1)
    ingest.ensure_days(until - timedelta(days=days + 1), until)
    hours = usage.calls(callers(world), incidents(world, until), until=until, days=days)
    boot = int(until.timestamp() * 1000)
    stored = sum(
        ingest.write_batch(node=NODE, boot=boot, worker=0, segment=number, records=records)
        for number, records in enumerate(hours, start=1)
    )
    rollups.roll_up_all()
    return stored
