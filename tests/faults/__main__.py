"""``python -m tests.faults [--kills 50] [--reloads 100] [--outage 300] [--seed N] [fault]``: the whole, as a table.

With ``--soak 3600`` an hour of load instead, and a table of what memory did.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path

from tests.faults.catalogue import FAULTS
from tests.faults.faults import LONG
from tests.faults.host import NotHere
from tests.faults.soak import is_flat, soak, table
from tests.faults.stage import Database, Stage


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--kills", type=int, default=LONG.kills)
    parser.add_argument("--reloads", type=int, default=LONG.reloads)
    parser.add_argument("--outage", type=float, default=LONG.outage_seconds, help="seconds without a database")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    parser.add_argument("--soak", type=float, default=0.0, help="seconds of load with an eye on memory")
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS], default=[])
    given = parser.parse_args(arguments)
    scale = replace(LONG, kills=given.kills, reloads=given.reloads, outage_seconds=given.outage)
    names = given.faults or list(FAULTS)
    print(f"seed {given.seed}")
    if given.soak:
        return _soak(given.soak, random.Random(given.seed))
    failed = 0
    started = time.monotonic()
    columns = ("calls", "rows", "lost", "twice", "odd", "failed", "cut off", "p99 ms", "s")
    print(f"{'fault':36}" + "".join(f"{column:>9}" for column in columns))
    with tempfile.TemporaryDirectory(prefix="apimgr-faults-") as folder:
        database = Database(Path(folder) / "postgres")
        try:
            for name in names:
                began = time.monotonic()
                home = Path(folder) / name
                home.mkdir()
                stage = Stage(home, database)
                try:
                    verdict = FAULTS[name](stage, scale, random.Random(given.seed))
                except NotHere as reason:
                    print(f"{name:36}not run, there is no {reason}", flush=True)
                    continue
                except AssertionError as error:
                    failed += 1
                    where = traceback.extract_tb(error.__traceback__)[-1]
                    print(f"{name:36}failed: {error or where.line} ({where.name})", flush=True)
                    continue
                finally:
                    stage.close()
                numbers = (
                    verdict.lost,
                    verdict.doubled,
                    verdict.invented,
                    [*verdict.failed, *verdict.too_late, *verdict.heard_late],
                )
                lost, doubled, odd, outside = map(len, numbers)
                took = time.monotonic() - began
                print(
                    f"{name:36}{verdict.calls:9,}{verdict.rows:9,}{lost:9}{doubled:9}{odd:9}{outside:9}{verdict.cut_off:9}"
                    f"{verdict.p99_ms:9.1f}{took:9.0f}",
                    flush=True,
                )
                if not verdict.is_clean:
                    failed += 1
                    print(f"  {verdict}")
        finally:
            database.remove()
    print(f"{len(names)} faults in {time.monotonic() - started:,.0f} s, {failed} failed")
    return 1 if failed else 0


def _soak(seconds: float, chance: random.Random) -> int:
    with tempfile.TemporaryDirectory(prefix="apimgr-soak-") as folder:
        database = Database(Path(folder) / "postgres")
        try:
            home = Path(folder) / "stage"
            home.mkdir()
            stage = Stage(home, database)
            try:
                curves, verdict = soak(stage, seconds, chance)
            finally:
                stage.close()
        finally:
            database.remove()
    print(verdict)
    print(table(curves, seconds))
    return 0 if verdict.is_clean and is_flat(curves, seconds) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
