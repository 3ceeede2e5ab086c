"""``make bench``: every benchmark, one after the other.

``python -m tests.bench gateway [rounds [seconds]]``, ``... code [rounds]``, ``... profile`` and ``... rollup [events]``
run one.
"""

from __future__ import annotations

import subprocess
import sys

from tests.bench import code, gateway


def main(arguments: list[str]) -> int:
    which = arguments[0] if arguments else "all"
    if which in {"all", "gateway"}:
        try:
            gateway.run(*map(int, arguments[1:3]))
        except gateway.Unavailable as error:
            print(f"The gateway was not measured: {error}", file=sys.stderr)
            return 1
    if which in {"all", "code"}:
        code.run(*map(int, arguments[1:2]))
    if which == "profile":
        code.profile()
    if which in {"all", "rollup"}:
        # A process of its own: it wants Django and a database.
        return subprocess.run([sys.executable, "-m", "tests.bench.rollup", *arguments[1:]], check=False).returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
