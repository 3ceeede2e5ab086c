"""The gateway against nginx and Envoy doing the same, in one run: who needs how much CPU for a call.

Each is pinned to one core; load and upstream have the rest. Rounds alternate, so that a busy machine is unfair to all
alike, and ratios are medians over the rounds of one run, each round against the peers' of the same turn. CPU is utime +
stime of a gateway's processes over the calls they answered.
"""

from __future__ import annotations

import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from proxy.dataplane.compiled import is_in_use
from tests.bench import peers
from tests.bench.figures import Figure
from tests.bench.measure import (
    CONNECTIONS,
    Contestant,
    Round,
    Unavailable,
    load_script,
    measure,
    require,
    split_cores,
)
from tests.bench.world import BODY, USUAL, make_keys


def run(rounds: int = 5, seconds: int = 3) -> list[Figure]:
    """Measure and print the table. Without Envoy's wheel the comparison is with nginx alone, and says so."""
    require("nginx", "wrk", "taskset")
    core, others = split_cores()
    keys = make_keys(USUAL.keys)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        upstream = stack.enter_context(peers.nginx(home / "upstream", peers.upstream_config, others)).port
        contestants = [
            stack.enter_context(
                peers.nginx(home / "nginx", lambda port: peers.gateway_config(port, upstream, keys), core)
            )
        ]
        try:
            contestants.append(stack.enter_context(peers.envoy(home / "envoy", upstream, keys, core)))
        except Unavailable as error:
            print(error, file=sys.stderr)
        contestants.append(stack.enter_context(peers.apimgr(home / "apimgr", upstream, keys, core)))
        if is_in_use():
            as_python = peers.apimgr(home / "as-python", upstream, keys, core, compiled=False)
            contestants.append(stack.enter_context(as_python))
        else:
            print("The gateway is not compiled here: `make compiled`", file=sys.stderr)
        calls = [(f"/api{n}/v1/items/{n}", key) for n, key in enumerate(keys)]
        script = load_script(home / "load.lua", calls)
        for contestant in contestants:
            _check(contestant, keys)
            measure(contestant, script, others, 1)
        results: dict[str, list[Round]] = {contestant.name: [] for contestant in contestants}
        for _ in range(rounds):
            for contestant in contestants:
                results[contestant.name].append(measure(contestant, script, others, seconds))
    _print(results)
    figures = [Figure("CPU per call", median(entry.cpu_us for entry in results["apimgr"]), "µs", 65)]
    for name, most in (("nginx", 2.0), ("Envoy", 0.5)):
        if name in results:
            figures.append(Figure(f"CPU per call against {name}'s", ratio(results, "apimgr", name), "×", most))
    return figures


def _check(contestant: Contestant, keys: list[str]) -> None:
    url = f"http://127.0.0.1:{contestant.port}/api7/v1/items/7"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-Api-Key": keys[3]}), timeout=5) as reply:
        assert reply.read().decode() == BODY, f"{contestant.name} does not relay"
    status = _status(url)
    assert status == 401, f"{contestant.name} answers {status} to a call without a key"


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def ratio(results: dict[str, list[Round]], name: str, base: str) -> float:
    """How many times the CPU of ``base`` a call costs at ``name``: the median of the rounds' own ratios."""
    pairs = zip(results[name], results[base], strict=True)
    return median(mine.cpu_us / theirs.cpu_us for mine, theirs in pairs)


def _print(results: dict[str, list[Round]]) -> None:
    print(f"\n1 KB JSON, {CONNECTIONS} kept connections, {USUAL.routes} routes, {USUAL.keys} keys, limits, a record of")
    print("each call; each gateway on one core, rounds alternating, medians:\n")
    columns = (("CPU µs/call", 13), ("calls/s", 11), ("p50 ms", 9), ("p99 ms", 9), ("RSS MB", 9), ("kernel", 9))
    others = [name for name in results if name in ("nginx", "Envoy")]
    print(
        " " * 10
        + "".join(f"{title:>{width}}" for title, width in columns)
        + "".join(f"{'× ' + name:>10}" for name in others)
        + "   CPU µs of each round"
    )
    for name, entries in results.items():
        cpu, rate, p50, p99, rss, kernel = (
            median(getattr(entry, part) for entry in entries)
            for part in ("cpu_us", "rate", "p50_ms", "p99_ms", "rss_mb", "in_kernel")
        )
        ratios = "".join(f"{ratio(results, name, other):10.2f}" for other in others)
        each = " ".join(f"{entry.cpu_us:.1f}" for entry in entries)
        print(f"{name:10}{cpu:13.1f}{rate:11,.0f}{p50:9.2f}{p99:9.2f}{rss:9.1f}{kernel:9.0%}{ratios}   {each}")
