"""What the gateway costs as there is more of everything: operations, keys, workers; and what recording and the sharing
of limits between hosts cost.

Each case runs beside the usual size in the same run, rounds alternating. The rate is that of one core, a second over
the CPU of a call, because on a small machine load and upstream take what workers could use. Of time that
workers wait for each other it says nothing; so the calls that were answered in a second by the clock stand beside it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench import peers
from tests.bench.figures import Figure
from tests.bench.measure import CONNECTIONS, Contestant, Round, load_script, measure, require, split_cores
from tests.bench.world import USUAL, Size, calls, make_keys, prefixes
from tests.redis_server import RedisServer

MANY_OPERATIONS = Size(operations=10_000)
MANY_KEYS = Size(operations=10_000, keys=1_000_000)
# What is called of a million keys: as many as a busy minute may bring, and no more than a worker keeps compiled.
HOT_KEYS = 10_000
HOT = Size(operations=10_000, keys=HOT_KEYS)

Case = tuple[str, AbstractContextManager[tuple[Contestant, Path]]]


def run(rounds: int = 5, seconds: int = 3) -> list[Figure]:
    """Measure and print, a table for each: size, nginx's size, recording, shared limits, workers."""
    require("nginx", "wrk", "taskset")
    with ExitStack() as stack:
        home, port = stack.enter_context(_upstream())
        _, _, operations, keys = _compare(
            "one operation and one key against many",
            [
                ("1 operation, 1 key", _contestant(home / "one", port, Size(1, 1, 1))),
                ("500 operations, 100 keys", _contestant(home / "usual", port, USUAL)),
                ("10,000 operations, 100 keys", _contestant(home / "operations", port, MANY_OPERATIONS)),
                ("10,000 operations, 1,000,000 keys", _contestant(home / "keys", port, MANY_KEYS)),
            ],
            rounds,
            seconds,
        )
        _compare(
            "nginx as it has more to tell apart",
            [
                ("1 location, 1 key", _nginx(home / "nginx-one", port, Size(1, 1, 1))),
                ("10,000 operations, 100 keys", _nginx(home / "nginx-operations", port, MANY_OPERATIONS)),
                ("10,000 operations, 10,000 keys", _nginx(home / "nginx-keys", port, HOT)),
            ],
            rounds,
            seconds,
        )
        _, recorded = _compare(
            "with and without a usage record of each call",
            [
                ("not recorded", _contestant(home / "silent", port, USUAL, recording=False)),
                ("recorded", _contestant(home / "recorded", port, USUAL)),
            ],
            rounds,
            seconds,
        )
        redis = stack.enter_context(closing(RedisServer(home / "redis")))
        _compare(
            "limits counted by this host and shared by Redis (whole node on all cores, one worker charged)",
            [
                ("this host", _node(home / "local", port, 1)),
                ("shared", _node(home / "shared", port, 1, limits_url=redis.url)),
            ],
            rounds,
            seconds,
        )
        _, workers = _compare(
            "workers of one node (whole node on all cores; capacity is workers over the CPU of a call)",
            [(f"{workers} workers", _node(home / f"node{workers}", port, workers)) for workers in (1, 2)],
            rounds,
            seconds,
            workers=(1, 2),
        )
    return [
        Figure("rate at 10,000 operations against 1 of everything", operations.rate, "×", 0.95, at_least=True),
        Figure("rate at 1,000,000 keys, 10,000 calling", keys.rate, "×", 0.95, at_least=True),
        Figure("worker's memory at 1,000,000 keys", keys.rss_mb, "MB", 80),
        Figure("recording a call", recorded.more_us, "µs", 4),
        Figure("2 workers against 1, by CPU per call", workers.rate, "×", 1.8, at_least=True),
    ]


@contextmanager
def _upstream() -> Iterator[tuple[Path, int]]:
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="apimgr-bench-")))
        home.chmod(0o755)
        _, others = split_cores()
        yield home, stack.enter_context(peers.nginx(home / "upstream", peers.upstream_config, others)).port


@contextmanager
def _contestant(home: Path, port: int, size: Size, *, recording: bool = True) -> Iterator[tuple[Contestant, Path]]:
    core, _ = split_cores()
    keys = make_keys(size.keys)
    with peers.apimgr(home, port, keys, core, size=size, recording=recording) as contestant:
        called = keys[:: max(1, size.keys // HOT_KEYS)]
        yield contestant, load_script(home / "load.lua", calls(size, called, HOT_KEYS))


@contextmanager
def _nginx(home: Path, port: int, size: Size) -> Iterator[tuple[Contestant, Path]]:
    """Beside us: how much of what more costs is the machine's, whose caches more does not fit into."""
    core, _ = split_cores()
    keys = make_keys(size.keys)

    def config(own_port: int) -> str:
        return peers.gateway_config(own_port, port, keys, prefixes(size))

    with peers.nginx(home, config, core) as contestant:
        yield contestant, load_script(home / "load.lua", calls(size, keys, HOT_KEYS))


@contextmanager
def _node(home: Path, port: int, workers: int, *, limits_url: str = "local") -> Iterator[tuple[Contestant, Path]]:
    keys = make_keys(USUAL.keys)
    cores = ",".join(split_cores())
    with peers.apimgr_node(home, port, keys, cores, workers, limits_url=limits_url) as contestant:
        yield contestant, load_script(home / "load.lua", calls(USUAL, keys))


class Compared(NamedTuple):
    """A case beside the first one of its table: medians of the rounds, and of what each round has more than that one's.

    ``rate`` is how many times as many calls.
    """

    cpu_us: float
    p50_ms: float
    p99_ms: float
    rss_mb: float  # of each worker
    rate: float
    more_us: float
    calls_s: float  # by the clock


def _compare(title: str, cases: list[Case], rounds: int, seconds: int, workers: tuple[int, ...] = ()) -> list[Compared]:
    _, others = split_cores()
    results: list[list[Round]] = [[] for _ in cases]
    with ExitStack() as stack:
        running = [stack.enter_context(case) for _, case in cases]
        for contestant, script in running:
            _warm(contestant, script, others)
        for _ in range(rounds):
            for entries, (contestant, script) in zip(results, running, strict=True):
                entries.append(measure(contestant, script, others, seconds))
    print(f"\n{title}; {CONNECTIONS} connections, medians of {rounds} rounds:\n")
    print(f"{'':36}{'CPU µs/call':>13}{'p50 ms':>9}{'p99 ms':>9}{'RSS MB':>9}{'rate':>9}{'calls/s':>10}")
    compared = [
        _beside(results[0], entries, count)
        for entries, count in zip(results, workers or (1,) * len(cases), strict=True)
    ]
    for (name, _), one in zip(cases, compared, strict=True):
        print(
            f"{name:36}{one.cpu_us:13.1f}{one.p50_ms:9.2f}{one.p99_ms:9.2f}{one.rss_mb:9.1f}{one.rate:9.2f}"
            f"{one.calls_s:10,.0f}"
        )
    return compared


def _warm(contestant: Contestant, script: Path, others: str) -> None:
    """Have each call made at least once: what a key's first call costs is not what is compared."""
    made = 0.0
    while made < 1.5 * HOT_KEYS:
        made += measure(contestant, script, others, 2).rate * 2


def _beside(first: list[Round], entries: list[Round], workers: int) -> Compared:
    cpu, p50, p99, rss, calls_s = (
        median(getattr(entry, part) for entry in entries) for part in ("cpu_us", "p50_ms", "p99_ms", "rss_mb", "rate")
    )
    pairs = list(zip(first, entries, strict=True))
    rate = median(workers * base.cpu_us / mine.cpu_us for base, mine in pairs)
    more = median(mine.cpu_us - base.cpu_us for base, mine in pairs)
    return Compared(cpu, p50, p99, rss / workers, rate, more, calls_s)
