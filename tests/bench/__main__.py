"""``make bench``: every benchmark, one after the other; ``make bench ARGS="gateway 9 3"`` for one of them.

=========================  ============================================================================================
``gateway [r [s]]``        CPU, rate, latency and memory beside nginx and Envoy doing the same
``scaling [r [s]]``        1 to 10,000 operations, 1 to 1,000,000 keys, 1 to 2 workers; recording, sharing of limits
``openloop [r [s]]``       latency added at half load
``holding [idle [s]]``     10,000 idle and 5,000 slow connections; bodies of 100 MB up and down
``replica [keys]``         a million keys: first synchronisation, start, one change (wants a database)
``enforcement [trials]``   from a revocation to the refusal, and from a call to its row (wants a database)
``grants [r]``             limits that hosts share: first grants a second of one agent
``keys [tries]``           whether the time of a refusal tells anything of a key
``code [r]``               the gateway's own code, without sockets
``profile``                where that goes, by function; not among all of them
``rollup [events]``        the roll-up of usage (wants a database)
=========================  ============================================================================================

r: rounds; s: seconds each. Last comes a table of what was measured beside what was aimed at. All of it takes about 20
minutes, needs nobody, and is written to ``report.txt`` in ``APIMGR_VAR`` as well; a case that fails does not end it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from io import TextIOBase
from pathlib import Path
from typing import TextIO

import tests.bench.compiled  # isort: skip  (first: it says what is imported)  # noqa: F401

from tests.bench import code, gateway, grants, holding, keys, openloop, replica, scaling
from tests.bench.figures import Figure, print_figures
from tests.bench.measure import Unavailable


def _enforcement(*numbers: int) -> list[Figure]:
    from tests.bench import enforcement  # only here: it sets Django up

    return enforcement.run(*numbers)


def _rollup(*numbers: int) -> list[Figure]:
    # A process of its own: it is to have the database session, and the processor, to itself.
    command = [sys.executable, "-m", "tests.bench.rollup", *map(str, numbers)]
    print("\n" + subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    return []


CASES: dict[str, Callable[..., list[Figure]]] = {
    "gateway": gateway.run,
    "scaling": scaling.run,
    "openloop": openloop.run,
    "holding": holding.run,
    "replica": replica.run,
    "enforcement": _enforcement,
    "grants": grants.run,
    "keys": keys.run,
    "code": code.run,
    "profile": code.profile,
    "rollup": _rollup,
}


class _Both(TextIOBase):
    """Writes to two places, and at once: whoever waits may look."""

    def __init__(self, *places: TextIO) -> None:
        self._places = places

    def write(self, text: str) -> int:
        for place in self._places:
            place.write(text)
            place.flush()
        return len(text)


def _run(names: list[str], numbers: list[int]) -> bool:
    figures: list[Figure] = []
    failed: list[str] = []
    for name in names:
        try:
            figures += CASES[name](*numbers)
        except Unavailable as error:
            failed.append(name)
            print(f"\n{name} was not measured: {error}")
        except Exception:
            failed.append(name)
            print(f"\n{name} failed:\n{traceback.format_exc()}")
    if figures or failed:
        print_figures(figures, failed)
    return not failed


def main(arguments: list[str]) -> int:
    which, *numbers = arguments or ["all"]
    if which not in {"all", *CASES} or not all(number.isdecimal() for number in numbers):
        print(__doc__, file=sys.stderr)
        return 2
    if which != "all":
        return 0 if _run([which], [*map(int, numbers)]) else 1
    report = Path(os.environ.get("APIMGR_VAR", "var/bench")) / "report.txt"
    report.parent.mkdir(parents=True, exist_ok=True)
    with report.open("w") as file, redirect_stdout(_Both(sys.stdout, file)):
        whole = _run([name for name in CASES if name != "profile"], [])
    print(f"\nwritten to {report}")
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
