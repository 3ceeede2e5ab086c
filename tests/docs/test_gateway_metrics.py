"""The table of a gateway's metrics is the exporting code's own: nothing is missing, nothing is made up."""

from __future__ import annotations

import re

from apimgr.env import BASE_DIR
from proxy.dataplane.heartbeat import Counters
from proxy.dataplane.metrics import exposition
from proxy.dataplane.stats import ENDS, NAMES, Snapshot

DOCS = BASE_DIR / "docs"
Metric = tuple[str, str, tuple[str, ...]]
ROW = re.compile(r"^\| `([a-z_]+)` \| (counter|gauge) \| ([^|]*)\| ([^|]+) \|", re.MULTILINE)


def exported() -> set[Metric]:
    """Of a node that has everything to tell: name, type and labels."""
    worker = Snapshot(0, dict.fromkeys(NAMES, 1), {0: 1})
    text = exposition(Counters(limits="shared"), [worker], dict.fromkeys(ENDS, 1), 1, age=0, ready=True)
    types = dict(re.findall(r"^# TYPE apimgr_gateway_(\S+) (\S+)$", text, re.MULTILINE))
    samples = re.findall(r"^apimgr_gateway_([a-z_]+)(?:\{(.*)\})? \d+$", text, re.MULTILINE)
    assert {name for name, _ in samples} == set(types), "each has a sample"
    return {(name, types[name], tuple(re.findall(r'(\w+)="', labels))) for name, labels in samples}


def documented() -> set[Metric]:
    rows = ROW.findall((DOCS / "reference" / "gateway-metrics.md").read_text())
    assert all(len(what.split()) > 3 for *_, what in rows), "each says something"
    return {(name, kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels, _ in rows}


def test_every_metric_is_documented_as_it_is_exported() -> None:
    assert documented() == exported()


def test_each_counter_of_the_books_is_exported_or_no_number() -> None:
    names = {name.removesuffix("_total") for name, *_ in exported()}
    assert set(Counters.__dataclass_fields__) - names == {"limits", "shipped_until"}


def test_an_operator_finds_the_table_and_is_told_of_no_other_metric() -> None:
    known = {name for name, *_ in exported()}
    guide = (DOCS / "how-to" / "run-in-production.md").read_text()
    assert "(../reference/gateway-metrics.md)" in guide
    watched = guide.partition("| metric | when | means |")[2].partition("\n\n")[0]
    named = {name for row in watched.splitlines() for name in re.findall(r"`([a-z_]+)`", "|".join(row.split("|")[:2]))}
    assert named
    assert named <= known
    everywhere = {name for path in DOCS.rglob("*.md") for name in re.findall(r"apimgr_gateway_(\w+)", path.read_text())}
    assert everywhere - {""} <= known
