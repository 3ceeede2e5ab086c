"""The node's counts as Prometheus text (exposition format 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from apimgr.contracts.outcomes import BY_NUMBER
from proxy.dataplane.config import software_version
from proxy.dataplane.heartbeat import Counters
from proxy.dataplane.stats import Snapshot

_HELP: Final = {
    "generated": ("counter", "Usage records that calls gave rise to."),
    "spooled": ("counter", "Usage records that were written to the spool."),
    "acknowledged": ("counter", "Usage records of this boot that the database holds."),
    "stored": ("counter", "Usage records of this boot that the database counts in its ledger."),
    "rolled_up": ("counter", "Usage records of this boot that are in the counts of the dashboards."),
    "in_flight": ("gauge", "Calls under way: generated, and not spooled yet."),
    "cut_off": ("counter", "Usage records of calls whose process was killed under way."),
    "missing": ("gauge", "Usage records that were spooled and that a pass over the spool did not find."),
    "unrecorded": ("counter", "Usage records that the spool did not take."),
    "ungranted": ("counter", "Calls that passed a limit of several hosts without a grant."),
    "quarantined": ("counter", "Usage records that the database refused and that were set aside."),
    "set_aside_bytes": ("counter", "Bytes of the spool that could not be read and were set aside."),
    "spool_bytes": ("gauge", "Bytes the spool holds."),
    "rejected_documents": ("counter", "Configuration documents this node did not understand."),
}


def exposition(
    counters: Counters,
    workers: Iterable[Snapshot],
    ends: Mapping[tuple[str, str], int],
    sequence: int,
    *,
    age: float,
    ready: bool,
) -> str:
    """``age`` is in seconds: how long ago the configuration was last known to be up to date."""
    lines: list[str] = []
    for name, (kind, sentence) in _HELP.items():
        suffix = "_total" if kind == "counter" else ""
        lines += _metric(f"{name}{suffix}", kind, sentence, [("", getattr(counters, name))])
    if counters.limits:
        sentence = "Whether grants are to be had for limits that hosts share."
        lines += _metric("limits_shared", "gauge", sentence, [("", int(counters.limits == "shared"))])
    snapshots = list(workers)
    build = f'{{version="{software_version()}"}}'
    lines += _metric("build_info", "gauge", "What runs, in a label.", [(build, 1)])
    lines += _metric("ready", "gauge", "Whether the node has a configuration to serve.", [("", int(ready))])
    lines += _metric("applied_sequence", "gauge", "The last change that this node enforces.", [("", sequence)])
    sentence = "Seconds since the configuration was last known to be up to date."
    lines += _metric("configuration_age_seconds", "gauge", sentence, [("", round(age))])
    sentence = "Processes that were started again because they had ended, or were killed for standing still."
    lines += _metric("restarts_total", "counter", sentence, _by_cause(ends))
    lines += _metric("requests_total", "counter", "Calls by outcome.", _by_outcome(snapshots))
    lines += _metric("connections", "gauge", "Open connections of callers.", _by_worker(snapshots, "connections"))
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, sentence: str, samples: Iterable[tuple[str, int]]) -> Iterator[str]:
    yield f"# HELP apimgr_gateway_{name} {sentence}"
    yield f"# TYPE apimgr_gateway_{name} {kind}"
    for labels, value in samples:
        yield f"apimgr_gateway_{name}{labels} {value}"


def _by_cause(ends: Mapping[tuple[str, str], int]) -> Iterator[tuple[str, int]]:
    for (role, cause), count in ends.items():
        yield f'{{role="{role}",cause="{cause}"}}', count


def _by_worker(workers: list[Snapshot], count: str) -> Iterator[tuple[str, int]]:
    for worker in workers:
        yield f'{{worker="{worker.worker}"}}', worker.counts[count]


def _by_outcome(workers: list[Snapshot]) -> Iterator[tuple[str, int]]:
    for worker in workers:
        for number, count in sorted(worker.outcomes.items()):
            code = BY_NUMBER[number].code if number in BY_NUMBER else str(number)
            yield f'{{worker="{worker.worker}",outcome="{code}"}}', count
