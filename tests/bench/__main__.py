"""``make bench``: every benchmark, one after the other; ``make bench ARGS="gateway 9 3"`` for one of them.

=====================  ================================================================================================
``gateway [r [s]]``    CPU, rate, latency and memory beside nginx and Envoy doing the same
``scaling [r [s]]``    1 to 10,000 operations, 1 to 1,000,000 keys, 1 to 2 workers, recording on and off
``openloop [r [s]]``   latency added at half load
``holding [n [s]]``    10,000 idle connections; bodies of 100 MB
``replica [keys]``     a million keys: first synchronisation, start, one change (wants a database)
``keys [tries]``       whether the time of a refusal tells anything of a key
``code [r]``           the gateway's own code without sockets; ``profile`` says where it goes
``rollup [events]``    the roll-up of usage
=====================  ================================================================================================

r: rounds; s: seconds each.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from tests.bench import code, gateway, holding, keys, openloop, replica, scaling
from tests.bench.measure import Unavailable

CASES: dict[str, Callable[..., None]] = {
    "gateway": gateway.run,
    "scaling": scaling.run,
    "openloop": openloop.run,
    "holding": holding.run,
    "replica": replica.run,
    "code": code.run,
    "keys": keys.run,
    "profile": code.profile,
}


def main(arguments: list[str]) -> int:
    which, *numbers = arguments or ["all"]
    if which not in {"all", "rollup", *CASES}:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        for name, case in CASES.items():
            if which == name or (which == "all" and name != "profile"):
                case(*map(int, numbers))
    except Unavailable as error:
        print(f"The gateway was not measured: {error}", file=sys.stderr)
        return 1
    if which in {"all", "rollup"}:
        # A process of its own: it wants Django and a database.
        return subprocess.run([sys.executable, "-m", "tests.bench.rollup", *numbers], check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
